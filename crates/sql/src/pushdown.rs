//! What the log takes over of a statement's conditions.
//!
//! Ranges of event times and positions, and devices by name, are asked of the log, which gives exactly these. Everything else only rules
//! out what need not be read, and the engine looks at every row once more: NaN is beyond every number there, at
//! either end by its sign, which statistics do not know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use icecore_replay::{
    AsOf, AsOfError, Comparison, EventTimes, Explained, Operator as Compared, Query, Replay, States,
    TableScan,
};
use icecore_wire::{DeviceName, Glob};

/// What every event has is told from its fields by this: a field may have the name of something every event has.
const KIND: &str = "icecore.kind";

/// How many devices are looked up one by one.
const LOOKED_UP: usize = 16;

/// What one condition of a statement means to the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conditions {
    all: Vec<Condition>,
    /// Whether the log gives exactly what the condition asks for.
    is_exact: bool,
}

/// Something that has to hold of every event.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Devices(BTreeSet<DeviceName>),
    DevicesLike(Glob),
    /// From the first time to the last one, both included.
    Times(i64, i64),
    Positions(u64, u64),
    ReceivedBy(i64),
    /// Rules out row groups.
    Prune(Comparison),
}

impl Conditions {
    /// What `filter`, on a table of this schema, means to the log.
    pub(crate) fn of(filter: &Expr, schema: &Schema) -> Self {
        let exact = |condition| Self { all: vec![condition], is_exact: true };
        let inexact = |all| Self { all, is_exact: false };
        if let Some(devices) = devices(filter, schema) {
            return exact(Condition::Devices(devices));
        }
        if let Some(glob) = devices_like(filter, schema) {
            return inexact(vec![Condition::DevicesLike(glob)]);
        }
        let Some(Compare { column, cast, operator, with }) = Compare::of(filter, schema) else {
            return Self::default();
        };
        match (column.name().as_str(), is_system(column)) {
            ("event_time", true) => match instant(with).and_then(|time| range(operator, time)) {
                Some((first, last)) => exact(Condition::Times(first, last)),
                None => Self::default(),
            },
            ("received_time", true) => match instant(with).and_then(|time| range(operator, time)) {
                Some((_, last)) if last < i64::MAX => inexact(vec![Condition::ReceivedBy(last)]),
                _ => Self::default(),
            },
            ("position", true) => match unsigned(with).and_then(|number| range(operator, number)) {
                Some((first, last)) => exact(Condition::Positions(first, last)),
                None => Self::default(),
            },
            (_, true) => Self::default(),
            (_, false) => inexact(prunes(column, cast, operator, with)),
        }
    }

    /// The devices that are asked for, if the condition is about devices.
    pub(crate) fn devices(&self) -> Option<Devices> {
        match &self.all[..] {
            [Condition::Devices(names)] => Some(Devices { only: Some(names.clone()), ..Devices::default() }),
            [Condition::DevicesLike(glob)] => Some(Devices { like: glob.clone(), ..Devices::default() }),
            _ => None,
        }
    }

    /// What the engine is told.
    pub(crate) fn support(&self) -> TableProviderFilterPushDown {
        match (self.all.is_empty(), self.is_exact) {
            (true, _) => TableProviderFilterPushDown::Unsupported,
            (false, true) => TableProviderFilterPushDown::Exact,
            (false, false) => TableProviderFilterPushDown::Inexact,
        }
    }

    /// Asks the same of a scan, beside what it asks already.
    pub(crate) fn apply(self, scan: &mut TableScan) {
        for condition in self.all {
            condition.apply(scan);
        }
    }
}

/// Which devices are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Devices {
    like: Glob,
    only: Option<BTreeSet<DeviceName>>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { like: Glob::any(), only: None }
    }
}

impl Devices {
    /// Those of a query.
    pub(crate) fn of(query: &Query) -> Self {
        Self { like: query.devices.clone(), only: query.only.clone() }
    }

    /// Those of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let only = match (self.only, other.only) {
            (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
            (a, b) => a.or(b),
        };
        // A second pattern is left to the engine.
        Self { like: if self.like.is_any() { other.like } else { self.like }, only }
    }

    /// Whether events of the device of this name are asked for.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.like.matches(name) && self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// Their states. This blocks.
    ///
    /// # Errors
    /// As [`Replay::states`].
    pub(crate) fn states(&self, replay: &Replay, as_of: AsOf) -> Result<States, AsOfError> {
        let bases = replay.bases()?;
        match &self.only {
            // A device by name is looked up, where others are read through.
            Some(only) if only.len() <= LOOKED_UP => {
                let mut all = States { devices: BTreeMap::new(), explained: Explained::default() };
                for name in only.iter().filter(|name| self.like.matches(name.as_str())) {
                    all.devices.append(&mut replay.state(name, as_of, &bases)?.devices);
                }
                Ok(all)
            }
            _ => {
                let mut states = replay.states(&self.like, as_of, &bases)?;
                states.devices.retain(|name, _| self.contains(name.as_str()));
                Ok(states)
            }
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.like.is_any() {
            write!(f, ", devices={}", self.like.as_str())?;
        }
        let Some(only) = &self.only else { return Ok(()) };
        let names: Vec<&str> = only.iter().map(DeviceName::as_str).collect();
        write!(f, ", devices=[{}]", names.join(", "))
    }
}

