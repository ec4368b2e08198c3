//! Rows of rollups that are in the log already.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use icecore_log::{LogReader, OnAbsent, Record, Scan, StoredBatch};
use icecore_state::fold::Kept;
use icecore_state::rollup::Cell;
use icecore_wire::{Batch, DeviceName, Schema, SchemaId};

use crate::ReplayError;

/// The column of the revision: the first one.
pub(super) const REVISION: usize = 0;

/// The row of a window with the highest revision, and that; `None` if there is none, or none any more.
pub(super) fn newest(
    reader: &LogReader,
    device: &DeviceName,
    schema: &Schema,
    start: i64,
) -> Result<Option<(u64, Vec<Cell>)>, ReplayError> {
    let id = schema.id();
    let scan = Scan {
        devices: Some(Box::new(|of| of == device)),
        schemas: Some(Box::new(move |of| of.id() == id)),
        times: Some(RangeInclusive::new(start, start)),
        on_absent: OnAbsent::Skip,
        ..Scan::default()
    };
    let mut newest: Option<(u64, Vec<Cell>)> = None;
    for record in reader.scan(scan) {
        let Record::Batch(stored) = record? else { continue };
        let batch = validate(stored)?;
        for row in (0..batch.count() as usize).filter(|row| batch.times()[*row] == start) {
            let revision = revision(&batch, row);
            if newest.as_ref().is_none_or(|(known, _)| *known < revision) {
                let cells = (0..schema.fields().len()).map(|field| Kept::of(batch.column(field).value(row)));
                newest = Some((revision, cells.collect()));
            }
        }
    }
    Ok(newest)
}

/// Which rows of this revision stand at the position `from` or behind it: of each device and derived schema, where the last window
/// begins. Windows are written in order, so these are all up to that one.
///
/// # Errors
/// When the log cannot be read there.
pub fn emitted(
    reader: &LogReader,
    from: u64,
    of_revision: u64,
) -> Result<HashMap<(DeviceName, SchemaId), i64>, ReplayError> {
    let scan = Scan {
        positions: Some(from..u64::MAX),
        schemas: Some(Box::new(Schema::is_derived)),
        ..Scan::default()
    };
    let mut last = HashMap::new();
    for record in reader.scan(scan) {
        let Record::Batch(stored) = record? else { continue };
        let (device, schema) = (stored.source.device.clone(), stored.schema.id());
        let batch = validate(stored)?;
        let rows = 0..batch.count() as usize;
        let of_it = rows.filter(|row| revision(&batch, *row) == of_revision);
        if let Some(start) = of_it.map(|row| batch.times()[row]).max() {
            let known = last.entry((device, schema)).or_insert(start);
            *known = start.max(*known);
        }
    }
    Ok(last)
}

/// The highest revision of all rows that can be read: up to there the log was rolled up once; `None` without any rows.
///
/// # Errors
/// When the log cannot be read.
pub fn last_revision(reader: &LogReader) -> Result<Option<u64>, ReplayError> {
    let (schemas, on_absent) = (Some(Box::new(Schema::is_derived) as _), OnAbsent::Skip);
    let mut last = None;
    for record in reader.scan(Scan { schemas, on_absent, ..Scan::default() }) {
        let Record::Batch(stored) = record? else { continue };
        let batch = validate(stored)?;
        last = last.max((0..batch.count() as usize).map(|row| revision(&batch, row)).max());
    }
    Ok(last)
}

fn validate(stored: StoredBatch) -> Result<Batch, ReplayError> {
    let StoredBatch { source, schema, first_sequence, position, payload, .. } = stored;
    let device = source.device.clone();
    Batch::validate(payload, schema).map_err(|source| ReplayError::Batch {
        position,
        device,
        first_sequence,
        source,
    })
}

fn revision(batch: &Batch, row: usize) -> u64 {
    match Kept::of(batch.column(REVISION).value(row)) {
        Some(Kept::U64(revision)) => revision,
        _ => 0,
    }
}
