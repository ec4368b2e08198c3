//! The derived schema of windows, and where its columns are.

use icecore_wire::{ColumnType, Field, Kind, Schema, SchemaError};

use crate::fold::{FieldTally, Statistics};

/// Columns of the window itself, ahead of those of its fields. None of them can be a field's, which all end in a statistic.
pub(super) const REVISION: usize = 0;
pub(super) const EVENTS: usize = 1;
pub(super) const FIRST_TIME: usize = 2;
pub(super) const LAST_TIME: usize = 3;
pub(super) const PARTIAL: usize = 4;
pub(super) const OF_WINDOW: usize = 5;

/// Quantiles that have a column of their own, beside the sketch that has all of them.
pub(super) const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// What is kept of a field, by its kind and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `count`, `min`, `max`, `mean`, `variance`, `last`; with a sketch `p50`, `p90`, `p99`, `sketch`.
    Gauge { sketch: bool },
    /// `count`, `first`, `increase`, `resets`, `last`.
    Counter,
    /// `count`, `changes`, `times`, `last`.
    States,
    /// `count`, `mean`, `length`, `last`.
    Angle,
    /// `count`, `last`.
    Plain,
    /// `count`.
    List,
}

impl Shape {
    pub(super) fn of(field: &Field, quantiles: bool) -> Self {
        match FieldTally::new(field).statistics() {
            Statistics::Gauge(_) => Self::Gauge { sketch: quantiles && field.ty() != ColumnType::Bool },
            Statistics::Counter(_) => Self::Counter,
            Statistics::States(_) => Self::States,
            Statistics::Angle(_) => Self::Angle,
            Statistics::Plain => match field.ty() {
                ColumnType::F32List(_) | ColumnType::I16List(_) => Self::List,
                _ => Self::Plain,
            },
        }
    }

    /// The columns of a field: names end in one word, so that no two fields' can be the same.
    fn columns(self, of: &Field) -> Vec<Field> {
        let column = |statistic: &str, ty, kind: Kind, unit: &str| {
            let name = format!("{}_{statistic}", of.name());
            Field::new(name, ty).with_kind(kind).with_unit(unit).nullable()
        };
        let (f64, u64) = (ColumnType::F64, ColumnType::U64);
        let number = |statistic, ty| column(statistic, ty, Kind::Gauge, "");
        let same = |statistic, kind| column(statistic, of.ty(), kind, of.unit());
        let mut columns = vec![number("count", u64)];
        match self {
            Self::Gauge { sketch } => {
                columns.extend(["min", "max"].map(|statistic| same(statistic, Kind::Gauge)));
                columns.push(column("mean", f64, Kind::Gauge, of.unit()));
                columns.extend([number("variance", f64), same("last", Kind::Gauge)]);
                if sketch {
                    columns.extend(QUANTILES.map(|(name, _)| column(name, f64, Kind::Gauge, of.unit())));
                    columns.push(number("sketch", ColumnType::Bytes));
                }
            }
            Self::Counter => columns.extend([
                same("first", Kind::Counter),
                column("increase", f64, Kind::Gauge, of.unit()),
                number("resets", u64),
                same("last", Kind::Counter),
            ]),
            Self::States => columns.extend([
                number("changes", u64),
                number("times", ColumnType::Text),
                same("last", Kind::State),
            ]),
            Self::Angle => columns.extend([
                column("mean", f64, Kind::Angle, of.unit()),
                number("length", f64),
                same("last", Kind::Angle),
            ]),
            Self::Plain => columns.push(same("last", of.kind())),
            Self::List => {}
        }
        columns
    }
}

/// The schema of windows of events of `raw`; `name` says their width. Its version is that of `raw`.
pub(super) fn derived(raw: &Schema, name: &str, quantiles: bool) -> Result<Schema, SchemaError> {
    let mut fields = vec![
        Field::new("revision", ColumnType::U64).with_kind(Kind::Counter),
        Field::new("events", ColumnType::U64),
        Field::new("first_time", ColumnType::Timestamp),
        Field::new("last_time", ColumnType::Timestamp),
        Field::new("partial", ColumnType::Bool),
    ];
    debug_assert_eq!(fields.len(), OF_WINDOW);
    fields.extend(raw.fields().iter().flat_map(|field| Shape::of(field, quantiles).columns(field)));
    Schema::new(Schema::derived_name(raw.name(), name), raw.version(), fields)
}
