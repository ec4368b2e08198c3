//! `icecore status`: one screen about the server and its disk.

pub(crate) mod disk;
mod scrape;

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use icecore_log::{LogReader, RealDisk};

use crate::config::Config;
use crate::instant::{self, display_duration, display_seconds};
use crate::table::{count, counted};
use crate::tiers;
use disk::Disk;
use scrape::Scrape;

/// Time between the two samples that rates are made of.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows what the running server reports and what the data directory holds; without a server, the latter.
pub(crate) fn run(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let rates = match Rates::sample(config) {
        Ok(rates) => Some(rates),
        Err(reason) => {
            writeln!(out, "server       down: {reason:#}")?;
            None
        }
    };
    if let Some(rates) = &rates {
        rates.write(out)?;
    }
    write_log(config, out)?;
    write_tiers(config, rates.as_ref(), out)?;
    write_disk(config, rates.as_ref(), out)
}

/// What the server counted within [`SAMPLE_INTERVAL`], per second.
struct Rates {
    readiness: String,
    events: f64,
    batches: f64,
    payload_bytes: f64,
    /// Bytes by which the log grows.
    stored_bytes: f64,
    now: Scrape,
}

impl Rates {
    fn sample(config: &Config) -> anyhow::Result<Self> {
        let http = config.listen.http;
        let (first, started) = (Scrape::metrics(http)?, Instant::now());
        thread::sleep(SAMPLE_INTERVAL);
        let now = Scrape::metrics(http)?;
        let seconds = started.elapsed().as_secs_f64();
        let rate = |name: &str| (now.value(name) - first.value(name)).max(0.0) / seconds;
        Ok(Self {
            readiness: scrape::readiness(http)?,
            events: rate("icecore_events_total"),
            batches: rate("icecore_batches_total"),
            payload_bytes: rate("icecore_payload_bytes_total"),
            stored_bytes: rate("icecore_log_stored_bytes_total"),
            now,
        })
    }

    fn write(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let whole = |value: f64| count(value.max(0.0).round() as u64);
        let total = |name: &str| whole(self.now.value(name));
        writeln!(out, "server       {}", self.readiness)?;
        writeln!(out, "connections  {}", total("icecore_connections"))?;
        writeln!(
            out,
            "ingest       {} events/s, {} batches/s, {}/s",
            whole(self.events),
            whole(self.batches),
            ByteSize::b(self.payload_bytes as u64)
        )?;
        writeln!(
            out,
            "since start  {} events, {} batches, {} came twice, {} refused",
            total("icecore_events_total"),
            total("icecore_batches_total"),
            total("icecore_duplicate_batches_total"),
            total("icecore_refused_batches_total")
        )?;
        Ok(())
    }
}

fn write_log(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let reader = LogReader::open(Arc::new(RealDisk), &config.data.dir)?;
    writeln!(out, "durable      position {}", count(reader.positions().end))?;
    Ok(())
}

/// Where sealed segments are, and which of what was received is only on this disk.
fn write_tiers(config: &Config, rates: Option<&Rates>, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(view) = tiers::catalog(config)? else { return Ok(()) };
    let (mut all, mut here, mut there, mut marked) = (0, 0, 0, 0);
    let mut oldest_here_only = i64::MAX;
    for entry in view.segments()? {
        let segment = entry?.segment;
        all += 1;
        here += if segment.local { segment.bytes } else { 0 };
        there += if segment.copies.is_empty() { 0 } else { segment.bytes };
        marked += u64::from(segment.deletion.is_some());
        if segment.copies.is_empty() {
            oldest_here_only = oldest_here_only.min(segment.received.first);
        }
    }
    writeln!(
        out,
        "sealed       {}, {} here, {} in stores, {} to be deleted",
        counted(all, "segment"),
        ByteSize::b(here),
        ByteSize::b(there),
        count(marked)
    )?;
    if oldest_here_only < i64::MAX {
        let age = Duration::from_nanos(instant::now().saturating_sub(oldest_here_only).max(0).unsigned_abs());
        let (received, age) = (display_seconds(oldest_here_only), display_duration(age));
        writeln!(out, "not archived some sealed data since {received} ({age} ago)")?;
    }
    let Some(Rates { now, .. }) = rates else { return Ok(()) };
    if now.value("icecore_store_resting") > 0.0 {
        let lasts = match now.value("icecore_disk_hours_left") {
            hours if hours >= 0.0 => format!("the disk lasts for {hours:.1} h at this rate"),
            _ => "the disk does not fill now".to_owned(),
        };
        writeln!(out, "stores       at least one does not answer; {lasts}")?;
    }
    Ok(())
}

fn write_disk(config: &Config, rates: Option<&Rates>, out: &mut impl Write) -> anyhow::Result<()> {
    let disk = Disk::of(&config.data.dir)?;
    let (used, free) = (ByteSize::b(disk.used), ByteSize::b(disk.free));
    let data = config.data.dir.display();
    writeln!(
        out,
        "disk         {used} used by {data}, {free} free, {} kept in reserve",
        config.data.reserve
    )?;
    let usable = disk.free.saturating_sub(config.data.reserve.as_u64());
    match rates {
        Some(rates) if rates.stored_bytes >= 1.0 => {
            let left =
                Duration::try_from_secs_f64(usable as f64 / rates.stored_bytes).unwrap_or(Duration::MAX);
            let growth = ByteSize::b(rates.stored_bytes as u64);
            writeln!(out, "full in      {} at {growth}/s", display_duration(left))?;
        }
        Some(_) => writeln!(out, "full in      nothing is being written now")?,
        None => {}
    }
    Ok(())
}
