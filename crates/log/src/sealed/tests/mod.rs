//! Sealed segments as a whole: what comes back, and what damage does.

mod damage;
mod golden;
mod pruning;
mod round_trip;

use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use icecore_wire::{
    Batch, BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Payload, Schema, Value,
};

use rkyv::util::AlignedVec;

use super::{SealedSegment, SealedSummary, SealedWriter};
use crate::record::{Source, StoredBatch};

const LOG: [u8; 16] = *b"the log's own id";

/// Batches as a log would yield them, with gaps in sequences and positions.
struct Arrivals {
    rng: Rng,
    schemas: Vec<Arc<Schema>>,
    /// With its next sequence.
    sources: Vec<(Arc<Source>, u64)>,
    position: u64,
    received: i64,
    /// Rows of a batch at most.
    most_rows: usize,
}

impl Arrivals {
    fn new(seed: u64, most_rows: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut source = |device: &str, number| {
            let epoch = Epoch::from_bytes(rng.u128(..).to_le_bytes());
            Arc::new(Source { device: device.parse().unwrap(), epoch, number })
        };
        let sources = [("press/2", 0), ("kiln", 0), ("press/1", 0), ("kiln", 1)].map(|(d, n)| source(d, n));
        let firsts = [0, 1_000, u64::MAX / 2, 7];
        Self {
            schemas: schemas(),
            sources: sources.into_iter().zip(firsts).collect(),
            position: rng.u64(..1_000),
            received: rng.i64(..) / 2,
            most_rows,
            rng,
        }
    }

    fn batch(&mut self) -> StoredBatch {
        let rng = &mut self.rng;
        let schema = Arc::clone(rng.choice(&self.schemas).unwrap());
        let (source, next) = rng.choice(&mut self.sources).unwrap();
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        let start = rng.i64(..);
        for row in 0..rng.usize(1..=self.most_rows) {
            let time = if rng.u8(..) == 0 { rng.i64(..) } else { start.wrapping_add(row as i64 * 1_000_000) };
            let texts: Vec<String> = (0..2).map(|_| text(rng)).collect();
            let lists = (floats(rng), integers(rng));
            let values: Vec<Value<'_>> = schema
                .fields()
                .iter()
                .enumerate()
                .map(|(index, field)| value(rng, field, row, &texts[index % 2], &lists))
                .collect();
            if builder.row(time, &values).is_err() {
                break; // A batch is full.
            }
        }
        let count = builder.len() as u32;
        let options = EncodeOptions {
            pco: rng.bool().then_some(4),
            time_uncertain: rng.u8(..) < 30,
            ..EncodeOptions::PLAIN
        };
        *next += u64::from(rng.u8(..) < 40) * 17;
        let (first_sequence, position) = (*next, self.position);
        let payload = builder.finish(first_sequence, options).unwrap();
        *next += u64::from(count);
        self.position += u64::from(count) + u64::from(rng.bool()) * rng.u64(..100);
        self.received += rng.i64(0..1_000_000);
        StoredBatch {
            source: Arc::clone(source),
            schema,
            first_sequence,
            count,
            position,
            received: self.received,
            digest: Digest::of(&payload),
            payload,
            compressed: options.pco.is_some(),
        }
    }

    fn batches(&mut self, count: usize) -> Vec<StoredBatch> {
        (0..count).map(|_| self.batch()).collect()
    }
}

/// One schema with every type, plain and nullable, and two small ones.
fn schemas() -> Vec<Arc<Schema>> {
    let types = [
        ColumnType::F64,
        ColumnType::F32,
        ColumnType::I64,
        ColumnType::U64,
        ColumnType::Bool,
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Timestamp,
        ColumnType::F32List(3),
        ColumnType::I16List(5),
    ];
    let plain = types.iter().map(|ty| Field::new(format!("{ty} always"), *ty));
    let nullable = types.iter().map(|ty| Field::new(format!("{ty} at times"), *ty).nullable());
    let never = types.iter().map(|ty| Field::new(format!("{ty} never"), *ty).nullable());
    let all = plain.chain(nullable).chain(never).collect();
    let small = |version, ty| Schema::new("small", version, vec![Field::new("v", ty)]).unwrap();
    let schemas =
        [Schema::new("everything", 1, all).unwrap(), small(2, ColumnType::F64), small(1, ColumnType::F32)];
    schemas.map(Arc::new).into()
}

fn text(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => String::new(),
        1 => (0..rng.usize(..40)).map(|_| rng.char(..)).collect(),
        kind => ["running", "stopped", "fehlgeschlagen: Überdruck", "🌡"][usize::from(kind) % 4].to_owned(),
    }
}

fn floats(rng: &mut Rng) -> Vec<f32> {
    (0..3).map(|_| f32::from_bits(rng.u32(..))).collect()
}

fn integers(rng: &mut Rng) -> Vec<i16> {
    (0..5).map(|_| rng.i16(..)).collect()
}

