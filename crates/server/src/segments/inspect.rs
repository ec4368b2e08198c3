//! `icecore segments inspect`: what one segment holds.

use std::io::Write;

use anyhow::Context;
use bytesize::ByteSize;
use icecore_log::SegmentId;
use icecore_log::sealed::SealedSummary;

use super::{all, hex, list, open};
use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table, count};

pub(super) fn run(id: SegmentId, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let known = all(config)?.remove(&id);
    let segment = open(id, known.as_ref(), config)?.with_context(|| match &known {
        Some(known) => format!("segment {id} has no local file, and no store has it: {}", known.place()),
        None => format!("there is no segment {id}"),
    })?;
    let summary = segment.summary();
    tell(summary, out)?;
    if let Some(known) = &known {
        writeln!(out, "where      {}", known.place())?;
        if let Some(decided) = known.entry.as_ref().map(list::decided).filter(|decided| !decided.is_empty()) {
            writeln!(out, "decided    {decided}")?;
        }
        for share in known.entry.iter().flat_map(|entry| &entry.segment.shares) {
            writeln!(out, "policy     {}: {} events", share.policy, count(share.rows))?;
        }
    }
    writeln!(out)?;
    Ok(runs(summary).write(out)?)
}

fn tell(summary: &SealedSummary, out: &mut impl Write) -> anyhow::Result<()> {
    let SealedSummary { root, bytes, rows, batches, positions, times, received, .. } = summary;
    let size = ByteSize::b(*bytes).display().si();
    let per_event = *bytes as f64 / (*rows).max(1) as f64;
    writeln!(out, "events     {} in {} batches", count(*rows), count(*batches))?;
    writeln!(out, "size       {size}, {per_event:.2} bytes an event")?;
    writeln!(out, "positions  {} to {}", positions.start, positions.end)?;
    let between = |first, last| format!("{} to {}", display_seconds(first), display_seconds(last));
    writeln!(out, "received   {}", between(*received.start(), *received.end()))?;
    writeln!(out, "happened   {}", between(*times.start(), *times.end()))?;
    writeln!(out, "root       {}", hex(*root))?;
    Ok(())
}

/// Its device index.
fn runs(summary: &SealedSummary) -> Table {
    let mut table = Table::new(&[
        ("schema", Align::Left),
        ("device", Align::Left),
        ("epoch", Align::Right),
        ("sequences from", Align::Right),
        ("to", Align::Right),
        ("events", Align::Right),
        ("size", Align::Right),
    ]);
    for run in &summary.runs {
        table.row([
            run.schema.name().to_owned(),
            run.source.device.to_string(),
            run.source.number.to_string(),
            run.sequences.start.to_string(),
            run.sequences.end.to_string(),
            count(run.rows),
            ByteSize::b(run.bytes).display().si().to_string(),
        ]);
    }
    table
}
