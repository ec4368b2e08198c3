//! Group-bys in SQL over sealed segments, beside DuckDB over the Parquet export of the same rows.
//!
//! `cargo run --release -p icecore-benches --bin sql -- [EVENTS [DIRECTORY]]`: three numeric fields, a hundred devices. `ICECORE_PANDAS` names
//! a Python with DuckDB (`.ci/pandas.txt`). Both use all processors and have read the files once before; what is quoted is the median of
//! five. The log is made in a temporary directory (in DIRECTORY, or that of the system), which goes in the end.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use icecore_benches::sealed_log;
use icecore_replay::{HiveExport, Query, Replay};
use icecore_sql::{Database, Format, Opened, Output, Settings};
use serde_json::Value;

const QUERIES: [(&str, &str); 3] = [
    ("avg by device", "SELECT device, avg(temperature) FROM machine GROUP BY device"),
    (
        "avg by hour",
        "SELECT time_bucket(INTERVAL '1 hour', event_time) AS hour, avg(temperature) FROM machine GROUP BY hour",
    ),
    (
        "avg by device and hour of one in four",
        "SELECT device || date_trunc('hour', event_time)::text AS at, avg(vibration) FROM machine WHERE temperature >= 43 GROUP BY device, date_trunc('hour', event_time)",
    ),
];
const DUCKDB: &str = include_str!("duckdb.py");

/// How long a query took, in seconds, and its rows: a name and a number.
struct Timed {
    seconds: f64,
    rows: Vec<(String, f64)>,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events =
        arguments.next().map_or(Ok(10_000_000), |events| events.parse()).context("EVENTS is a number")?;
    let directory = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let (data, lake) = (directory.path().join("data"), directory.path().join("lake"));
    sealed_log::write(&data, events)?;
    let replay = Replay::open(&data)?;
    let export = HiveExport { query: Query::default(), by_device: false, directory: lake.clone() };
    let exported = replay.export(&export)?;
    println!("{} events in {} Parquet files", exported.coverage.present, exported.files);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ours = runtime.block_on(icecore(&data))?;
    let theirs = duckdb(&lake)?;
    for (((name, _), ours), theirs) in QUERIES.iter().zip(&ours).zip(&theirs) {
        ensure!(
            ours.rows.len() == theirs.rows.len(),
            "{name}: {} and {} rows",
            ours.rows.len(),
            theirs.rows.len()
        );
        for (ours, theirs) in ours.rows.iter().zip(&theirs.rows) {
            ensure!((ours.1 - theirs.1).abs() <= 1e-9 * theirs.1.abs(), "{name}: {ours:?} and {theirs:?}");
        }
        println!(
            "{name}: {:.3} s, DuckDB {:.3} s: ratio {:.2} ({:.1} M events/s)",
            ours.seconds,
            theirs.seconds,
            ours.seconds / theirs.seconds,
            events as f64 / ours.seconds / 1e6
        );
    }
    Ok(())
}

async fn icecore(data: &Path) -> anyhow::Result<Vec<Timed>> {
    let data = data.to_owned();
    let open = move || Ok(Opened::new(Arc::new(Replay::open(&data)?)));
    let database = Database::new(open, Settings::default())?;
    let mut all = Vec::new();
    for (_, query) in QUERIES {
        let (mut times, mut rows) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let began = Instant::now();
            let mut answer = database.query(query).await?;
            let schema = answer.rows.schema();
            let mut text = Output::new(Format::Json, Vec::new(), &schema)?;
            while let Some(batch) = answer.rows.try_next().await? {
                text.write(&batch)?;
            }
            times.push(began.elapsed().as_secs_f64());
            rows = parsed(&String::from_utf8(text.finish()?)?)?;
        }
        all.push(Timed { seconds: median(&mut times[1..]), rows });
    }
    Ok(all)
}

fn duckdb(lake: &Path) -> anyhow::Result<Vec<Timed>> {
    let python = std::env::var("ICECORE_PANDAS").context("ICECORE_PANDAS names a Python with DuckDB")?;
    let files = lake.join("schema=machine/**/*.parquet");
    let mut child = Command::new(python)
        .args(["-c", DUCKDB])
        .arg(files)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start Python")?;
    let mut queries = child.stdin.take().context("it is piped")?;
    for (_, query) in QUERIES {
        writeln!(queries, "{query}")?;
    }
    drop(queries);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "DuckDB failed");
    let mut all = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let told: Value = serde_json::from_str(line)?;
        let rows = told["rows"].as_array().context("rows")?.iter();
        let rows = rows.map(|row| (row[0].to_string(), row[1].as_f64().unwrap_or(f64::NAN))).collect();
        all.push(Timed { seconds: told["seconds"].as_f64().context("seconds")?, rows });
    }
    Ok(all)
}

/// The rows of lines of JSON: their first two columns, by the first.
fn parsed(lines: &str) -> anyhow::Result<Vec<(String, f64)>> {
    let mut rows = Vec::new();
    for line in lines.lines() {
        let row: serde_json::Map<String, Value> = serde_json::from_str(line)?;
        let number = row.values().find_map(Value::as_f64).context("a number")?;
        let name = row.values().find(|value| value.is_string()).context("a name")?;
        rows.push((name.to_string(), number));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(rows)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
