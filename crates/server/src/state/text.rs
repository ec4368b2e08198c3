//! A state as people read it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use icecore_replay::{AsOf, Base, Explained, format_instant};
use icecore_state::fold::States;
use icecore_state::{DeviceState, FieldView, SchemaView, StatisticsView};
use icecore_wire::DeviceName;
use serde_json::Value;

use super::json;
use crate::device::epochs;
use crate::instant::{display_duration, display_seconds};
use crate::table::{Align, Table, count, counted};

/// States of a field that are named.
const NAMED_STATES: usize = 4;

/// Segments that are named.
const NAMED_SEGMENTS: usize = 8;

/// Everything known of a device.
pub(super) fn write(
    device: &DeviceName,
    as_of: AsOf,
    state: &DeviceState,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (view, ledger) = (state.view(), state.ledger());
    let at = as_of.at.map(|at| format!(", as of {}", format_instant(at)));
    let known_at = as_of.known_at.map(|at| format!(", as known at {}", format_instant(at)));
    writeln!(out, "{device}{}{}", at.unwrap_or_default(), known_at.unwrap_or_default())?;
    let [first, last] = [ledger.first_received(), ledger.last_received()].map(display_seconds);
    writeln!(out, "  received {first} to {last}")?;
    match view.times {
        Some((first, last)) => {
            let [first, last] = [first, last].map(display_seconds);
            writeln!(out, "  {}, of {first} to {last}", counted(view.events, "event"))?;
        }
        None => writeln!(out, "  {}", counted(view.events, "event"))?,
    }
    if view.ahead > 0 {
        writeln!(out, "  {} of them ahead of their time: the device's clock was wrong", count(view.ahead))?;
    }
    if let Some(skew) = view.skew {
        let (by, which) = (display_duration(Duration::from_nanos(skew.unsigned_abs())), skew < 0);
        let which = if which { "ahead of" } else { "behind" };
        writeln!(out, "  its clock is {by} {which} the server's")?;
    }
    writeln!(out)?;
    epochs(ledger).write(out)?;
    for schema in &view.schemas {
        writeln!(out)?;
        write_schema(schema, out)?;
    }
    Ok(())
}

/// One line for each device.
pub(super) fn write_all(
    devices: &BTreeMap<DeviceName, Arc<DeviceState>>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        ("device", Align::Left),
        ("events", Align::Right),
        ("first event", Align::Left),
        ("last event", Align::Left),
        ("last received", Align::Left),
        ("missing", Align::Right),
    ]);
    for (device, state) in devices {
        let (view, ledger) = (state.view(), state.ledger());
        let time = |pick: fn((i64, i64)) -> i64| {
            view.times.map_or_else(|| "-".to_owned(), |times| display_seconds(pick(times)))
        };
        table.row([
            device.to_string(),
            count(view.events),
            time(|(first, _)| first),
            time(|(_, last)| last),
            display_seconds(ledger.last_received()),
            count(ledger.device_epochs().map(|epoch| epoch.missing().count()).sum()),
        ]);
    }
    match table.is_empty() {
        true => writeln!(out, "no devices")?,
        false => table.write(out)?,
    }
    Ok(())
}

fn write_schema(schema: &SchemaView, out: &mut impl Write) -> anyhow::Result<()> {
    let (name, version) = (schema.schema.name(), schema.schema.version());
    writeln!(out, "{name} version {version}: {}", counted(schema.events, "event"))?;
    let mut table = Table::new(&[
        ("field", Align::Left),
        ("kind", Align::Left),
        ("unit", Align::Left),
        ("values", Align::Right),
        ("last", Align::Left),
        ("at", Align::Left),
        ("statistics", Align::Left),
    ]);
    for (definition, field) in schema.schema.fields().iter().zip(&schema.fields) {
        let last = field.last.as_ref();
        table.row([
            definition.name().to_owned(),
            definition.kind().to_string(),
            definition.unit().to_owned(),
            count(field.values),
            last.map_or_else(|| "-".to_owned(), |last| shown(&json::value(&last.value))),
            last.map_or_else(|| "-".to_owned(), |last| display_seconds(last.at.time)),
            statistics(field),
        ]);
    }
    table.write(out)?;
    Ok(())
}

fn statistics(field: &FieldView) -> String {
    let told = match &field.statistics {
        None => String::new(),
        Some(StatisticsView::Gauge { min, max, mean, variance, .. }) => {
            let deviation = variance.map(|variance| format!(", standard deviation {:.6}", variance.sqrt()));
            let [min, max] = [min, max].map(|kept| shown(&json::value(kept)));
            format!("{min} to {max}, mean {mean:.6}{}", deviation.unwrap_or_default())
        }
        Some(StatisticsView::Counter { increase, resets, late }) => {
            format!("rose by {increase}, began again {resets} times, {late} late")
        }
        Some(StatisticsView::States(states)) => spells(states),
        Some(StatisticsView::Angle { mean, resultant, .. }) => {
            format!("mean {mean:.3}, agreement {resultant:.3}")
        }
    };
    match field.not_finite {
        0 => told,
        some => format!("{told}, {} not finite", count(some)),
    }
}

fn spells(states: &States) -> String {
    let all = states.states();
    let named = all.iter().take(NAMED_STATES).map(|state| {
        let time = display_duration(Duration::from_nanos(state.time()));
        format!("{} {time} ({})", shown(&json::value(state.value())), count(state.events()))
    });
    let mut named: Vec<String> = named.collect();
    if let more @ 1.. = all.len().saturating_sub(NAMED_STATES) {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

/// A text without its quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Null => "(list)".to_owned(),
        value => value.to_string(),
    }
}

/// How states were made.
pub(super) fn explain(explained: &Explained, out: &mut impl Write) -> anyhow::Result<()> {
    let Explained { base, ledger, position, blocks, segments, sealed, pages, batches, events, faults } =
        explained;
    writeln!(out, "statistics begin with {}", begin(base.as_ref()))?;
    writeln!(out, "epochs begin with {}", begin(ledger.as_ref()))?;
    let named: Vec<String> = segments.iter().take(NAMED_SEGMENTS).map(ToString::to_string).collect();
    let more = if segments.len() > NAMED_SEGMENTS { ", …" } else { "" };
    let named = if named.is_empty() { String::new() } else { format!(" ({}{more})", named.join(", ")) };
    writeln!(
        out,
        "read up to position {}: {} of {}{named} and {} of them, {} of the hot log, {}; {} folded",
        count(*position),
        count(segments.len() as u64),
        counted(*sealed as u64, "sealed segment"),
        counted(*pages, "page"),
        counted(*blocks, "block"),
        if *batches == 1 { "1 batch".to_owned() } else { format!("{} batches", count(*batches)) },
        counted(*events, "event"),
    )?;
    for fault in faults {
        writeln!(out, "passed over: {fault}")?;
    }
    Ok(())
}

fn begin(base: Option<&Base>) -> String {
    let Some(Base { file, position, received }) = base else { return "the first event".to_owned() };
    let position = count(*position);
    match (file, received) {
        (Some(file), Some(received)) => {
            let received = format_instant(*received);
            format!("{}, of what was received by {received} (position {position})", file.display())
        }
        _ => format!("what the log has on record up to position {position}"),
    }
}
