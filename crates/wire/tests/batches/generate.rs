//! Schemas and rows with everything that is easily lost on the way.

use std::sync::Arc;

use icecore_wire::{BatchBuilder, ColumnType, EncodeOptions, Field, Payload, Schema, Value};
use proptest::prelude::*;

/// One value that owns what it holds.
#[derive(Debug, Clone)]
pub(crate) enum Owned {
    F64(f64),
    F32(f32),
    I64(i64),
    U64(u64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Timestamp(i64),
    F32List(Vec<f32>),
    I16List(Vec<i16>),
}

impl Owned {
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::F64(value) => Value::F64(*value),
            Self::F32(value) => Value::F32(*value),
            Self::I64(value) => Value::I64(*value),
            Self::U64(value) => Value::U64(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(value) => Value::Text(value),
            Self::Bytes(value) => Value::Bytes(value),
            Self::Timestamp(value) => Value::Timestamp(*value),
            Self::F32List(values) => Value::F32List(values),
            Self::I16List(values) => Value::I16List(values),
        }
    }
}

/// Events of one schema, by column; `None` is null.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    pub(crate) schema: Arc<Schema>,
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<Vec<Option<Owned>>>,
}

impl Events {
    pub(crate) fn row(&self, row: usize) -> Vec<Value<'_>> {
        self.columns.iter().map(|column| column[row].as_ref().map_or(Value::Null, Owned::as_value)).collect()
    }

    pub(crate) fn encode(&self, first_sequence: u64, options: EncodeOptions) -> Payload {
        let mut builder = BatchBuilder::new(Arc::clone(&self.schema));
        for (row, time) in self.times.iter().enumerate() {
            builder.row(*time, &self.row(row)).expect("the row fits the schema");
        }
        let most = builder.bytes();
        let payload = builder.finish(first_sequence, options).expect("there are rows");
        assert!(payload.len() <= most, "{} bytes where at most {most} were foretold", payload.len());
        payload
    }
}

pub(crate) fn options() -> impl Strategy<Value = EncodeOptions> {
    (prop::option::of(0..=12u8), any::<bool>()).prop_map(|(pco, time_uncertain)| EncodeOptions {
        pco,
        time_uncertain,
        ..EncodeOptions::PLAIN
    })
}

pub(crate) fn events() -> impl Strategy<Value = Events> {
    let columns = prop::collection::vec((column_type(), any::<bool>()), 1..6);
    (columns, rows()).prop_flat_map(|(columns, rows)| {
        let fields = columns.iter().enumerate().map(|(i, (ty, nullable))| {
            let field = Field::new(format!("field {i}"), *ty);
            if *nullable { field.nullable() } else { field }
        });
        let schema = Arc::new(Schema::new("any", 1, fields.collect()).expect("the schema is valid"));
        let columns: Vec<_> = columns.into_iter().map(|(ty, nullable)| column(ty, nullable, rows)).collect();
        let times = prop_oneof![
            prop::collection::vec(any::<i64>(), rows),
            any::<i32>()
                .prop_map(move |start| (0..rows as i64).map(|i| i64::from(start) + i * 1_000_000).collect()),
        ];
        (times, columns).prop_map(move |(times, columns)| Events {
            schema: Arc::clone(&schema),
            times,
            columns,
        })
    })
}

/// Around the borders of bitmaps' bytes and of pco's groups of 256.
fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..20usize, 1 => 250..260usize, 1 => 500..600usize]
}

fn column_type() -> impl Strategy<Value = ColumnType> {
    prop_oneof![
        Just(ColumnType::F64),
        Just(ColumnType::F32),
        Just(ColumnType::I64),
        Just(ColumnType::U64),
        Just(ColumnType::Bool),
        Just(ColumnType::Text),
        Just(ColumnType::Bytes),
        Just(ColumnType::Timestamp),
        (1..4u16).prop_map(ColumnType::F32List),
        (1..4u16).prop_map(ColumnType::I16List),
    ]
}

fn column(ty: ColumnType, nullable: bool, rows: usize) -> BoxedStrategy<Vec<Option<Owned>>> {
    let value = if nullable {
        prop_oneof![1 => Just(None), 3 => value(ty).prop_map(Some)].boxed()
    } else {
        value(ty).prop_map(Some).boxed()
    };
    prop_oneof![
        prop::collection::vec(value.clone(), rows),
        // Few distinct values, in runs: what pco makes dictionaries and lookbacks of.
        (prop::collection::vec(value, 1..4), 1..40usize).prop_map(move |(values, run)| (0..rows)
            .map(|row| values[row / run % values.len()].clone())
            .collect()),
    ]
    .boxed()
}

fn value(ty: ColumnType) -> BoxedStrategy<Owned> {
    match ty {
        ColumnType::F64 => f64s().prop_map(Owned::F64).boxed(),
        ColumnType::F32 => f32s().prop_map(Owned::F32).boxed(),
        ColumnType::I64 => i64s().prop_map(Owned::I64).boxed(),
        ColumnType::U64 => i64s().prop_map(|value| Owned::U64(value as u64)).boxed(),
        ColumnType::Bool => any::<bool>().prop_map(Owned::Bool).boxed(),
        ColumnType::Text => prop_oneof!["", "\\PC{0,5}", "[🌡𝄞é\u{0}]{1,3}"].prop_map(Owned::Text).boxed(),
        ColumnType::Bytes => prop::collection::vec(any::<u8>(), 0..6).prop_map(Owned::Bytes).boxed(),
        ColumnType::Timestamp => i64s().prop_map(Owned::Timestamp).boxed(),
        ColumnType::F32List(length) => {
            prop::collection::vec(f32s(), usize::from(length)).prop_map(Owned::F32List).boxed()
        }
        ColumnType::I16List(length) => {
            prop::collection::vec(any::<i16>(), usize::from(length)).prop_map(Owned::I16List).boxed()
        }
    }
}

/// Any bit pattern (so also every NaN payload), the special ones, and decimals such as sensors send.
fn f64s() -> impl Strategy<Value = f64> {
    let special =
        [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN, f64::MIN_POSITIVE / 3.0, f64::MAX];
    let signalling = f64::from_bits(0x7ff0_0000_dead_beef);
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(special.to_vec()),
        Just(signalling),
        (-10_000..10_000i32).prop_map(|value| f64::from(value) / 100.0),
    ]
}

fn f32s() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        prop::sample::select(vec![0.0, -0.0, f32::INFINITY, f32::NAN, f32::from_bits(0xff80_0001)]),
        (-10_000..10_000i16).prop_map(|value| f32::from(value) / 8.0),
    ]
}

fn i64s() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]),
        (0..1000i64).prop_map(|v| v * 12)
    ]
}
