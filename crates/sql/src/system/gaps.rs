//! `gaps`: sequences that were never stored.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Schema, SchemaRef};
use icecore_replay::ReplayError;
use icecore_state::EpochLedger;
use icecore_wire::DeviceName;

use super::{Asked, nullable, record_batch, required};
use crate::SqlError;
use crate::view::View;

/// Sequences that did not arrive, though later ones of their epoch did.
pub(super) const NOT_ARRIVED: &str = "not_arrived";
/// Sequences that the device said it dropped.
pub(super) const DROPPED: &str = "dropped";
/// Sequences that were refused for good.
pub(super) const REFUSED: &str = "refused";

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("device", DataType::Utf8),
        required("epoch", DataType::UInt32),
        required("kind", DataType::Utf8),
        required("first_seq", DataType::UInt64),
        required("last_seq", DataType::UInt64),
        required("sequences", DataType::UInt64),
        nullable("reason", DataType::Utf8),
    ]))
}

struct Gap<'l> {
    device: &'l DeviceName,
    epoch: u32,
    kind: &'static str,
    sequences: Range<u64>,
    reason: Option<&'static str>,
}

pub(super) fn rows(view: &View, asked: &Asked) -> Result<RecordBatch, SqlError> {
    let ledger =
        view.opened.replay.ledger_of(|device| asked.devices.contains(device)).map_err(ReplayError::from)?;
    let mut gaps: Vec<Gap<'_>> = Vec::new();
    for (device, ledger) in ledger.devices() {
        ledger.epochs().iter().for_each(|epoch| add(&mut gaps, device, epoch));
    }
    gaps.sort_by(|a, b| (a.device, a.epoch, a.sequences.start).cmp(&(b.device, b.epoch, b.sequences.start)));
    let numbers = |of: fn(&Gap<'_>) -> u64| Arc::new(gaps.iter().map(of).collect::<UInt64Array>());
    record_batch(
        schema(),
        vec![
            Arc::new(StringArray::from_iter_values(gaps.iter().map(|gap| gap.device.as_str()))),
            Arc::new(gaps.iter().map(|gap| gap.epoch).collect::<UInt32Array>()),
            Arc::new(StringArray::from_iter_values(gaps.iter().map(|gap| gap.kind))),
            numbers(|gap| gap.sequences.start),
            numbers(|gap| gap.sequences.end - 1),
            numbers(|gap| gap.sequences.end - gap.sequences.start),
            Arc::new(gaps.iter().map(|gap| gap.reason).collect::<StringArray>()),
        ],
    )
}

fn add<'l>(gaps: &mut Vec<Gap<'l>>, device: &'l DeviceName, ledger: &EpochLedger) {
    let gap = |kind, sequences, reason| Gap { device, epoch: ledger.number(), kind, sequences, reason };
    gaps.extend(ledger.missing().iter().map(|range| gap(NOT_ARRIVED, range, None)));
    gaps.extend(ledger.dropped().iter().map(|range| gap(DROPPED, range, None)));
    let refused = ledger.refused().iter();
    gaps.extend(refused.map(|refused| gap(REFUSED, refused.range.clone(), Some(refused.code.name()))));
}
