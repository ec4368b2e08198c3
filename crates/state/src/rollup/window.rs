//! One window of events, and the row that is stored of it.

use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{Batch, ColumnView, Value, Values};
use serde_json::{Value as Json, json};

use super::Rollup;
use super::schema::{EVENTS, FIRST_TIME, LAST_TIME, OF_WINDOW, PARTIAL, QUANTILES, REVISION, Shape};
use super::sketch::Sketch;
use crate::fold::{FieldTally, Kept, Run, SchemaTally, States, Statistics};
use crate::view::{StatisticsView, kept};

/// A value of a row; `None` is a null.
pub type Cell = Option<Kept>;

/// The events of one window, folded in the order of event time.
#[derive(Debug, Clone)]
pub struct Window {
    start: i64,
    tally: SchemaTally,
    fields: Vec<Beside>,
}

/// What a window keeps of a field beside its tally.
#[derive(Debug, Clone)]
enum Beside {
    Nothing,
    /// How often the state changed, and which it is.
    Changes(u64, Option<Kept>),
    Sketch(Box<Sketch>),
}

impl Window {
    /// The window that begins at `start`, without any events.
    #[must_use]
    pub fn new(rollup: &Rollup, start: i64) -> Self {
        let beside = |field| match Shape::of(field, rollup.quantiles) {
            Shape::Gauge { sketch: true } => Beside::Sketch(Box::default()),
            Shape::States => Beside::Changes(0, None),
            _ => Beside::Nothing,
        };
        let fields = rollup.raw.fields().iter().map(beside).collect();
        Self { start, tally: SchemaTally::new(Arc::clone(&rollup.raw)), fields }
    }

    /// Where it begins, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.start
    }

    /// How many events there are.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.tally.events()
    }

    /// Takes in rows of a batch, which is of the epoch of this number: events of this window, in the order of event time, epoch and
    /// sequence, and behind all that were taken in before.
    pub fn fold(&mut self, batch: &Batch, epoch: u32, rows: Range<usize>) {
        let Some(run) = Run::of(batch, epoch, rows.clone()) else { return };
        self.tally.fold(&run);
        for (at, beside) in self.fields.iter_mut().enumerate() {
            match beside {
                Beside::Nothing => {}
                Beside::Changes(changes, state) => {
                    count_changes(changes, state, &batch.column(at), rows.clone());
                }
                Beside::Sketch(sketch) => add_numbers(sketch, &batch.column(at), rows.clone()),
            }
        }
    }

    /// What is stored of it: the cells of a row of [`Rollup::schema`]. `revision` is the position up to which events are in it; it
    /// is `partial` where earlier ones were not there any more.
    #[must_use]
    pub fn row(&self, revision: u64, partial: bool) -> Vec<Cell> {
        let mut row = vec![None; OF_WINDOW];
        row[REVISION] = Some(Kept::U64(revision));
        row[EVENTS] = Some(Kept::U64(self.tally.events()));
        row[FIRST_TIME] = Some(Kept::Timestamp(self.tally.first_time()));
        row[LAST_TIME] = Some(Kept::Timestamp(self.tally.last_time()));
        row[PARTIAL] = Some(Kept::Bool(partial));
        let fields = self.tally.schema().fields().iter().zip(self.tally.fields()).zip(&self.fields);
        for ((field, tally), beside) in fields {
            cells(field, tally, beside, &mut row);
        }
        row
    }
}

