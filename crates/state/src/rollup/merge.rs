//! Two rows of one window, where the events of the earlier one are not all there any more.

use serde_json::{Value as Json, json};

use super::Rollup;
use super::schema::{EVENTS, FIRST_TIME, LAST_TIME, OF_WINDOW, PARTIAL, REVISION, Shape};
use super::sketch::Sketch;
use super::window::{Cell, f64, sketch_cells, text, u64};
use crate::fold::{Kept, turn};
use crate::limits::MAX_STATES;

impl Rollup {
    /// The row of a window of which `before` was stored and whose events since are in `since`; both are rows of [`Rollup::schema`].
    ///
    /// What happened between an event of the one and an event of the other is not in it: the rise of a counter, the time of a
    /// state. So the row is partial.
    #[must_use]
    pub fn merge(&self, before: &[Cell], since: &[Cell]) -> Vec<Cell> {
        let time = |row: &[Cell], at: usize| match row[at] {
            Some(Kept::Timestamp(time)) => Some(time),
            _ => None,
        };
        let first = |row| time(row, FIRST_TIME).unwrap_or(i64::MAX);
        let last = |row| time(row, LAST_TIME).unwrap_or(i64::MIN);
        let order = Order {
            first_is_before: first(before) <= first(since),
            last_is_since: last(since) >= last(before),
        };
        let mut row = since[..OF_WINDOW].to_vec();
        row[EVENTS] = u64(count(&before[EVENTS]) + count(&since[EVENTS]));
        row[FIRST_TIME] = order.first(&before[FIRST_TIME], &since[FIRST_TIME]);
        row[LAST_TIME] = order.last(&before[LAST_TIME], &since[LAST_TIME]);
        row[PARTIAL] = Some(Kept::Bool(true));
        debug_assert_ne!(row[REVISION], None);
        for field in self.raw().fields() {
            let (a, b) = (&before[row.len()..], &since[row.len()..]);
            let merged = match Shape::of(field, self.quantiles) {
                Shape::Gauge { sketch } => gauge(a, b, &order, sketch),
                Shape::Counter => vec![
                    sum(&a[0], &b[0]),
                    order.first(&a[1], &b[1]),
                    f64(number(&a[2]) + number(&b[2])),
                    sum(&a[3], &b[3]),
                    order.last(&a[4], &b[4]),
                ],
                Shape::States => vec![
                    sum(&a[0], &b[0]),
                    sum(&a[1], &b[1]),
                    Some(times(&a[2], &b[2])),
                    order.last(&a[3], &b[3]),
                ],
                Shape::Angle => angle(a, b, &order, turn(field.unit())),
                Shape::Plain => vec![sum(&a[0], &b[0]), order.last(&a[1], &b[1])],
                Shape::List => vec![sum(&a[0], &b[0])],
            };
            row.extend(merged);
        }
        row
    }
}

/// Which of two rows has the earliest event of the window, and which the latest.
struct Order {
    first_is_before: bool,
    last_is_since: bool,
}

impl Order {
    fn first(&self, before: &Cell, since: &Cell) -> Cell {
        let (first, other) = if self.first_is_before { (before, since) } else { (since, before) };
        first.as_ref().or(other.as_ref()).cloned()
    }

    fn last(&self, before: &Cell, since: &Cell) -> Cell {
        let (last, other) = if self.last_is_since { (since, before) } else { (before, since) };
        last.as_ref().or(other.as_ref()).cloned()
    }
}

fn count(cell: &Cell) -> u64 {
    if let Some(Kept::U64(count)) = cell { *count } else { 0 }
}

fn number(cell: &Cell) -> f64 {
    if let Some(Kept::F64(bits)) = cell { f64::from_bits(*bits) } else { 0.0 }
}

fn sum(a: &Cell, b: &Cell) -> Cell {
    u64(count(a).saturating_add(count(b)))
}

