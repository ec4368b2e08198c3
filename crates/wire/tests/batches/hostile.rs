use std::hint::black_box;
use std::sync::Arc;

use icecore_wire::limits::MAX_DECODED_BATCH_BYTES;
use icecore_wire::{
    Batch, BatchError, ColumnData, ColumnError, ColumnType, EncodeOptions, Field, Payload, Schema, encode,
};
use proptest::prelude::*;

use super::generate::{events, options};
use super::memory::taken_by;

/// What validation may take beside the decoded columns: pco's tables (at most 2^14 bins and states for each of three
/// variables) and its windows.
const WORKING_SET: usize = 4 << 20;

/// Validates, and reads every value when the batch is accepted.
fn read_all(payload: Payload, schema: &Arc<Schema>) -> Result<(), BatchError> {
    let (result, peak, _) = taken_by(|| Batch::validate(payload, Arc::clone(schema)));
    assert!(peak <= MAX_DECODED_BATCH_BYTES + WORKING_SET, "validation took {peak} bytes");
    let batch = result?;
    for field in 0..schema.fields().len() {
        let column = batch.column(field);
        for row in 0..batch.count() as usize {
            black_box(column.value(row));
        }
    }
    Ok(())
}

/// Where pco columns may start: an aligned byte vector that begins with pco's version.
fn pco_starts(payload: &[u8]) -> Vec<usize> {
    (0..payload.len()).step_by(8).filter(|at| matches!(payload[*at..], [4, 0 | 1, ..])).collect()
}

#[derive(Debug, Clone)]
enum Damage {
    Byte {
        at: prop::sample::Index,
        byte: u8,
    },
    /// In the first bytes of a pco column, where its metadata are.
    PcoBit {
        column: prop::sample::Index,
        bit: usize,
    },
    Cut {
        at: prop::sample::Index,
    },
    Extend {
        with: Vec<u8>,
    },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            _ if bytes.is_empty() => {}
            Self::Byte { at, byte } => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::PcoBit { column, bit } => {
                let starts = pco_starts(bytes);
                if !starts.is_empty() {
                    let at = (starts[column.index(starts.len())] + bit / 8).min(bytes.len() - 1);
                    bytes[at] ^= 1 << (bit % 8);
                }
            }
            Self::Cut { at } => bytes.truncate(at.index(bytes.len())),
            Self::Extend { with } => bytes.extend_from_slice(with),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte { at, byte }),
        8 => (index(), 16..320usize).prop_map(|(column, bit)| Damage::PcoBit { column, bit }),
        1 => index().prop_map(|at| Damage::Cut { at }),
        1 => prop::collection::vec(any::<u8>(), 1..50).prop_map(|with| Damage::Extend { with }),
    ]
}

proptest! {
    #[test]
    fn damaged_batches_are_refused_or_read(
        events in events(),
        options in options(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = events.encode(0, options).to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        let _ = read_all(Payload::copy_from(&bytes), &events.schema);
    }

    #[test]
    fn random_bytes_are_refused(events in events(), bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(read_all(Payload::copy_from(&bytes), &events.schema).is_err());
    }

    /// Random bytes where a pco column's data belong, after a known mode and, in classic mode, delta encoding.
    #[test]
    fn random_pco_is_refused_or_read(
        mode in 0..5u8,
        delta in 0..4u8,
        mut noise in prop::collection::vec(any::<u8>(), 30..200),
        ty in 0..5usize,
    ) {
        noise[0] = mode | delta << 4;
        let (schema, payload) = compressed(ty);
        let start = *pco_starts(&payload).last().expect("the value column is compressed");
        let mut bytes = payload.to_vec();
        let end = (start + 2 + noise.len()).min(bytes.len());
        bytes[start + 2..end].copy_from_slice(&noise[..end - start - 2]);
        let _ = read_all(Payload::copy_from(&bytes), &schema);
    }
}

/// A batch of 2,000 rows whose one column pco makes some hundred bytes of.
fn compressed(ty: usize) -> (Arc<Schema>, Payload) {
    let numbers: Vec<i64> = (0..2000).map(|i| i * i % 977 * 3).collect();
    let f64s: Vec<f64> = numbers.iter().map(|n| *n as f64 / 10.0).collect();
    let f32s: Vec<f32> = numbers.iter().map(|n| *n as f32 / 8.0).collect();
    let u64s: Vec<u64> = numbers.iter().map(|n| *n as u64).collect();
    let i16s: Vec<i16> = numbers.iter().map(|n| *n as i16).collect();
    let (ty, data) = [
        (ColumnType::F64, ColumnData::F64(&f64s)),
        (ColumnType::F32, ColumnData::F32(&f32s)),
        (ColumnType::I64, ColumnData::I64(&numbers)),
        (ColumnType::U64, ColumnData::U64(&u64s)),
        (ColumnType::I16List(1), ColumnData::I16List(&i16s)),
    ][ty];
    let schema = Arc::new(Schema::new("numbers", 1, vec![Field::new("n", ty)]).expect("a valid schema"));
    let options = EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN };
    let payload = encode(&schema, 0, &vec![0; 2000], &[data.into()], options).expect("a valid batch");
    (schema, payload)
}

/// Overwrites the first bits of the value column's chunk, from its mode on.
fn claiming(bits: u64) -> (Arc<Schema>, Payload) {
    let (schema, payload) = compressed(2);
    let start = *pco_starts(&payload).last().expect("the value column is compressed");
    let mut bytes = payload.to_vec();
    bytes[start + 2..start + 10].copy_from_slice(&bits.to_le_bytes());
    (schema, Payload::copy_from(&bytes))
}

#[test]
fn claims_of_great_dictionaries_and_windows_are_refused_before_memory_is_taken() {
    let dictionary = 4 | ((1 << 24) << 4);
    let lookback_window_of_2_to_24 = (2 << 4) | (23 << 8);
    for (bits, message) in
        [(dictionary, "dictionary of 16777216"), (lookback_window_of_2_to_24, "window of 2^24")]
    {
        let (schema, payload) = claiming(bits);
        let (result, peak, _) = taken_by(|| Batch::validate(payload, schema));
        match result {
            Err(BatchError::Column { error: ColumnError::Pco(reason), .. }) => {
                assert!(reason.contains(message), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        // The times were decoded before: 16 KB and their tables.
        assert!(peak < 200_000, "took {peak} bytes");
    }
}

#[test]
fn a_small_batch_that_decodes_to_too_much_is_refused() {
    let columns = MAX_DECODED_BATCH_BYTES / (65_536 * 8) + 1;
    let fields = (0..columns).map(|i| Field::new(format!("f{i}"), ColumnType::F64)).collect();
    let schema = Arc::new(Schema::new("wide", 1, fields).unwrap());
    let one = vec![1.0; 1000];
    let column = ColumnData::F64(&one).into();
    let options = EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN };
    let payload = encode(&schema, 0, &[0; 1000], &vec![column; columns], options).unwrap();
    let mut bytes = payload.to_vec();
    let count = bytes.len() - 16;
    bytes[count..count + 4].copy_from_slice(&65_536u32.to_le_bytes());
    let (result, peak, _) = taken_by(|| Batch::validate(Payload::copy_from(&bytes), schema));
    assert_eq!(result.unwrap_err(), BatchError::DecodedTooLarge((columns + 1) * 65_536 * 8));
    assert!(peak < 2 * bytes.len(), "took {peak} bytes");
}