fn value<'a>(
    rng: &mut Rng,
    field: &Field,
    row: usize,
    text: &'a str,
    lists: &'a (Vec<f32>, Vec<i16>),
) -> Value<'a> {
    let never = field.name().ends_with("never");
    if never || field.is_nullable() && rng.u8(..) < 60 {
        return Value::Null;
    }
    let wild = rng.u8(..4) == 0;
    match field.ty() {
        ColumnType::F64 if wild => Value::F64(f64::from_bits(rng.u64(..))),
        ColumnType::F64 => {
            Value::F64(*rng.choice(&[-0.0, 20.5, f64::NAN, 1e300, row as f64 / 10.0]).unwrap())
        }
        ColumnType::F32 if wild => Value::F32(f32::from_bits(rng.u32(..))),
        ColumnType::F32 => Value::F32(row as f32 / 4.0),
        ColumnType::I64 if wild => Value::I64(*rng.choice(&[i64::MIN, i64::MAX, -1]).unwrap()),
        ColumnType::I64 => Value::I64(row as i64),
        ColumnType::U64 if wild => Value::U64(u64::MAX - row as u64),
        ColumnType::U64 => Value::U64(row as u64),
        ColumnType::Bool => Value::Bool(wild),
        ColumnType::Text => Value::Text(text),
        ColumnType::Bytes => Value::Bytes(text.as_bytes()),
        ColumnType::Timestamp => Value::Timestamp(if wild { rng.i64(..) } else { row as i64 }),
        ColumnType::F32List(_) => Value::F32List(&lists.0),
        ColumnType::I16List(_) => Value::I16List(&lists.1),
    }
}

/// A batch of one field whose columns another client's pco made small, but which is too large to be plain: `rows` times and
/// doubles, all the same. It is written by hand, as `docs/protocol.md` says.
fn packed_batch(schema: &Arc<Schema>, source: &Arc<Source>, rows: usize) -> StoredBatch {
    let columns = [pco_chunk(&vec![5_i64; rows]), pco_chunk(&vec![2.5_f64; rows])];
    let mut bytes = AlignedVec::<16>::new();
    let mut starts = Vec::new();
    for column in &columns {
        starts.push(bytes.len());
        bytes.extend_from_slice(column);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let entries = bytes.len();
    for (index, (column, start)) in columns.iter().zip(&starts).enumerate() {
        bytes.extend_from_slice(&[[8, 1, 0, 0], [1, 1, 0, 0]][index]);
        for (target, len) in [(*start, 0), (*start, 0), (*start, column.len())] {
            let from = bytes.len() as i32;
            bytes.extend_from_slice(&(target as i32 - from).to_le_bytes());
            bytes.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    bytes.extend_from_slice(schema.id().as_bytes());
    bytes.extend_from_slice(&0_u64.to_le_bytes());
    bytes.extend_from_slice(&(rows as u32).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    let from = bytes.len() as i32;
    bytes.extend_from_slice(&(entries as i32 - from).to_le_bytes());
    bytes.extend_from_slice(&2_u32.to_le_bytes());
    let payload = Payload::from(bytes);
    StoredBatch {
        source: Arc::clone(source),
        schema: Arc::clone(schema),
        first_sequence: 0,
        count: rows as u32,
        position: 0,
        received: 0,
        digest: Digest::of(&payload),
        payload,
        compressed: true,
    }
}

fn pco_chunk<T: pco::data_types::Number>(numbers: &[T]) -> Vec<u8> {
    let file = pco::wrapped::FileCompressor::default();
    let pages = pco::PagingSpec::Exact(vec![numbers.len()]);
    let config = pco::ChunkConfig::default().with_paging_spec(pages);
    let mut chunk = file.chunk_compressor(numbers, &config).unwrap();
    let bytes = chunk.write_meta(file.write_header(Vec::new()).unwrap()).unwrap();
    chunk.write_page(0, bytes).unwrap()
}

fn seal(batches: &[StoredBatch]) -> (Vec<u8>, SealedSummary) {
    let mut writer = SealedWriter::new(LOG);
    batches.iter().for_each(|batch| writer.push(batch.clone()));
    let mut file = Vec::new();
    let summary = writer.finish(&mut file, PathBuf::from("test.ice")).unwrap();
    (file, summary)
}

fn open(file: Vec<u8>) -> SealedSegment {
    SealedSegment::open(Arc::new(file), PathBuf::from("test.ice")).unwrap()
}

/// A value with every bit of it.
fn shown(value: Value<'_>) -> String {
    match value {
        Value::F64(value) => format!("f64 {:x}", value.to_bits()),
        Value::F32(value) => format!("f32 {:x}", value.to_bits()),
        Value::F32List(values) => values.iter().map(|value| format!("f32 {:x},", value.to_bits())).collect(),
        value => format!("{value:?}"),
    }
}

/// The rows of a payload: event times and values.
fn rows(batch: &StoredBatch) -> Vec<(i64, Vec<String>)> {
    let decoded = Batch::validate(batch.payload.clone(), Arc::clone(&batch.schema)).unwrap();
    assert_eq!(decoded.count(), batch.count);
    assert_eq!(decoded.first_sequence(), batch.first_sequence);
    let fields = batch.schema.fields().len();
    let values = |row| (0..fields).map(|field| shown(decoded.column(field).value(row))).collect();
    decoded.times().iter().enumerate().map(|(row, time)| (*time, values(row))).collect()
}

fn is_time_uncertain(batch: &StoredBatch) -> bool {
    icecore_wire::BatchHeader::peek(&batch.payload).unwrap().time_uncertain()
}
