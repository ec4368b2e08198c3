//! What readers see of a device: everything merged.

use std::sync::Arc;

use icecore_wire::{ColumnType, Field, Schema};

use crate::fold::{Angle, Counter, FieldTally, Gauge, Kept, Last, SchemaTally, States, Statistics};
use crate::{DeviceState, fold};

/// A device's events as readers see them, those ahead of their time included.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView {
    /// How many events there are.
    pub events: u64,
    /// How many of them were further ahead of their received time than [`crate::limits::MAX_FUTURE`]. They are in all statistics, but the
    /// last value of a field is one of theirs only where there is no other, and they count in no time range.
    pub ahead: u64,
    /// The earliest and the latest event time, nanoseconds since the Unix epoch; `None` without events at credible times.
    pub times: Option<(i64, i64)>,
    /// How far the server's clock is ahead of the device's, in nanoseconds, as far as that is known.
    pub skew: Option<i64>,
    /// By schema, in the order in which they came first.
    pub schemas: Vec<SchemaView>,
}

/// A device's events of one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaView {
    /// The schema.
    pub schema: Arc<Schema>,
    /// How many events there are.
    pub events: u64,
    /// One for each field.
    pub fields: Vec<FieldView>,
}

/// One field of one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldView {
    /// Events with a value.
    pub values: u64,
    /// Values that are infinite or NaN, and in no statistics.
    pub not_finite: u64,
    /// The latest value.
    pub last: Option<Last>,
    /// The statistics of the field's kind; `None` without values they could be of.
    pub statistics: Option<StatisticsView>,
}

/// The statistics of a field's kind.
#[derive(Debug, Clone, PartialEq)]
pub enum StatisticsView {
    /// Of a level.
    Gauge {
        /// How many values.
        count: u64,
        /// The least one.
        min: Kept,
        /// The greatest one.
        max: Kept,
        /// Their mean; not finite where the values are too large for a double's sum.
        mean: f64,
        /// Their sample variance (n − 1); `None` for a single one.
        variance: Option<f64>,
    },
    /// Of a count.
    Counter {
        /// By how much it rose.
        increase: f64,
        /// How often it began again.
        resets: u64,
        /// Events that came between others and changed nothing.
        late: u64,
    },
    /// Of states.
    States(States),
    /// Of directions.
    Angle {
        /// How many.
        count: u64,
        /// Their mean direction, in the field's unit, from 0 to a full turn.
        mean: f64,
        /// 1 when all agree, 0 when there is no mean.
        resultant: f64,
    },
}

impl DeviceState {
    /// Everything known of the device's events, merged.
    #[must_use]
    pub fn view(&self) -> DeviceView {
        let ahead = self.ahead().map_or(&[][..], fold::Tally::schemas);
        let present = self.tally().schemas();
        let other = |schema: &SchemaTally, of: &[SchemaTally]| {
            of.iter().position(|tally| tally.schema().id() == schema.schema().id())
        };
        let mut schemas: Vec<SchemaView> = present
            .iter()
            .map(|tally| SchemaView::of(tally, other(tally, ahead).map(|at| &ahead[at])))
            .collect();
        let only_ahead = ahead.iter().filter(|tally| other(tally, present).is_none());
        schemas.extend(only_ahead.map(|tally| SchemaView::of(tally, None)));
        let ahead = self.ahead().map_or(0, fold::Tally::events);
        DeviceView {
            events: self.tally().events() + ahead,
            ahead,
            times: self.tally().times(),
            skew: self.skew().estimate(),
            schemas,
        }
    }
}

impl SchemaView {
    fn of(tally: &SchemaTally, ahead: Option<&SchemaTally>) -> Self {
        let schema = Arc::clone(tally.schema());
        let fields = schema.fields().iter().enumerate().map(|(at, field)| {
            FieldView::of(field, &tally.fields()[at], ahead.map(|ahead| &ahead.fields()[at]))
        });
        let fields = fields.collect();
        Self { schema, events: tally.events() + ahead.map_or(0, SchemaTally::events), fields }
    }
}

impl FieldView {
    fn of(field: &Field, tally: &FieldTally, ahead: Option<&FieldTally>) -> Self {
        let sum = |count: fn(&FieldTally) -> u64| count(tally) + ahead.map_or(0, count);
        Self {
            values: sum(FieldTally::values),
            not_finite: sum(FieldTally::not_finite),
            last: tally.last().or_else(|| ahead?.last()).cloned(),
            statistics: StatisticsView::of(field, tally.statistics(), ahead.map(FieldTally::statistics)),
        }
    }
}

