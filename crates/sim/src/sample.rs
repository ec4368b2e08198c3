//! What the simulated devices measure: schemas and batches of them.

use std::sync::Arc;

use fastrand::Rng;
use icecore_wire::{
    Column, ColumnData, ColumnType, DeviceName, EncodeOptions, Epoch, Field, Payload, Schema, encode,
};

/// The schemas that devices use.
#[derive(Debug)]
pub(crate) struct Schemas {
    current: Arc<Schema>,
    /// Follows from `current`.
    next: Arc<Schema>,
    /// Calls itself what `next` is called, and is not: one of the two is refused.
    rogue: Arc<Schema>,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let schema = |version, extra: Option<Field>| {
            let mut fields = vec![Field::new("level", ColumnType::F64), Field::new("turns", ColumnType::I64)];
            fields.extend(extra);
            Arc::new(Schema::new("pump", version, fields).expect("the schema is valid"))
        };
        Self {
            current: schema(1, None),
            next: schema(2, Some(Field::new("note", ColumnType::Text).nullable())),
            rogue: schema(2, Some(Field::new("note", ColumnType::I64).nullable())),
        }
    }

    fn pick(&self, rng: &mut Rng) -> &Arc<Schema> {
        match rng.u8(..20) {
            0 => &self.rogue,
            1 | 2 => &self.next,
            _ => &self.current,
        }
    }
}

/// A cut batch.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The schema that is announced with it: not its own when the device gets it wrong.
    pub(crate) announced: Arc<Schema>,
    pub(crate) first_sequence: u64,
    pub(crate) count: u32,
    pub(crate) payload: Payload,
}

impl Sample {
    /// A batch of `count` random events.
    pub(crate) fn random(schemas: &Schemas, first_sequence: u64, count: u32, rng: &mut Rng) -> Self {
        let schema = Arc::clone(schemas.pick(rng));
        let announced = if rng.u8(..60) == 0 { &schemas.next } else { &schema };
        let announced = Arc::clone(announced);
        let rows = 0..count;
        let times: Vec<i64> = rows.clone().map(|_| rng.i64(..)).collect();
        let levels: Vec<f64> = rows.clone().map(|_| rng.f64()).collect();
        let turns: Vec<i64> = rows.clone().map(|_| rng.i64(..1000)).collect();
        let notes: Vec<&str> = rows.map(|_| if rng.bool() { "" } else { "primed" }).collect();
        let extra = schema.fields().get(2).map(|note| match note.ty() {
            ColumnType::Text => ColumnData::Text(&notes),
            _ => ColumnData::I64(&turns),
        });
        let columns = [ColumnData::F64(&levels), ColumnData::I64(&turns)];
        let columns: Vec<Column<'_>> = columns.into_iter().chain(extra).map(Column::new).collect();
        let options =
            EncodeOptions { pco: rng.bool().then_some(4), time_uncertain: false, ..EncodeOptions::PLAIN };
        let payload = encode(&schema, first_sequence, &times, &columns, options).expect("the batch is valid");
        Self { announced, first_sequence, count, payload }
    }

    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        self.first_sequence..self.first_sequence + u64::from(self.count)
    }
}

/// The name of the n-th device.
pub(crate) fn device_name(n: usize) -> DeviceName {
    format!("plant/pump {n}").parse().expect("the name is valid")
}

/// A new epoch. Random as they are in life, but by the seed.
pub(crate) fn epoch(rng: &mut Rng) -> Epoch {
    Epoch::from_bytes(rng.u128(..).to_le_bytes())
}
