//! `segments`: what is sealed, where it is, and what is not sealed yet.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Schema, SchemaRef};
use icecore_replay::{Place, Placed};

use super::{nullable, record_batch, required, time_column, times};
use crate::SqlError;
use crate::view::View;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        nullable("segment", DataType::Utf8),
        nullable("class", DataType::Utf8),
        required("tier", DataType::Utf8),
        nullable("stores", DataType::Utf8),
        nullable("deleted_by", DataType::Utf8),
        required("events", DataType::UInt64),
        nullable("bytes", DataType::UInt64),
        required("first_position", DataType::UInt64),
        required("last_position", DataType::UInt64),
        nullable("first_event", times()),
        nullable("last_event", times()),
        nullable("first_received", times()),
        nullable("last_received", times()),
    ]))
}

/// What is not sealed is one row, of which only the positions are known.
pub(super) fn rows(view: &View) -> Result<RecordBatch, SqlError> {
    let sealed = view.opened.replay.segments()?;
    let hot = hot(view);
    let is_hot = !hot.is_empty();
    let numbers = |of: fn(&Placed) -> u64, of_hot: u64| {
        let numbers = sealed.iter().map(of).chain(is_hot.then_some(of_hot));
        Arc::new(numbers.collect::<UInt64Array>())
    };
    let texts = |of: fn(&Placed) -> Option<String>, of_hot: Option<&str>| {
        let texts = sealed.iter().map(of).chain(is_hot.then(|| of_hot.map(str::to_owned)));
        Arc::new(texts.collect::<StringArray>())
    };
    let times =
        |of: fn(&Placed) -> i64| time_column(sealed.iter().map(of).map(Some).chain(is_hot.then_some(None)));
    let bytes = sealed.iter().map(|placed| Some(placed.child.bytes)).chain(is_hot.then_some(None));
    record_batch(
        schema(),
        vec![
            texts(|placed| Some(placed.id.to_string()), None),
            texts(|placed| Some(placed.child.class.clone()), None),
            texts(|placed| Some(tier(&placed.place).to_owned()), Some("hot")),
            texts(|placed| stores(&placed.place), None),
            texts(|placed| deleted_by(&placed.place), None),
            numbers(|placed| placed.child.rows, hot.end - hot.start),
            Arc::new(bytes.collect::<UInt64Array>()),
            numbers(|placed| placed.child.positions.start, hot.start),
            numbers(|placed| placed.child.positions.end - 1, hot.end.saturating_sub(1)),
            times(|placed| *placed.child.times.start()),
            times(|placed| *placed.child.times.end()),
            times(|placed| *placed.child.received.start()),
            times(|placed| *placed.child.received.end()),
        ],
    )
}

/// The positions of what is not sealed.
pub(super) fn hot(view: &View) -> std::ops::Range<u64> {
    let reader = view.opened.replay.reader();
    let positions = reader.positions();
    reader.sealed_to().max(positions.start).min(positions.end)..positions.end
}

pub(super) fn tier(place: &Place) -> &'static str {
    match place {
        Place::Warm { .. } => "warm",
        Place::Cold { .. } => "cold",
        Place::Deleted(_) => "deleted",
        Place::Absent => "absent",
    }
}

fn stores(place: &Place) -> Option<String> {
    match place {
        Place::Warm { stores } | Place::Cold { stores } if !stores.is_empty() => Some(stores.join(", ")),
        _ => None,
    }
}

fn deleted_by(place: &Place) -> Option<String> {
    match place {
        Place::Deleted(deleted) => deleted.policy.clone(),
        _ => None,
    }
}