impl Condition {
    fn apply(self, scan: &mut TableScan) {
        let query = &mut scan.query;
        match self {
            Self::Devices(names) => {
                query.only = Some(match query.only.take() {
                    Some(only) => only.intersection(&names).cloned().collect(),
                    None => names,
                });
            }
            // A second pattern is left to the engine.
            Self::DevicesLike(glob) if query.devices.is_any() => query.devices = glob,
            Self::DevicesLike(_) => {}
            Self::Times(first, last) => {
                let EventTimes { from, to } = query.times;
                let from = from.map_or(first, |from| from.max(first));
                // The last time of all has none behind it.
                let end = last.checked_add(1).into_iter().chain(to).min();
                query.times = match first <= last {
                    true => EventTimes { from: (from > i64::MIN).then_some(from), to: end },
                    false => EventTimes { from: Some(i64::MAX), to: Some(i64::MIN) },
                };
            }
            Self::Positions(first, last) => {
                query.from_position = query.from_position.max(first);
                let end = if first <= last { last.checked_add(1) } else { Some(0) };
                query.to_position = end.into_iter().chain(query.to_position).min();
            }
            Self::ReceivedBy(time) => {
                query.known_at = Some(query.known_at.map_or(time, |known_at| known_at.min(time)));
            }
            Self::Prune(comparison) => scan.prunes.push(comparison),
        }
    }
}

/// A column compared with a value.
struct Compare<'a> {
    column: &'a Field,
    /// What the column is cast to before, if it is.
    cast: Option<&'a DataType>,
    operator: Operator,
    with: &'a ScalarValue,
}

impl<'a> Compare<'a> {
    fn of(filter: &'a Expr, schema: &'a Schema) -> Option<Self> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
        let (operand, operator, value) = match (&**left, &**right) {
            (operand, Expr::Literal(value, _)) => (operand, *op, value),
            (Expr::Literal(value, _), operand) => (operand, op.swap()?, value),
            _ => return None,
        };
        let (column, cast) = column(operand, schema)?;
        Some(Self { column, cast, operator, with: plain(value) })
    }
}

/// The column that an expression is, and what it is cast to.
fn column<'a>(expr: &'a Expr, schema: &'a Schema) -> Option<(&'a Field, Option<&'a DataType>)> {
    let field = |column: &Column| schema.column_with_name(&column.name).map(|(_, field)| field);
    match expr {
        Expr::Column(column) => Some((field(column)?, None)),
        Expr::Cast(cast) => match &*cast.expr {
            Expr::Column(column) => Some((field(column)?, Some(cast.field.data_type()))),
            _ => None,
        },
        _ => None,
    }
}

fn is_system(field: &Field) -> bool {
    !field.metadata().contains_key(KIND)
}

fn is_device(expr: &Expr, schema: &Schema) -> bool {
    column(expr, schema).is_some_and(|(field, _)| field.name() == "device" && is_system(field))
}

/// The value without a dictionary around it.
fn plain(value: &ScalarValue) -> &ScalarValue {
    match value {
        ScalarValue::Dictionary(_, value) => plain(value),
        value => value,
    }
}

fn text(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    match plain(value) {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_deref()
        }
        _ => None,
    }
}

/// The devices that a condition names: `=`, `IN`, and several of them joined by `OR`.
fn devices(filter: &Expr, schema: &Schema) -> Option<BTreeSet<DeviceName>> {
    // What is no name of a device is that of none.
    let name = |expr| text(expr).map(|text| text.parse::<DeviceName>().ok());
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let value = match (is_device(left, schema), is_device(right, schema)) {
                (true, false) => right,
                (false, true) => left,
                _ => return None,
            };
            Some(name(value)?.into_iter().collect())
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut all = devices(left, schema)?;
            all.append(&mut devices(right, schema)?);
            Some(all)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_device(expr, schema) => {
            let names = list.iter().map(name).collect::<Option<Vec<_>>>()?;
            Some(names.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// The devices that a pattern of `LIKE` stands for.
fn devices_like(filter: &Expr, schema: &Schema) -> Option<Glob> {
    let Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false }) =
        filter
    else {
        return None;
    };
    let pattern = text(pattern).filter(|_| is_device(expr, schema))?;
    // These stand for something else in a glob, or quote what follows.
    let is_plain = !pattern.contains(['*', '?', '\\']);
    is_plain.then(|| Glob::new(&pattern.replace('%', "*").replace('_', "?")))
}

fn instant(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampNanosecond(time, _) => *time,
        _ => None,
    }
}

