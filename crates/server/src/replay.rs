//! `icecore replay`: events back out of a data directory, as text.

use std::io::Write;
use std::path::Path;

use anyhow::ensure;
use icecore_log::OnDamage;
use icecore_replay::{Count, Csv, EventTimes, Ndjson, Order, Query, Replay};

use crate::cli::{ReplayArgs, ReplayFormat, ReplayOrder};

/// Writes the events to standard output, with or without a running server.
pub(crate) fn run(args: &ReplayArgs, data: &Path) -> anyhow::Result<()> {
    let query = Query {
        devices: args.device.clone(),
        schemas: args.schema.clone(),
        times: EventTimes { from: args.from, to: args.to },
        order: match args.order {
            ReplayOrder::Log => Order::Log,
            ReplayOrder::Time => Order::Time,
        },
        on_damage: if args.skip_damaged { OnDamage::Skip } else { OnDamage::Fail },
    };
    // An empty log is fine; a mistyped directory is not an empty log.
    ensure!(
        data.join("hot").is_dir(),
        "{} holds no log; is it the data directory of a server?",
        data.display()
    );
    let replay = Replay::open(data)?;
    // Unlocked: the sinks write in large pieces, and nothing else writes to it.
    let out = std::io::stdout();
    let damage = match args.format {
        ReplayFormat::Csv => replay.run(&query, &mut Csv::new(out, &replay.schemas(&query)?)?)?.damage,
        ReplayFormat::Ndjson => replay.run(&query, &mut Ndjson::new(out))?.damage,
        ReplayFormat::Count => {
            let count = replay.count(&query)?;
            print_count(&count)?;
            count.damage
        }
    };
    for damage in &damage {
        eprintln!("skipped: {damage}");
    }
    Ok(())
}

fn print_count(count: &Count) -> anyhow::Result<()> {
    let Count { events, batches, devices, bytes, .. } = count;
    let count = serde_json::json!({"events": events, "batches": batches, "devices": devices, "bytes": bytes});
    writeln!(std::io::stdout(), "{count}")?;
    Ok(())
}
