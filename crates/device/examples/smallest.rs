//! The smallest sensible device: three readings a second, a batch a minute, asleep in between. `docs/device.md` quotes its size,
//! and what the options cost.
//!
//! ```text
//! cargo build --profile device -p icecore-device --example smallest
//! target/device/examples/smallest HOST:PORT IDENTITY [BATCHES [OPTION...]]
//! ```
//!
//! It sends BATCHES of 180 events (10 unless told otherwise), one after the other, each over a connection of its own that is
//! closed when the ack is there, and prints what that cost. Options:
//!
//! - `spool=DIR`: batches survive a power cut
//! - `compressed`: batches are compressed where that pays
//! - `connected`: one connection is kept
//! - `silence=SECONDS`: it is silent for so long at the end, and what that cost is told apart

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use icecore_device::{
    BatchPolicy, ColumnType, Compression, Config, Device, Field, Identity, Kind, Level, Schema, Spool, Stats,
    Value,
};

/// A minute of three readings a second.
const ROWS: i64 = 180;

/// Some ten plain batches of them, for when the server is away.
const SPOOL_BYTES: usize = 64 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, identity, options @ ..] = &arguments[..] else {
        return Err("usage: smallest HOST:PORT IDENTITY [BATCHES [OPTION...]]".into());
    };
    let is_on = |name: &str| options.iter().any(|option| option == name);
    let value = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
    let batches: i64 = options.first().map_or(Ok(10), |batches| batches.parse())?;
    let spool = match value("spool=") {
        Some(dir) => Spool::Disk { dir: dir.into(), max_bytes: 16 * SPOOL_BYTES as u64 },
        None => Spool::Memory { max_bytes: SPOOL_BYTES },
    };
    let policy = BatchPolicy { max_rows: ROWS as usize, max_bytes: SPOOL_BYTES, max_age: None };
    let compression = if is_on("compressed") { Compression::Auto } else { Compression::Off };
    let config = Config::new(server, Identity::load(identity)?)
        .batch(policy)
        .window(SPOOL_BYTES)
        .compression(compression);
    let config = if is_on("connected") { config } else { config.on_demand(Duration::ZERO) };
    let device = Device::connect(config, spool)?;
    let mut recorder = device.recorder(Arc::new(Schema::new("tank", 1, fields())?));

    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    for n in 0..batches * ROWS {
        let time = now + n * 333_000_000;
        recorder.row(time, &[Value::F64(1.5 + n as f64 / 1e4), Value::F64(20.5), Value::I64(n)]).await?;
        if (n + 1) % ROWS == 0 {
            // Durable over there: a real device would now sleep for a minute.
            device.flush(Level::Durable, Duration::from_secs(30)).await?;
        }
    }
    let stats = device.stats();
    println!("{} events in {} batches acked", stats.events_acked, stats.batches_acked);
    print(&stats, &Stats::default());
    println!("{}", memory()?);
    if let Some(seconds) = value("silence=") {
        tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
        print(&device.stats(), &stats);
    }
    device.close(Duration::from_secs(5)).await?;
    Ok(())
}

fn fields() -> Vec<Field> {
    vec![
        Field::new("level", ColumnType::F64).with_unit("m"),
        Field::new("temperature", ColumnType::F64).with_unit("Cel"),
        Field::new("strokes", ColumnType::I64).with_kind(Kind::Counter),
    ]
}

/// What went over the network, since `before`.
fn print(stats: &Stats, before: &Stats) {
    let (datagrams, bytes) =
        (stats.datagrams_sent - before.datagrams_sent, stats.wire_bytes_sent - before.wire_bytes_sent);
    println!("{bytes} bytes sent in {datagrams} datagrams");
    let (datagrams, bytes) = (
        stats.datagrams_received - before.datagrams_received,
        stats.wire_bytes_received - before.wire_bytes_received,
    );
    println!("{bytes} bytes received in {datagrams} datagrams");
}

/// What the kernel says of this process's memory.
fn memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let wanted = |line: &&str| ["VmHWM", "RssAnon"].iter().any(|name| line.starts_with(name));
    let lines: Vec<_> = status.lines().filter(wanted).map(|line| line.replace('\t', " ")).collect();
    Ok(lines.join(", "))
}
