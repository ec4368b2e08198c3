//! `icecore device show`: everything known of one device.

use std::io::Write;

use anyhow::{Context, bail};
use icecore_ingest::{Enrolment, conflicts, quarantined};
use icecore_state::DeviceLedger;
use icecore_wire::DeviceName;

use super::{ledger, registry};
use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table, count, counted};

/// Conflicts that are listed; the others are counted.
const MOST_CONFLICTS: usize = 10;

pub(super) fn run(name: &DeviceName, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let registry = registry(config)?;
    let enrolment = registry.lookup(name.as_str());
    let ledger = ledger(&config.data.dir)?;
    let data = ledger.device(name);
    if enrolment.is_none() && data.is_none() {
        bail!("{name} is not enrolled and has no events; `icecore device list` shows what there is");
    }
    writeln!(out, "{name}")?;
    match &enrolment {
        Some(enrolment) => write_enrolment(enrolment, out)?,
        None => writeln!(out, "  not enrolled itself: its events came through a gateway")?,
    }
    for (key, value) in registry.labels().now(name.as_str()).into_iter().flatten() {
        writeln!(out, "  label {key}={value}")?;
    }
    match data {
        Some(data) => write_data(data, out)?,
        None => writeln!(out, "  no events yet")?,
    }
    write_trouble(name, config, out)
}

/// What of it was refused and kept, and its conflicts.
fn write_trouble(name: &DeviceName, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let directory = config.data.dir.join("quarantine");
    let cannot_read = || format!("cannot read {}", directory.display());
    let batches = quarantined(&config.data.dir, name).with_context(cannot_read)? as u64;
    if batches > 0 {
        let batches = match batches {
            1 => "1 refused batch is".to_owned(),
            _ => format!("{} refused batches are", count(batches)),
        };
        writeln!(out, "\n  {batches} kept in {}", directory.display())?;
    }
    let conflicts = conflicts(&config.data.dir, name.as_str()).with_context(cannot_read)?;
    if conflicts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  conflicts, the newest first:")?;
    for conflict in conflicts.iter().take(MOST_CONFLICTS) {
        let times = match conflict.count {
            1 => String::new(),
            more => format!(" ({} times)", count(more)),
        };
        let epoch = conflict.epoch.as_ref().map(|epoch| format!(" epoch {epoch}")).unwrap_or_default();
        let (time, code) = (display_seconds(conflict.time), &conflict.code);
        writeln!(out, "  {time} {code}{times}{epoch}: {}", conflict.message)?;
    }
    if let more @ 1.. = conflicts.len().saturating_sub(MOST_CONFLICTS) {
        writeln!(
            out,
            "  and {} more in {}",
            count(more as u64),
            directory.join("conflicts.jsonl").display()
        )?;
    }
    Ok(())
}

fn write_enrolment(enrolment: &Enrolment, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "  {} since {}", enrolment.role.as_str(), display_seconds(enrolment.enrolled_time))?;
    if let Some(time) = enrolment.revoked_time {
        writeln!(out, "  revoked {}", display_seconds(time))?;
    }
    if !enrolment.grants.is_empty() {
        writeln!(out, "  may write for {}", enrolment.grants.join(", "))?;
    }
    writeln!(out, "  certificate {}", enrolment.certificate)?;
    Ok(())
}

fn write_data(data: &DeviceLedger, out: &mut impl Write) -> anyhow::Result<()> {
    let [first, last] = [data.first_received(), data.last_received()].map(display_seconds);
    writeln!(out, "  {}, received {first} to {last}", counted(data.events(), "event"))?;
    writeln!(out)?;
    epochs(data).write(out)?;
    Ok(())
}

/// What is settled of each epoch, in numbers.
pub(crate) fn epochs(data: &DeviceLedger) -> Table {
    let mut table = Table::new(&[
        ("epoch", Align::Right),
        ("id", Align::Left),
        ("next sequence", Align::Right),
        ("stored", Align::Right),
        ("refused", Align::Right),
        ("dropped", Align::Right),
        ("missing", Align::Right),
    ]);
    for epoch in data.device_epochs() {
        table.row([
            epoch.number().to_string(),
            epoch.epoch().to_string(),
            count(epoch.next()),
            count(epoch.stored().count()),
            count(epoch.refused().count()),
            count(epoch.dropped().count()),
            count(epoch.missing().count()),
        ]);
    }
    table
}
