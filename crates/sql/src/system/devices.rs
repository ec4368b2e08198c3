//! `devices`: who sent events, and how many.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use icecore_replay::{AsOf, AsOfError, ReplayError};
use icecore_state::{DeviceLedger, EpochLedger};
use icecore_wire::DeviceName;

use super::{Asked, nullable, record_batch, required, time_column, times};
use crate::SqlError;
use crate::pushdown::Devices;
use crate::view::View;

/// The first of the columns that are of the state, which takes longer.
const OF_STATE: usize = 9;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("device", DataType::Utf8),
        nullable("labels", labels_type()),
        required("epochs", DataType::UInt32),
        required("events", DataType::UInt64),
        required("not_arrived", DataType::UInt64),
        required("dropped", DataType::UInt64),
        required("refused", DataType::UInt64),
        required("first_received", times()),
        required("last_received", times()),
        nullable("first_event", times()),
        nullable("last_event", times()),
        nullable("clock_skew_ns", DataType::Int64),
    ]))
}

fn labels_type() -> DataType {
    let entry = [required("keys", DataType::Utf8), nullable("values", DataType::Utf8)];
    let entries = Field::new("entries", DataType::Struct(Fields::from(entry.to_vec())), false);
    DataType::Map(Arc::new(entries), false)
}

pub(super) fn rows(view: &View, asked: &Asked) -> Result<RecordBatch, SqlError> {
    let ledger =
        view.opened.replay.ledger_of(|device| asked.devices.contains(device)).map_err(ReplayError::from)?;
    let devices: BTreeMap<&DeviceName, &DeviceLedger> = ledger.devices().collect();
    let is_of_state = asked.columns.iter().any(|column| *column >= OF_STATE);
    let states = if is_of_state { states(view, &asked.devices)? } else { BTreeMap::new() };
    let sum = |of: fn(&EpochLedger) -> u64| -> ArrayRef {
        let sum = |ledger: &&DeviceLedger| ledger.device_epochs().map(of).sum::<u64>();
        Arc::new(devices.values().map(sum).collect::<UInt64Array>())
    };
    let epochs = devices.values().map(|ledger| ledger.device_epochs().count() as u32);
    let state = |name: &&DeviceName| states.get(*name);
    let times = |of: fn((i64, i64)) -> i64| {
        let known: Vec<_> = devices.keys().map(|name| state(name)?.times.map(of)).collect();
        time_column(known.into_iter())
    };
    record_batch(
        schema(),
        vec![
            Arc::new(StringArray::from_iter_values(devices.keys().map(|name| name.as_str()))),
            labels(view, devices.keys().map(|name| name.as_str()))?,
            Arc::new(epochs.collect::<UInt32Array>()),
            Arc::new(devices.values().map(|ledger| ledger.events()).collect::<UInt64Array>()),
            sum(|epoch| epoch.missing().count()),
            sum(|epoch| epoch.dropped().count()),
            sum(|epoch| epoch.refused().count()),
            time_column(devices.values().map(|ledger| Some(ledger.first_received()))),
            time_column(devices.values().map(|ledger| Some(ledger.last_received()))),
            times(|(first, _)| first),
            times(|(_, last)| last),
            Arc::new(devices.keys().map(|name| state(name)?.skew).collect::<Int64Array>()),
        ],
    )
}

/// What the state knows of a device's times.
struct Times {
    times: Option<(i64, i64)>,
    skew: Option<i64>,
}

/// Of a bucket alone it is not known without reading much of it.
fn states(view: &View, devices: &Devices) -> Result<BTreeMap<DeviceName, Times>, SqlError> {
    if view.opened.labels.is_none() {
        return Ok(BTreeMap::new());
    }
    let states = match devices.states(&view.opened.replay, AsOf::default()) {
        // Where something was deleted before any snapshot, it is not known either.
        Err(AsOfError::Refused(_)) => return Ok(BTreeMap::new()),
        states => states?.devices,
    };
    let times = |(name, state): (DeviceName, Arc<icecore_state::DeviceState>)| {
        let seen = state.view();
        (name, Times { times: seen.times, skew: seen.skew })
    };
    Ok(states.into_iter().map(times).collect())
}

fn labels<'a>(view: &View, devices: impl Iterator<Item = &'a str>) -> Result<ArrayRef, SqlError> {
    let mut column = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for device in devices {
        let all = view.opened.labels.as_ref();
        for (key, value) in all.and_then(|labels| labels.get(device)).into_iter().flatten() {
            column.keys().append_value(key);
            column.values().append_value(value);
        }
        column.append(all.is_some()).map_err(ReplayError::from)?;
    }
    Ok(Arc::new(column.finish()))
}
