//! `icecore device show`: everything known of one device.

use std::io::Write;

use anyhow::bail;
use icecore_ingest::Enrolment;
use icecore_state::DeviceLedger;
use icecore_wire::DeviceName;

use super::{ledger, registry};
use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table, count, counted};

pub(super) fn run(name: &DeviceName, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let enrolment = registry(config)?.lookup(name.as_str());
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
    match data {
        Some(data) => write_data(data, out),
        None => Ok(writeln!(out, "  no events yet")?),
    }
}

fn write_enrolment(enrolment: &Enrolment, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "  {} since {}", enrolment.role.as_str(), display_seconds(enrolment.enrolled_time))?;
    if let Some(time) = enrolment.revoked_time {
        writeln!(out, "  revoked {}", display_seconds(time))?;
    }
    if !enrolment.grants.is_empty() {
        writeln!(out, "  may write for {}", enrolment.grants.join(", "))?;
    }
    for (key, value) in &enrolment.labels {
        writeln!(out, "  label {key}={value}")?;
    }
    writeln!(out, "  certificate {}", enrolment.certificate)?;
    Ok(())
}

fn write_data(data: &DeviceLedger, out: &mut impl Write) -> anyhow::Result<()> {
    let [first, last] = [data.first_received(), data.last_received()].map(display_seconds);
    writeln!(out, "  {}, received {first} to {last}", counted(data.events(), "event"))?;
    writeln!(out)?;
    let mut table = Table::new(&[
        ("epoch", Align::Right),
        ("id", Align::Left),
        ("next sequence", Align::Right),
        ("stored", Align::Right),
        ("refused", Align::Right),
        ("dropped", Align::Right),
        ("missing", Align::Right),
    ]);
    for epoch in data.epochs() {
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
    table.write(out)?;
    Ok(())
}