fn unsigned(value: &ScalarValue) -> Option<u64> {
    match value {
        ScalarValue::UInt64(number) => *number,
        _ => None,
    }
}

/// An integer with a first and a last one of its kind.
trait Whole: Copy {
    const FIRST: Self;
    const LAST: Self;
    fn before(self) -> Option<Self>;
    fn behind(self) -> Option<Self>;
}

macro_rules! whole {
    ($($integer:ty),*) => {$(
        impl Whole for $integer {
            const FIRST: Self = Self::MIN;
            const LAST: Self = Self::MAX;
            fn before(self) -> Option<Self> { self.checked_sub(1) }
            fn behind(self) -> Option<Self> { self.checked_add(1) }
        }
    )*};
}

whole!(i64, u64);

/// The integers for which a comparison with `number` holds: the first and the last; the first is behind the last if there are none.
fn range<T: Whole>(operator: Operator, number: T) -> Option<(T, T)> {
    let none = (T::LAST, T::FIRST);
    Some(match operator {
        Operator::Eq => (number, number),
        Operator::Lt => number.before().map_or(none, |last| (T::FIRST, last)),
        Operator::LtEq => (T::FIRST, number),
        Operator::Gt => number.behind().map_or(none, |first| (first, T::LAST)),
        Operator::GtEq => (number, T::LAST),
        _ => return None,
    })
}

/// Comparisons that hold of every row for which the condition holds, and perhaps of others.
fn prunes(column: &Field, cast: Option<&DataType>, operator: Operator, with: &ScalarValue) -> Vec<Condition> {
    let Some((below, above)) = bounds(column, cast, with) else { return Vec::new() };
    let prune =
        |operator, number| Condition::Prune(Comparison { column: column.name().clone(), operator, number });
    let (least, most) = (prune(Compared::GreaterOrEqual, below), prune(Compared::LessOrEqual, above));
    match operator {
        Operator::Lt | Operator::LtEq => vec![most],
        Operator::Gt | Operator::GtEq => vec![least],
        Operator::Eq => vec![least, most],
        _ => Vec::new(),
    }
}

/// Doubles around the number that a column is compared with: none of its values between them is told from the number.
fn bounds(column: &Field, cast: Option<&DataType>, with: &ScalarValue) -> Option<(f64, f64)> {
    let is_time = |ty: &DataType| matches!(ty, DataType::Timestamp(TimeUnit::Nanosecond, _));
    match (column.data_type(), cast, with) {
        (DataType::Float64, None, ScalarValue::Float64(Some(number)))
        | (DataType::Float32, Some(DataType::Float64), ScalarValue::Float64(Some(number))) => {
            around(*number, 0)
        }
        (DataType::Float32, None, ScalarValue::Float32(Some(number))) => around((*number).into(), 0),
        // The cast rounds, but keeps the order.
        (DataType::Int64 | DataType::UInt64, Some(DataType::Float64), ScalarValue::Float64(Some(number))) => {
            around(*number, 1)
        }
        (DataType::Int64, None, ScalarValue::Int64(Some(number))) => Some(around_integer((*number).into())),
        (DataType::UInt64, None, ScalarValue::UInt64(Some(number))) => Some(around_integer((*number).into())),
        (ty, cast, ScalarValue::TimestampNanosecond(Some(time), _))
            if is_time(ty) && cast.is_none_or(is_time) =>
        {
            Some(around_integer((*time).into()))
        }
        _ => None,
    }
}

/// So many doubles below and above a number; `None` of NaN, which is nowhere in particular.
fn around(number: f64, steps: u32) -> Option<(f64, f64)> {
    let (mut below, mut above) = (number, number);
    for _ in 0..steps {
        (below, above) = (below.next_down(), above.next_up());
    }
    (!number.is_nan()).then_some((below, above))
}

/// The doubles next to an integer, or the integer itself.
fn around_integer(number: i128) -> (f64, f64) {
    let near = number as f64;
    match (near as i128).cmp(&number) {
        std::cmp::Ordering::Equal => (near, near),
        std::cmp::Ordering::Less => (near, near.next_up()),
        std::cmp::Ordering::Greater => (near.next_down(), near),
    }
}
