//! A state as JSON: what the command prints is what the API answers.

use icecore_replay::{AsOf, Base, Explained, format_instant};
use icecore_state::fold::{Kept, Last, States};
use icecore_state::{DeviceState, EpochLedger, FieldView, SchemaView, StatisticsView};
use icecore_wire::{DeviceName, Field};
use serde_json::{Value, json};

/// The state of a device as of an instant.
pub(crate) fn of(device: &DeviceName, as_of: AsOf, state: &DeviceState) -> Value {
    let (view, ledger) = (state.view(), state.ledger());
    let is_heard = !ledger.epochs().is_empty();
    let received = |time: i64| is_heard.then(|| format_instant(time));
    json!({
        "device": device.as_str(),
        "at": as_of.at.map(format_instant),
        "known_at": as_of.known_at.map(format_instant),
        "events": view.events,
        "ahead": view.ahead,
        "first_event": view.times.map(|(first, _)| format_instant(first)),
        "last_event": view.times.map(|(_, last)| format_instant(last)),
        "clock_skew_ns": view.skew,
        "first_received": received(ledger.first_received()),
        "last_received": received(ledger.last_received()),
        "epochs": ledger.device_epochs().map(epoch).collect::<Vec<_>>(),
        "schemas": view.schemas.iter().map(schema).collect::<Vec<_>>(),
    })
}

/// What is settled of an epoch, in numbers.
pub(crate) fn epoch(epoch: &EpochLedger) -> Value {
    json!({
        "epoch": epoch.epoch().to_string(),
        "number": epoch.number(),
        "next": epoch.next(),
        "stored": epoch.stored().count(),
        "missing": epoch.missing().count(),
        "dropped": epoch.dropped().count(),
        "refused": epoch.refused().count(),
    })
}

/// How states were made.
pub(super) fn explained(explained: &Explained) -> Value {
    let base = |base: &Option<Base>| {
        base.as_ref().map(|base| {
            json!({
                "snapshot": base.file.as_ref().map(|file| file.display().to_string()),
                "position": base.position,
                "received": base.received.map(format_instant),
            })
        })
    };
    json!({
        "statistics_from": base(&explained.base),
        "epochs_from": base(&explained.ledger),
        "position": explained.position,
        "segments_read": explained.segments.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "segments": explained.sealed,
        "pages_read": explained.pages,
        "blocks_read": explained.blocks,
        "batches_read": explained.batches,
        "events_folded": explained.events,
        "damaged_snapshots": explained.faults,
    })
}

fn schema(view: &SchemaView) -> Value {
    let fields = view.schema.fields().iter().zip(&view.fields);
    json!({
        "schema": view.schema.name(),
        "version": view.schema.version(),
        "events": view.events,
        "fields": fields.map(|(definition, view)| field(definition, view)).collect::<Vec<_>>(),
    })
}

fn field(definition: &Field, view: &FieldView) -> Value {
    json!({
        "name": definition.name(),
        "type": definition.ty().to_string(),
        "kind": definition.kind().to_string(),
        "unit": definition.unit(),
        "values": view.values,
        "not_finite": view.not_finite,
        "last": view.last.as_ref().map(last),
        "statistics": view.statistics.as_ref().map(statistics),
    })
}

fn last(last: &Last) -> Value {
    json!({
        "value": value(&last.value),
        "cut": is_cut(&last.value),
        "event_time": format_instant(last.at.time),
        "epoch_number": last.at.epoch,
        "seq": last.at.sequence,
    })
}

fn statistics(view: &StatisticsView) -> Value {
    match view {
        StatisticsView::Gauge { count, min, max, mean, variance } => json!({
            "count": count,
            "min": value(min),
            "max": value(max),
            "mean": number(*mean),
            "variance": variance.map(number),
        }),
        StatisticsView::Counter { increase, resets, late } => {
            json!({ "increase": number(*increase), "resets": resets, "late": late })
        }
        StatisticsView::States(states) => states_told(states),
        StatisticsView::Angle { count, mean, resultant } => {
            json!({ "count": count, "mean": number(*mean), "resultant": number(*resultant) })
        }
    }
}

fn states_told(states: &States) -> Value {
    let told = states.states().iter().map(
        |state| json!({ "value": value(state.value()), "events": state.events(), "time_ns": state.time() }),
    );
    let (events, time) = states.other();
    json!({
        "states": told.collect::<Vec<_>>(),
        "other": { "events": events, "time_ns": time },
        "late": states.late(),
    })
}

/// Whether only the beginning is kept.
fn is_cut(kept: &Kept) -> bool {
    match kept {
        Kept::Text { start, bytes } => start.len() < *bytes as usize,
        Kept::Bytes { start, bytes } => start.len() < *bytes as usize,
        Kept::List => true,
        _ => false,
    }
}

/// As events are written.
pub(super) fn value(kept: &Kept) -> Value {
    match kept {
        Kept::F64(bits) => number(f64::from_bits(*bits)),
        Kept::F32(bits) => {
            let single = f32::from_bits(*bits);
            // The digits that tell it from other singles, not those of the double it is.
            number(single.to_string().parse().unwrap_or_else(|_| single.into()))
        }
        Kept::I64(value) => json!(value),
        Kept::U64(value) => json!(value),
        Kept::Bool(value) => json!(value),
        Kept::Timestamp(time) => json!(format_instant(*time)),
        Kept::Text { start, .. } => json!(start),
        Kept::Bytes { start, .. } => {
            json!(start.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Kept::List => Value::Null,
    }
}

/// JSON has no number for what is not finite.
fn number(number: f64) -> Value {
    match number {
        finite if finite.is_finite() => json!(finite),
        infinite if infinite == f64::INFINITY => json!("inf"),
        infinite if infinite == f64::NEG_INFINITY => json!("-inf"),
        _ => json!("NaN"),
    }
}
