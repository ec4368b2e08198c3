//! A file of format version 1, frozen: every later version must read it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::{BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Schema, Value};

use super::{Arrivals, is_time_uncertain, open, packed_batch, rows, seal};
use crate::record::{Source, StoredBatch};
use crate::sealed::{RowQuery, SealedSegment};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/sealed").join(file)
}

/// A device with more rows than a page and another with few; every type; a batch whose payload is kept.
fn batches() -> Vec<StoredBatch> {
    let mut arrivals = Arrivals::new(1, 40);
    let mut batches = arrivals.batches(12);
    let large = Schema::new("large", 1, vec![Field::new("v", ColumnType::F64)]).unwrap();
    let mut large = packed_batch(&Arc::new(large), &source("recorder"), 65_536);
    large.position = arrivals.position;
    let mut position = large.position + u64::from(large.count);
    batches.push(large);
    for (device, count) in [("pump", 90), ("valve", 2)] {
        for index in 0..count {
            let batch = readings(&source(device), index * 100, position);
            position += u64::from(batch.count);
            batches.push(batch);
        }
    }
    batches
}

fn source(device: &str) -> Arc<Source> {
    Arc::new(Source { device: device.parse().unwrap(), epoch: Epoch::from_bytes([3; 16]), number: 2 })
}

/// A hundred rows: of decimals, few distinct values, noise, a counter, a flag, a few words, and notes.
fn readings(source: &Arc<Source>, first_sequence: u64, position: u64) -> StoredBatch {
    let fields = vec![
        Field::new("level", ColumnType::F64).with_unit("m"),
        Field::new("step", ColumnType::F64),
        Field::new("noise", ColumnType::F32),
        Field::new("turns", ColumnType::I64),
        Field::new("on", ColumnType::Bool),
        Field::new("mode", ColumnType::Text),
        Field::new("note", ColumnType::Text).nullable(),
    ];
    let schema = Arc::new(Schema::new("readings", 3, fields).unwrap());
    let mut builder = BatchBuilder::new(Arc::clone(&schema));
    for row in first_sequence..first_sequence + 100 {
        let mixed = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let note = format!("nothing to report at {row}");
        let values = [
            Value::F64((mixed % 10_000) as f64 / 100.0),
            Value::F64(1.0 / ((mixed % 7) as f64 + 0.3)),
            Value::F32(f32::from_bits(0x3f80_0000 | (mixed as u32 & 0x7f_ffff))),
            Value::I64(row as i64 * 24 + (mixed % 3) as i64),
            Value::Bool(row % 1_000 < 700),
            Value::Text(["idle", "running", "fault"][mixed as usize % 3]),
            if mixed % 5 == 0 { Value::Text(&note) } else { Value::Null },
        ];
        let time = row as i64 * 2_777_778 + ((mixed * mixed) >> 20) as i64 % 100_003;
        builder.row(time, &values).unwrap();
    }
    let options = EncodeOptions { time_uncertain: first_sequence == 100, ..EncodeOptions::PLAIN };
    let payload = builder.finish(first_sequence, options).unwrap();
    StoredBatch {
        source: Arc::clone(source),
        schema,
        first_sequence,
        count: 100,
        position,
        received: 1_700_000_000_000_000_000 + position as i64 * 7_919,
        digest: Digest::of(&payload),
        payload,
        compressed: false,
    }
}

fn describe(batches: impl Iterator<Item = StoredBatch>) -> String {
    let mut text = String::new();
    for batch in batches {
        let StoredBatch { source, schema, first_sequence, count, position, received, digest, .. } = &batch;
        let Source { device, epoch, number } = &**source;
        let uncertain = is_time_uncertain(&batch);
        let rows = Digest::of(format!("{:?}", rows(&batch)).as_bytes());
        writeln!(
            text,
            "{} v{} of {device} {epoch} {number}: {first_sequence}+{count} at {position}, {received}, {digest}, \
             uncertain {uncertain}, rows {rows}",
            schema.name(),
            schema.version(),
        )
        .unwrap();
    }
    text
}

/// The forms that numbers and texts have in a segment.
fn forms(segment: &SealedSegment) -> BTreeSet<(bool, u8)> {
    let mut forms = BTreeSet::new();
    for (table, groups) in segment.footer.tables.iter().enumerate() {
        for index in 0..groups.groups.len() {
            for column in segment.group(table, index).unwrap().columns() {
                let is_text = matches!(column.ty, ColumnType::Text | ColumnType::Bytes);
                forms.extend(column.decoder.first().map(|form| (is_text, *form)));
            }
        }
    }
    forms
}

#[test]
fn version_1_is_read() {
    let segment = open(std::fs::read(golden("segment.ice")).unwrap());
    assert_eq!(segment.verify().unwrap(), vec![]);
    let read = segment.in_log_order(&RowQuery::default()).unwrap().map(Result::unwrap);
    assert_eq!(describe(read), std::fs::read_to_string(golden("batches.txt")).unwrap());
    let every_form = [(false, 0), (false, 1), (false, 2), (false, 3), (true, 0), (true, 1)];
    assert_eq!(forms(&segment), every_form.into());
    assert!(segment.footer.tables.iter().any(|table| table.groups.len() > 1));
}

/// Writes the frozen file anew with `ICECORE_WRITE_GOLDEN=1`: only ever for a new version, beside the old one. Its bytes
/// are those of the libraries' present versions; what it holds is not.
#[test]
fn version_1_is_written() {
    let batches = batches();
    let (file, _) = seal(&batches);
    if std::env::var_os("ICECORE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden("")).unwrap();
        std::fs::write(golden("segment.ice"), &file).unwrap();
        std::fs::write(golden("batches.txt"), describe(batches.into_iter())).unwrap();
        return;
    }
    assert_eq!(describe(batches.into_iter()), std::fs::read_to_string(golden("batches.txt")).unwrap());
}
