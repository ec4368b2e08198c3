//! Random histories of one device: late and reordered events, several epochs, rogue clocks, nulls, numbers that are none.

use std::sync::Arc;

use icecore_log::{Fact, Source};
use icecore_state::{DeviceState, Fleet};
use icecore_wire::{
    Batch, BatchBuilder, ColumnType, Digest, EncodeOptions, Epoch, Field, Kind, Schema, Value,
};
use proptest::prelude::*;
use proptest::sample::select;

/// What stands in an event, in plain types.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) time: i64,
    pub(crate) received: i64,
    pub(crate) uncertain: bool,
    pub(crate) level: Option<f64>,
    pub(crate) count: i64,
    pub(crate) mode: Option<String>,
    pub(crate) heading: f64,
    pub(crate) single: f32,
    pub(crate) unsigned: u64,
    pub(crate) flag: bool,
    pub(crate) revolutions: f64,
}

/// Batches as they came: consecutive sequences of one epoch, received at once.
#[derive(Debug, Clone)]
pub(crate) struct History(pub(crate) Vec<Vec<Event>>);

pub(crate) fn schema() -> Arc<Schema> {
    let field = |name: &str, ty, kind| Field::new(name, ty).with_kind(kind);
    let fields = vec![
        field("level", ColumnType::F64, Kind::Gauge).nullable(),
        field("count", ColumnType::I64, Kind::Counter),
        field("mode", ColumnType::Text, Kind::State).nullable(),
        field("heading", ColumnType::F64, Kind::Angle).with_unit("deg"),
        field("single", ColumnType::F32, Kind::Gauge),
        field("unsigned", ColumnType::U64, Kind::Gauge),
        field("flag", ColumnType::Bool, Kind::Gauge),
        field("revolutions", ColumnType::F64, Kind::Counter),
    ];
    Arc::new(Schema::new("machine", 1, fields).unwrap())
}

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_760_000_000 * SECOND;

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (-1000_i32..1000).prop_map(|n| f64::from(n) / 8.0 + 100_000.0),
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0]),
    ]
}

/// How far an event's time is from when it is received.
fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 0..20 * SECOND,
        2 => 0..10_000 * SECOND,
        1 => -3_700 * SECOND..0,
        1 => select(vec![NOW, -40 * 365 * 86_400 * SECOND, i64::MAX - NOW - 10_000_000 * SECOND]),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let numbers = (prop::option::weighted(0.8, double()), 0_i64..50, double(), 0_u32..100);
    let mode = prop::option::weighted(0.9, select(vec!["on", "off", "idle", ""]));
    (delay(), numbers, mode, 0_i32..800, any::<bool>(), select(vec![0, 7, u64::MAX, 1 << 60])).prop_map(
        |(delay, (level, count, revolutions, single), mode, heading, flag, unsigned)| Event {
            epoch: 0,
            sequence: 0,
            time: delay,
            received: 0,
            uncertain: false,
            level,
            count,
            mode: mode.map(str::to_owned),
            heading: f64::from(heading),
            single: if single == 0 { f32::NAN } else { single as f32 },
            unsigned,
            flag,
            revolutions,
        },
    )
}

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let batch = (0_u32..3, 0..2_000_u64, prop::collection::vec(event(), 1..12), 0..10_u8, any::<bool>());
    prop::collection::vec(batch, 1..12).prop_map(|batches| {
        let (mut received, mut next) = (NOW, [0_u64; 3]);
        let placed = batches.into_iter().map(|(epoch, pause, mut events, jump, in_order)| {
            received += pause as i64 * SECOND;
            // Dropped or refused sequences leave gaps.
            next[epoch as usize] += u64::from(jump / 9);
            events.iter_mut().for_each(|event| event.time = received.saturating_sub(event.time));
            if in_order {
                events.sort_by_key(|event| event.time);
            }
            for event in &mut events {
                (event.epoch, event.sequence, event.received) = (epoch, next[epoch as usize], received);
                event.uncertain = jump == 0;
                next[epoch as usize] += 1;
            }
            events
        });
        History(placed.collect())
    })
}

impl History {
    /// All events in log order.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.concat()
    }

    /// The same events in smaller or larger batches, as far as a batch can hold them.
    pub(crate) fn cut_again(&self, sizes: &[usize]) -> Self {
        let mut sizes = sizes.iter().cycle();
        let mut batches: Vec<Vec<Event>> = Vec::new();
        let mut room = 0;
        for event in self.events() {
            let follows = batches.last().and_then(|batch| batch.last()).is_some_and(|last| {
                (last.epoch, last.sequence + 1, last.received, last.uncertain)
                    == (event.epoch, event.sequence, event.received, event.uncertain)
            });
            if !follows || room == 0 {
                batches.push(Vec::new());
                room = *sizes.next().unwrap();
            }
            room -= 1;
            batches.last_mut().unwrap().push(event);
        }
        Self(batches)
    }
}

fn encode(events: &[Event], schema: &Arc<Schema>) -> Batch {
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    for event in events {
        let row = [
            event.level.map_or(Value::Null, Value::F64),
            Value::I64(event.count),
            event.mode.as_deref().map_or(Value::Null, Value::Text),
            Value::F64(event.heading),
            Value::F32(event.single),
            Value::U64(event.unsigned),
            Value::Bool(event.flag),
            Value::F64(event.revolutions),
        ];
        builder.row(event.time, &row).unwrap();
    }
    let options = EncodeOptions { time_uncertain: events[0].uncertain, ..EncodeOptions::default() };
    let payload = builder.finish(events[0].sequence, options).unwrap();
    Batch::validate(payload, Arc::clone(schema)).unwrap()
}

/// A batch as the log tells of it.
pub(crate) struct Told {
    pub(crate) source: Arc<Source>,
    pub(crate) received: i64,
    pub(crate) batch: Batch,
}

impl Told {
    pub(crate) fn fact(&self) -> Fact<'_> {
        Fact::Batch {
            source: &self.source,
            schema: self.batch.schema(),
            first_sequence: self.batch.first_sequence(),
            count: self.batch.count(),
            position: 0,
            received: self.received,
            digest: Digest::of(&[]),
        }
    }

    /// Folds it into its device's state in a fleet.
    pub(crate) fn fold_into(&self, fleet: &mut Fleet) {
        fleet.take(&self.fact(), self.received, &self.batch);
    }
}

impl History {
    /// Its batches as those of a device.
    pub(crate) fn told_of(&self, device: &str) -> Vec<Told> {
        let schema = schema();
        let told = self.0.iter().map(|events| {
            let (number, received) = (events[0].epoch, events[0].received);
            let epoch = Epoch::from_bytes([number as u8; 16]);
            let source = Arc::new(Source { device: device.parse().unwrap(), epoch, number });
            Told { source, received, batch: encode(events, &schema) }
        });
        told.collect()
    }
}

/// Folds a history, batch by batch.
pub(crate) fn fold(history: &History) -> DeviceState {
    let mut state = DeviceState::default();
    for told in history.told_of("press") {
        state.apply(&told.fact());
        state.fold(told.source.number, told.received, &told.batch, 0..told.batch.count() as usize);
    }
    state
}
