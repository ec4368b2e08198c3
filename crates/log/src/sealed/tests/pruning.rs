//! Reading a little of a large segment reads little of its file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use icecore_wire::{Column, ColumnData, ColumnType, Digest, Epoch, Field, Schema, encode};

use super::seal;
use crate::record::{Source, StoredBatch};
use crate::sealed::{ReadAt, RowQuery, SealedSegment};

const DEVICES: u64 = 20;
const DAYS: u64 = 40;
/// Rows of a device on a day: a batch.
const ROWS: u64 = 1_000;
const DAY: i64 = 86_400_000_000_000;

/// Counts what is read of a file.
struct Counting {
    file: Vec<u8>,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl ReadAt for Counting {
    fn len(&self) -> io::Result<u64> {
        ReadAt::len(&self.file)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.file.read_at(offset, buf)
    }
}

/// Numbers that do not compress, of every device every day.
fn batches() -> Vec<StoredBatch> {
    let mut rng = Rng::with_seed(5);
    let schema = Arc::new(Schema::new("flow", 1, vec![Field::new("v", ColumnType::F64)]).unwrap());
    let source = |device| {
        let (device, epoch) = (format!("pump/{device:02}").parse().unwrap(), Epoch::from_bytes([1; 16]));
        Arc::new(Source { device, epoch, number: 0 })
    };
    let sources: Vec<_> = (0..DEVICES).map(source).collect();
    let mut batches = Vec::new();
    for day in 0..DAYS {
        for source in &sources {
            let times: Vec<i64> =
                (0..ROWS).map(|row| day as i64 * DAY + row as i64 * 1_000_000_000).collect();
            let values: Vec<f64> = (0..ROWS).map(|_| rng.f64()).collect();
            let first_sequence = day * ROWS;
            let columns = [Column::new(ColumnData::F64(&values))];
            let payload = encode(&schema, first_sequence, &times, &columns, Default::default()).unwrap();
            batches.push(StoredBatch {
                source: Arc::clone(source),
                schema: Arc::clone(&schema),
                first_sequence,
                count: ROWS as u32,
                position: batches.len() as u64 * ROWS,
                received: day as i64 * DAY,
                digest: Digest::of(&payload),
                payload,
                compressed: false,
            });
        }
    }
    batches
}

#[test]
fn one_device_on_one_day_is_a_few_pages() {
    let (file, summary) = seal(&batches());
    let counting = Arc::new(Counting { file, bytes: AtomicU64::new(0), reads: AtomicU64::new(0) });
    let read = |query: RowQuery<'_>| {
        counting.bytes.store(0, Ordering::Relaxed);
        counting.reads.store(0, Ordering::Relaxed);
        let segment = SealedSegment::open(Arc::clone(&counting) as _, "flow.ice".into()).unwrap();
        let batches: Vec<_> = segment.in_log_order(&query).unwrap().map(Result::unwrap).collect();
        (batches, counting.bytes.load(Ordering::Relaxed), counting.reads.load(Ordering::Relaxed))
    };
    let times = 17 * DAY..=18 * DAY - 1;
    let (found, bytes, reads) = read(RowQuery {
        devices: Some(Box::new(|device| device.as_str() == "pump/07")),
        times: Some(times.clone()),
        ..RowQuery::default()
    });
    let wanted = (17 * DEVICES + 7) * ROWS;
    assert!(found.iter().any(|batch| batch.position == wanted));
    assert!(found.len() as u64 <= 10, "batches that share a page of times, not {}", found.len());
    assert!(found.iter().all(|batch| batch.source.device.as_str() == "pump/07"));
    // The footer's read, the directory, and one or two pages of each column.
    assert!(bytes < 320 << 10 && bytes < summary.bytes / 15 && reads < 30, "{bytes} bytes in {reads} reads");

    let (found, bytes, _) = read(RowQuery { times: Some(-DAY..=-1), ..RowQuery::default() });
    assert!(found.is_empty() && bytes < 128 << 10, "{bytes}");
    let schemas = |schema: &Schema| schema.name() != "flow";
    let (found, bytes, _) = read(RowQuery { schemas: Some(Box::new(schemas)), ..RowQuery::default() });
    assert!(found.is_empty() && bytes < 128 << 10, "{bytes}");
    let positions = Some(wanted..wanted + 1);
    let (found, bytes, _) = read(RowQuery { positions, ..RowQuery::default() });
    assert_eq!(found.iter().map(|batch| batch.position).collect::<Vec<_>>(), [wanted]);
    assert!(bytes < 320 << 10, "{bytes}");
}
