//! `icecore replay`: events back out of a data directory, as text.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{anyhow, ensure};
use icecore_log::{Damage, LogError, OnDamage};
use icecore_replay::{Count, Csv, EventTimes, Ndjson, Order, Query, Replay, ReplayError};

use crate::cli::{ReplayArgs, ReplayFormat, ReplayOrder};

/// Writes the events to standard output, with or without a running server.
pub(crate) fn run(args: &ReplayArgs, data: &Path) -> anyhow::Result<()> {
    // An empty log is fine; a mistyped directory is not an empty log.
    ensure!(
        data.join("hot").is_dir(),
        "{} holds no log; is it the data directory of a server?",
        data.display()
    );
    let skipped = write(args, data).map_err(|error| match error {
        ReplayError::Log(LogError::Damaged(damage)) => {
            anyhow!("the log is damaged: {damage}; --skip-damaged reads around it")
        }
        error => error.into(),
    })?;
    for damage in &skipped {
        eprintln!("skipped: {damage}");
    }
    Ok(())
}

/// Returns the damage that was passed over.
fn write(args: &ReplayArgs, data: &Path) -> Result<Vec<Damage>, ReplayError> {
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
    let replay = Replay::open(data)?;
    // Unlocked: the sinks write in large pieces, and nothing else writes to it.
    let out = io::stdout();
    Ok(match args.format {
        ReplayFormat::Csv => replay.run(&query, &mut Csv::new(out, &replay.schemas(&query)?)?)?.damage,
        ReplayFormat::Ndjson => replay.run(&query, &mut Ndjson::new(out))?.damage,
        ReplayFormat::Count => {
            let count = replay.count(&query)?;
            print_count(&count).map_err(ReplayError::Output)?;
            count.damage
        }
    })
}

fn print_count(count: &Count) -> io::Result<()> {
    let Count { events, batches, devices, bytes, .. } = count;
    let count = serde_json::json!({"events": events, "batches": batches, "devices": devices, "bytes": bytes});
    writeln!(io::stdout(), "{count}")
}