/// The cells of a field, in the order of the columns of its [`Shape`].
fn cells(field: &icecore_wire::Field, tally: &FieldTally, beside: &Beside, row: &mut Vec<Cell>) {
    let count = tally.values() - tally.not_finite();
    let last = || tally.last().map(|last| last.value.clone());
    match (StatisticsView::of(field, tally.statistics(), None), tally.statistics()) {
        (Some(StatisticsView::Gauge { count, min, max, mean, variance }), _) => {
            row.extend([u64(count), Some(min), Some(max), f64(mean), variance.and_then(f64), last()]);
        }
        (None, Statistics::Gauge(_)) => row.extend([u64(0), None, None, None, None, last()]),
        (Some(StatisticsView::Counter { increase, resets, .. }), Statistics::Counter(counter)) => {
            let first = counter.first().map(|bits| kept(field.ty(), bits).0);
            row.extend([u64(count), first, f64(increase), u64(resets), last()]);
        }
        (Some(StatisticsView::States(states)), _) => {
            let changes = if let Beside::Changes(changes, _) = beside { *changes } else { 0 };
            row.extend([u64(tally.values()), u64(changes), Some(times(&states)), last()]);
        }
        (Some(StatisticsView::Angle { count, mean, resultant }), _) => {
            row.extend([u64(count), f64(mean), f64(resultant), last()]);
        }
        (None, Statistics::Angle(_)) => row.extend([u64(0), None, None, last()]),
        _ => {
            row.push(u64(tally.values()));
            row.extend((Shape::of(field, false) == Shape::Plain).then(last));
        }
    }
    if let Beside::Sketch(sketch) = beside {
        row.extend(sketch_cells(sketch));
    }
}

/// The quantiles of a sketch that have columns, and the sketch.
pub(super) fn sketch_cells(sketch: &Sketch) -> Vec<Cell> {
    let quantiles = QUANTILES.iter().map(|(_, quantile)| sketch.quantile(*quantile).and_then(f64));
    let bytes = sketch.to_bytes();
    quantiles.chain([Some(Kept::Bytes { bytes: bytes.len() as u32, start: bytes })]).collect()
}

pub(super) fn u64(number: u64) -> Cell {
    Some(Kept::U64(number))
}

pub(super) fn f64(number: f64) -> Cell {
    Some(Kept::F64(number.to_bits()))
}

/// `[["open",3,1500000000],[null,2,10]]`: each state, how many events reported it, and how long it lasted in nanoseconds; with `null` those
/// that are not told apart.
fn times(states: &States) -> Kept {
    let told = states.states().iter();
    let mut told: Vec<Json> =
        told.map(|state| json!([shown(state.value()), state.events(), state.time()])).collect();
    let (events, time) = states.other();
    if events > 0 {
        told.push(json!([null, events, time]));
    }
    text(Json::from(told).to_string())
}

pub(super) fn text(text: String) -> Kept {
    Kept::Text { bytes: text.len() as u32, start: text }
}

/// A state as JSON.
fn shown(state: &Kept) -> Json {
    let number = |number: f64| if number.is_finite() { json!(number) } else { json!(number.to_string()) };
    match state {
        Kept::F64(bits) => number(f64::from_bits(*bits)),
        Kept::F32(bits) => number(f32::from_bits(*bits).into()),
        Kept::I64(state) | Kept::Timestamp(state) => json!(state),
        Kept::U64(state) => json!(state),
        Kept::Bool(state) => json!(state),
        Kept::Text { start, .. } => json!(start),
        Kept::Bytes { start, .. } => {
            json!(start.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Kept::List => Json::Null,
    }
}

fn count_changes(changes: &mut u64, state: &mut Option<Kept>, column: &ColumnView<'_>, rows: Range<usize>) {
    for row in rows {
        let value = column.value(row);
        if value == Value::Null || state.as_ref().is_some_and(|state| state.is(value)) {
            continue;
        }
        let new = Kept::of(value);
        *changes += u64::from(state.is_some() && *state != new);
        *state = new;
    }
}

fn add_numbers(sketch: &mut Sketch, column: &ColumnView<'_>, rows: Range<usize>) {
    for row in rows.filter(|row| !column.is_null(*row)) {
        let number = match column.values {
            Values::F64(values) => values[row],
            Values::F32(values) => values[row].into(),
            Values::I64(values) | Values::Timestamp(values) => values[row] as f64,
            Values::U64(values) => values[row] as f64,
            _ => return,
        };
        if number.is_finite() {
            sketch.add(number);
        }
    }
}
