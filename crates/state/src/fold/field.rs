//! One field of a device's events.

use std::mem::discriminant;

use icecore_wire::{Bitmap, ColumnType, ColumnView, Field, Kind, Values};
use rkyv::{Archive, Deserialize, Serialize};

use super::angle::turn;
use super::number::Number;
use super::{Angle, Counter, EventPoint, Gauge, Kept, Run, States};

/// What is known of one field.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub struct FieldTally {
    values: u64,
    not_finite: u64,
    last: Option<Last>,
    statistics: Statistics,
}

/// The value of the latest event that has one.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub struct Last {
    /// Where the event stands.
    pub at: EventPoint,
    /// Its value.
    pub value: Kept,
}

/// The statistics of a field's kind.
#[derive(Debug, Clone, PartialEq, Archive, Serialize, Deserialize)]
pub enum Statistics {
    /// None beside the last value: a list, or a kind that makes no sense for the type.
    Plain,
    /// Of a level.
    Gauge(Gauge),
    /// Of a count.
    Counter(Counter),
    /// Of one of a few states.
    States(States),
    /// Of a direction.
    Angle(Angle),
}

impl Statistics {
    fn of(field: &Field) -> Self {
        let is_number = matches!(
            field.ty(),
            ColumnType::F64 | ColumnType::F32 | ColumnType::I64 | ColumnType::U64 | ColumnType::Timestamp
        );
        match (field.kind(), field.ty()) {
            (Kind::State, ColumnType::F32List(_) | ColumnType::I16List(_)) => Self::Plain,
            (Kind::State, _) => Self::States(States::default()),
            (Kind::Gauge, ColumnType::Bool) => Self::Gauge(Gauge::default()),
            (Kind::Gauge, _) if is_number => Self::Gauge(Gauge::default()),
            (Kind::Counter, _) if is_number => Self::Counter(Counter::default()),
            (Kind::Angle, _) if is_number => Self::Angle(Angle::default()),
            _ => Self::Plain,
        }
    }
}

impl FieldTally {
    pub(crate) fn new(field: &Field) -> Self {
        Self { values: 0, not_finite: 0, last: None, statistics: Statistics::of(field) }
    }

    /// Events that have a value: nulls count nowhere.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.values
    }

    /// Values that are infinite or NaN. They may be the last one, but no statistics take them in; a field of kind `state` takes
    /// them as states.
    #[must_use]
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// The latest value.
    #[must_use]
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// The statistics of the field's kind.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Whether it can be of this field.
    pub(crate) fn is_of(&self, field: &Field) -> bool {
        discriminant(&self.statistics) == discriminant(&Statistics::of(field))
    }

    /// About how many bytes it takes in a snapshot.
    pub(crate) fn weight(&self) -> usize {
        let last = match self.last.as_ref().map(|last| &last.value) {
            Some(Kept::Text { start, .. }) => start.len(),
            Some(Kept::Bytes { start, .. }) => start.len(),
            _ => 0,
        };
        let states = match &self.statistics {
            Statistics::States(states) => 64 * states.states().len(),
            _ => 0,
        };
        size_of::<ArchivedFieldTally>() + last + states
    }

    /// Takes in a run of rows.
    pub(crate) fn fold(&mut self, field: &Field, run: &Run<'_>, column: &ColumnView<'_>) {
        match column.validity {
            None => self.fold_values(field, run, column),
            Some(valid) => run.parts(|row| valid.get(row), |part| self.fold_values(field, part, column)),
        }
    }

    /// Takes in a run of rows without nulls.
    fn fold_values(&mut self, field: &Field, run: &Run<'_>, column: &ColumnView<'_>) {
        self.values += run.len() as u64;
        let at = run.point_of(run.newest());
        if self.last.as_ref().is_none_or(|last| at > last.at)
            && let Some(value) = Kept::of(column.value(run.newest()))
        {
            self.last = Some(Last { at, value });
        }
        if let Statistics::States(states) = &mut self.statistics {
            return states.fold(run, column);
        }
        match column.values {
            Values::F64(values) => self.fold_numbers(field, run, values),
            Values::F32(values) => self.fold_numbers(field, run, values),
            Values::I64(values) | Values::Timestamp(values) => self.fold_numbers(field, run, values),
            Values::U64(values) => self.fold_numbers(field, run, values),
            Values::Bool(bits) => self.fold_bits(run, bits),
            Values::Text(_) | Values::Bytes(_) | Values::F32List { .. } | Values::I16List { .. } => {}
        }
    }

    fn fold_numbers<N: Number + PartialOrd>(&mut self, field: &Field, run: &Run<'_>, column: &[N]) {
        let values = &column[run.rows()];
        let finite = values.iter().fold(true, |finite, value| finite & value.is_finite());
        if finite {
            return self.fold_finite(field, run, values);
        }
        let mut taken = 0;
        run.parts(
            |row| column[row].is_finite(),
            |part| {
                taken += part.len();
                self.fold_finite(field, part, &column[part.rows()]);
            },
        );
        self.not_finite += (run.len() - taken) as u64;
    }

    fn fold_finite<N: Number + PartialOrd>(&mut self, field: &Field, run: &Run<'_>, values: &[N]) {
        match &mut self.statistics {
            Statistics::Gauge(gauge) => gauge.fold(values),
            Statistics::Counter(counter) => counter.fold(run, values),
            Statistics::Angle(angle) => angle.fold(values, turn(field.unit())),
            Statistics::Plain | Statistics::States(_) => {}
        }
    }

    /// Truth values are a level of 0 or 1: the mean is the share of events that say true.
    fn fold_bits(&mut self, run: &Run<'_>, bits: Bitmap<'_>) {
        let Statistics::Gauge(gauge) = &mut self.statistics else { return };
        let mut numbers = [0_u64; 64];
        let rows = run.rows();
        for start in rows.clone().step_by(numbers.len()) {
            let len = numbers.len().min(rows.end - start);
            for (offset, number) in numbers[..len].iter_mut().enumerate() {
                *number = bits.get(start + offset).into();
            }
            gauge.fold(&numbers[..len]);
        }
    }
}