impl StatisticsView {
    pub(crate) fn of(field: &Field, tally: &Statistics, ahead: Option<&Statistics>) -> Option<Self> {
        match (tally, ahead) {
            (Statistics::Plain, _) => None,
            (Statistics::Gauge(gauge), Some(Statistics::Gauge(ahead))) => Self::gauge(field, &[gauge, ahead]),
            (Statistics::Gauge(gauge), _) => Self::gauge(field, &[gauge]),
            (Statistics::Counter(counter), Some(Statistics::Counter(ahead))) => {
                Self::counter(&[counter, ahead])
            }
            (Statistics::Counter(counter), _) => Self::counter(&[counter]),
            (Statistics::States(states), ahead) => {
                let mut states = states.clone();
                if let Some(Statistics::States(ahead)) = ahead {
                    states.merge(ahead);
                }
                Some(Self::States(states))
            }
            (Statistics::Angle(angle), ahead) => {
                let mut angle = angle.clone();
                if let Some(Statistics::Angle(ahead)) = ahead {
                    angle.merge(ahead);
                }
                Self::angle(field, &angle)
            }
        }
    }

    fn counter(counters: &[&Counter]) -> Option<Self> {
        let sum = |count: fn(&Counter) -> u64| counters.iter().map(|counter| count(counter)).sum();
        Some(Self::Counter {
            increase: counters.iter().map(|counter| counter.increase()).sum(),
            resets: sum(Counter::resets),
            late: sum(Counter::late),
        })
    }

    fn angle(field: &Field, angle: &Angle) -> Option<Self> {
        let count = angle.count();
        let (part, resultant) = angle.mean();
        let mean = part * fold::turn(field.unit());
        (count > 0).then_some(Self::Angle { count, mean, resultant })
    }

    fn gauge(field: &Field, gauges: &[&Gauge]) -> Option<Self> {
        let mut merged: Option<Level> = None;
        for gauge in gauges.iter().filter(|gauge| gauge.count() > 0) {
            let level = Level::of(field.ty(), gauge);
            merged = Some(merged.map_or_else(|| level.clone(), |before| before.and(&level)));
        }
        let Level { count, mean, spread, min, max } = merged?;
        let variance = (count > 1).then(|| spread / (count - 1) as f64);
        Some(Self::Gauge { count, min: min.0, max: max.0, mean, variance })
    }
}

/// A gauge in numbers that can be merged with another's.
#[derive(Clone)]
struct Level {
    count: u64,
    mean: f64,
    /// Sum of the squared differences from the mean.
    spread: f64,
    min: (Kept, f64),
    max: (Kept, f64),
}

impl Level {
    fn of(ty: ColumnType, gauge: &Gauge) -> Self {
        let (mean, spread) = match ty {
            ColumnType::F64 => gauge.moments::<f64>(),
            ColumnType::F32 => gauge.moments::<f32>(),
            ColumnType::I64 | ColumnType::Timestamp => gauge.moments::<i64>(),
            _ => gauge.moments::<u64>(),
        };
        let (min, max) = gauge.extremes();
        Self { count: gauge.count(), mean, spread, min: kept(ty, min), max: kept(ty, max) }
    }

    fn and(&self, other: &Self) -> Self {
        let (n, m) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        let lesser = if other.min.1 < self.min.1 { &other.min } else { &self.min };
        let greater = if other.max.1 > self.max.1 { &other.max } else { &self.max };
        Self {
            count: self.count + other.count,
            mean: self.mean + apart * m / (n + m),
            spread: self.spread + other.spread + apart * apart * n * m / (n + m),
            min: lesser.clone(),
            max: greater.clone(),
        }
    }
}

/// The number of a column with these bits.
pub(crate) fn kept(ty: ColumnType, bits: u64) -> (Kept, f64) {
    match ty {
        ColumnType::F64 => (Kept::F64(bits), f64::from_bits(bits)),
        ColumnType::F32 => (Kept::F32(bits as u32), f32::from_bits(bits as u32).into()),
        ColumnType::I64 => (Kept::I64(bits.cast_signed()), bits.cast_signed() as f64),
        ColumnType::Timestamp => (Kept::Timestamp(bits.cast_signed()), bits.cast_signed() as f64),
        ColumnType::Bool => (Kept::Bool(bits != 0), bits as f64),
        _ => (Kept::U64(bits), bits as f64),
    }
}