/// `count`, `min`, `max`, `mean`, `variance`, `last`, and with a sketch its columns.
fn gauge(a: &[Cell], b: &[Cell], order: &Order, sketch: bool) -> Vec<Cell> {
    let (n, m) = (count(&a[0]) as f64, count(&b[0]) as f64);
    let statistics = match (n > 0.0, m > 0.0) {
        (_, false) => a[..5].to_vec(),
        (false, true) => b[..5].to_vec(),
        (true, true) => {
            let apart = number(&b[3]) - number(&a[3]);
            let spread =
                number(&a[4]) * (n - 1.0) + number(&b[4]) * (m - 1.0) + apart * apart * n * m / (n + m);
            let is_less = |a: &Cell, b: &Cell| a.as_ref().map(magnitude) <= b.as_ref().map(magnitude);
            let lesser = if is_less(&a[1], &b[1]) { &a[1] } else { &b[1] };
            let greater = if is_less(&a[2], &b[2]) { &b[2] } else { &a[2] };
            let mean = number(&a[3]) + apart * m / (n + m);
            vec![sum(&a[0], &b[0]), lesser.clone(), greater.clone(), f64(mean), f64(spread / (n + m - 1.0))]
        }
    };
    let mut cells = statistics;
    cells.push(order.last(&a[5], &b[5]));
    if sketch {
        let read = |cell: &Cell| match cell {
            Some(Kept::Bytes { start, .. }) => Sketch::from_bytes(start).unwrap_or_default(),
            _ => Sketch::default(),
        };
        let mut merged = read(&a[9]);
        merged.merge(&read(&b[9]));
        cells.extend(sketch_cells(&merged));
    }
    cells
}

/// What numbers are compared by.
fn magnitude(kept: &Kept) -> f64 {
    match kept {
        Kept::F64(bits) => f64::from_bits(*bits),
        Kept::F32(bits) => f32::from_bits(*bits).into(),
        Kept::I64(number) | Kept::Timestamp(number) => *number as f64,
        Kept::U64(number) => *number as f64,
        Kept::Bool(truth) => f64::from(u8::from(*truth)),
        Kept::Text { .. } | Kept::Bytes { .. } | Kept::List => 0.0,
    }
}

/// `count`, `mean`, `length`, `last`.
fn angle(a: &[Cell], b: &[Cell], order: &Order, turn: f64) -> Vec<Cell> {
    let tau = std::f64::consts::TAU;
    let vector = |cells: &[Cell]| {
        let sum = number(&cells[2]) * count(&cells[0]) as f64;
        let (sine, cosine) = libm::sincos(number(&cells[1]) * (tau / turn));
        (sum * sine, sum * cosine)
    };
    let ((a_sine, a_cosine), (b_sine, b_cosine)) = (vector(a), vector(b));
    let (sine, cosine) = (a_sine + b_sine, a_cosine + b_cosine);
    let all = count(&a[0]) + count(&b[0]);
    let mean = (libm::atan2(sine, cosine) / tau).rem_euclid(1.0) * turn;
    let is_any = |cell: f64| (all > 0).then(|| Kept::F64(cell.to_bits()));
    vec![u64(all), is_any(mean), is_any(libm::hypot(sine, cosine) / all as f64), order.last(&a[3], &b[3])]
}

/// The times of states of both, by state.
fn times(a: &Cell, b: &Cell) -> Kept {
    let read = |cell: &Cell| match cell {
        Some(Kept::Text { start, .. }) => {
            serde_json::from_str::<Vec<(Json, u64, u64)>>(start).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let mut all = read(a);
    for (state, events, time) in read(b) {
        let is_full = all.iter().filter(|known| !known.0.is_null()).count() >= MAX_STATES;
        let known = all.iter().position(|known| known.0 == state);
        let state = if known.is_none() && is_full { Json::Null } else { state };
        match all.iter_mut().find(|known| known.0 == state) {
            Some(known) => (known.1, known.2) = (known.1 + events, known.2.saturating_add(time)),
            None => all.push((state, events, time)),
        }
    }
    all.sort_by_key(|(state, ..)| state.is_null());
    text(json!(all).to_string())
}
