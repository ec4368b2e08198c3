//! A point query of what is in object storage only: one device, ten minutes. How much of it is fetched for that?

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use icecore_benches::sealed_log;
use icecore_replay::{DataSource, EventTimes, Query, Replay, TableScan};
use icecore_tier::segment::Copy;
use icecore_tier::store::{Place, Store, Waiting};

const MINUTES: i64 = 10;

/// Archives the log in `data` at `url`, and asks there.
pub(crate) fn measure(data: &Path, url: &str) -> anyhow::Result<()> {
    // As they are usually told to a client of S3.
    let options: BTreeMap<String, String> = std::env::vars()
        .filter_map(|(name, value)| Some((name.strip_prefix("STORE_")?.to_lowercase(), value)))
        .collect();
    let archive = Store::new("archive", Place::open("archive", url, &options)?, 0);
    let bytes = upload(data, &archive)?;
    let store = Store::new("archive", Place::open("archive", url, &options)?, 0);
    let began = Instant::now();
    let replay = DataSource::bucket(store.clone())?.open()?.replay;
    let (opened, open_requests, open_bytes) = (began.elapsed(), store.requests(), store.fetched());
    let query = query(&replay)?;
    let scan = TableScan::new(query.clone(), Arc::new(replay.table(&query)?));
    let (began, mut rows) = (Instant::now(), 0);
    replay.record_batches(&scan, &mut |batch| {
        rows += batch.num_rows();
        Ok(())
    })?;
    let (took, fetched) = (began.elapsed(), store.fetched() - open_bytes);
    ensure!(rows > 0, "the device sent something in these minutes");
    println!(
        "opened {url} in {:.0} ms: {open_requests} requests, {open_bytes} bytes of manifests and journal",
        opened.as_secs_f64() * 1e3
    );
    println!(
        "{rows} events of one device in {MINUTES} minutes: {:.0} ms, {} requests, {fetched} bytes of {bytes}, {:.2} %",
        took.as_secs_f64() * 1e3,
        store.requests() - open_requests,
        fetched as f64 * 100.0 / bytes as f64
    );
    Ok(())
}

/// One device, in the middle of the time that there is.
fn query(replay: &Replay) -> anyhow::Result<Query> {
    let times = replay.reader().sealed().map(|(_, child)| child.times.clone());
    let end = times.map(|times| *times.end()).max().context("something is sealed")?;
    let from = end / 2;
    Ok(Query {
        only: Some([sealed_log::device(sealed_log::DEVICES / 2)?].into()),
        times: EventTimes { from: Some(from), to: Some(from + MINUTES * 60 * 1_000_000_000) },
        order: icecore_replay::Order::Stored,
        ..Query::default()
    })
}

/// Puts segments and manifests where the tier worker does; returns how many bytes of segments.
fn upload(data: &Path, archive: &Store) -> anyhow::Result<u64> {
    let waiting = Waiting::new(None)?;
    let copy = Copy { store: "archive".to_owned(), class: None, verified: 0 };
    let mut bytes = 0;
    for (segment, _) in Replay::open(data)?.reader().sealed() {
        let content = fs::read(segment.file(data))?;
        bytes += content.len() as u64;
        waiting.wait(archive.put_new(&copy.object(segment), content.into()))?;
    }
    for file in fs::read_dir(data.join("manifests"))? {
        let file = file?;
        let name = file.file_name().into_string().ok().context("names are texts")?;
        waiting.wait(archive.put_new(&format!("manifests/{name}"), fs::read(file.path())?.into()))?;
    }
    Ok(bytes)
}
