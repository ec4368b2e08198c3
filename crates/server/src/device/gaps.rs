//! `icecore device gaps`: which sequences are not stored, and why.

use std::io::Write;
use std::ops::Range;

use anyhow::Context;
use icecore_wire::DeviceName;

use super::ledger;
use crate::config::Config;
use crate::table::{Align, Table, count, counted};

pub(super) fn run(name: &DeviceName, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let ledger = ledger(&config.data.dir)?;
    let device = ledger.device(name).with_context(|| format!("nothing was ever received of {name}"))?;
    let mut table = Table::new(&[
        ("epoch", Align::Right),
        ("sequences", Align::Left),
        ("events", Align::Right),
        ("gap", Align::Left),
    ]);
    for epoch in device.device_epochs() {
        let mut gaps: Vec<(Range<u64>, String)> = Vec::new();
        gaps.extend(epoch.missing().iter().map(|range| (range, "missing".to_owned())));
        gaps.extend(epoch.dropped().iter().map(|range| (range, "dropped by the device".to_owned())));
        let refused = epoch.refused().iter();
        gaps.extend(
            refused.map(|refused| (refused.range.clone(), format!("refused: {}", refused.code.name()))),
        );
        gaps.sort_by_key(|(range, _)| range.start);
        for (range, gap) in gaps {
            let sequences = format!("{}..{}", range.start, range.end);
            table.row([epoch.number().to_string(), sequences, count(range.end - range.start), gap]);
        }
    }
    if table.is_empty() {
        let (events, epochs) =
            (counted(device.events(), "event"), counted(device.device_epochs().count() as u64, "epoch"));
        writeln!(out, "no gaps: {events} of {epochs}, every sequence stored")?;
    } else {
        table.write(out)?;
    }
    Ok(())
}
