//! States as a table, for whoever reads tables.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, Float64Builder, ListBuilder, StringBuilder, StringDictionaryBuilder, StructBuilder,
    TimestampNanosecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use icecore_state::fold::{Kept, Last, States as Spells};
use icecore_state::{FieldView, SchemaView, StatisticsView};
use icecore_wire::{DeviceName, Value};

use super::States;

type Names = StringDictionaryBuilder<Int32Type>;

impl States {
    /// The columns of [`States::table`].
    ///
    /// | column | type | what it tells |
    /// |---|---|---|
    /// | `device`, `schema`, `version`, `field`, `kind`, `unit` | dictionaries of texts, `UInt32` | which field |
    /// | `events` | `UInt64` | events of the schema |
    /// | `count`, `not_finite` | `UInt64` | how many have a value, and of these, how many an infinite one or NaN |
    /// | `last`, `last_text` | `Float64`, `Utf8` | the latest value: as a number if it is one, and exactly |
    /// | `last_time`, `last_epoch`, `last_seq` | `Timestamp(ns, UTC)`, `UInt32`, `UInt64` | which event has it |
    /// | `min`, `max`, `variance` | `Float64` | of a gauge |
    /// | `mean` | `Float64` | of a gauge or an angle |
    /// | `resultant` | `Float64` | of an angle: 1 when all agree, 0 when there is no mean |
    /// | `increase`, `resets` | `Float64`, `UInt64` | of a counter |
    /// | `late` | `UInt64` | of a counter or a state: events that came between others and changed nothing |
    /// | `states` | list of (`value`, `events`, `time_ns`) | of a state: how often and how long; a null value is all others |
    #[must_use]
    pub fn table_schema() -> SchemaRef {
        let names = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let times = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let (number, whole) = (|| DataType::Float64, || DataType::UInt64);
        let columns = [
            ("device", names(), false),
            ("schema", names(), false),
            ("version", DataType::UInt32, false),
            ("field", names(), false),
            ("kind", names(), false),
            ("unit", names(), true),
            ("events", whole(), false),
            ("count", whole(), false),
            ("not_finite", whole(), false),
            ("last", number(), true),
            ("last_text", DataType::Utf8, true),
            ("last_time", times, true),
            ("last_epoch", DataType::UInt32, true),
            ("last_seq", whole(), true),
            ("min", number(), true),
            ("max", number(), true),
            ("mean", number(), true),
            ("variance", number(), true),
            ("resultant", number(), true),
            ("increase", number(), true),
            ("resets", whole(), true),
            ("late", whole(), true),
            ("states", DataType::List(spell_item()), true),
        ];
        let field = |(name, ty, nullable)| Field::new(name, ty, nullable);
        Arc::new(ArrowSchema::new(columns.map(field).to_vec()))
    }

    /// The states as a table, one row for each field of each schema of each device.
    ///
    /// # Errors
    /// When there are more names than a dictionary of them can have.
    pub fn table(&self) -> Result<RecordBatch, ArrowError> {
        let mut rows = Rows::default();
        for (device, state) in &self.devices {
            for schema in &state.view().schemas {
                for (definition, field) in schema.schema.fields().iter().zip(&schema.fields) {
                    rows.push(device, schema, definition, field)?;
                }
            }
        }
        RecordBatch::try_new(Self::table_schema(), rows.finish())
    }
}

fn spell_fields() -> Fields {
    let field = |name, ty, nullable| Field::new(name, ty, nullable);
    Fields::from(vec![
        field("value", DataType::Utf8, true),
        field("events", DataType::UInt64, false),
        field("time_ns", DataType::UInt64, false),
    ])
}

fn spell_item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Struct(spell_fields()), false))
}

/// The columns, as they grow.
struct Rows {
    device: Names,
    schema: Names,
    version: UInt32Builder,
    field: Names,
    kind: Names,
    unit: Names,
    /// `events`, `count`, `not_finite`.
    counts: [UInt64Builder; 3],
    last: Float64Builder,
    last_text: StringBuilder,
    last_time: TimestampNanosecondBuilder,
    last_epoch: UInt32Builder,
    last_seq: UInt64Builder,
    statistics: Statistics,
}

/// The columns of the statistics.
struct Statistics {
    /// `min`, `max`, `mean`, `variance`, `resultant`, `increase`.
    numbers: [Float64Builder; 6],
    /// `resets`, `late`.
    counts: [UInt64Builder; 2],
    states: ListBuilder<StructBuilder>,
}

impl Default for Rows {
    fn default() -> Self {
        let spells = StructBuilder::from_fields(spell_fields(), 0);
        let states = ListBuilder::new(spells).with_field(spell_item());
        Self {
            device: Names::default(),
            schema: Names::default(),
            version: UInt32Builder::default(),
            field: Names::default(),
            kind: Names::default(),
            unit: Names::default(),
            counts: Default::default(),
            last: Float64Builder::default(),
            last_text: StringBuilder::default(),
            last_time: TimestampNanosecondBuilder::default().with_timezone("UTC"),
            last_epoch: UInt32Builder::default(),
            last_seq: UInt64Builder::default(),
            statistics: Statistics { numbers: Default::default(), counts: Default::default(), states },
        }
    }
}

impl Rows {
    fn push(
        &mut self,
        device: &DeviceName,
        schema: &SchemaView,
        definition: &icecore_wire::Field,
        field: &FieldView,
    ) -> Result<(), ArrowError> {
        self.device.append(device.as_str())?;
        self.schema.append(schema.schema.name())?;
        self.version.append_value(schema.schema.version());
        self.field.append(definition.name())?;
        self.kind.append(definition.kind().to_string())?;
        self.unit.append_option(Some(definition.unit()).filter(|unit| !unit.is_empty()));
        let counts = [schema.events, field.values, field.not_finite];
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.append_value(count));
        self.push_last(field.last.as_ref());
        self.statistics.push(field.statistics.as_ref());
        Ok(())
    }

    fn push_last(&mut self, last: Option<&Last>) {
        self.last.append_option(last.and_then(|last| number(&last.value)));
        self.last_text.append_option(last.and_then(|last| text(&last.value)));
        self.last_time.append_option(last.map(|last| last.at.time));
        self.last_epoch.append_option(last.map(|last| last.at.epoch));
        self.last_seq.append_option(last.map(|last| last.at.sequence));
    }

    fn finish(self) -> Vec<ArrayRef> {
        fn end(mut column: impl ArrayBuilder) -> ArrayRef {
            ArrayBuilder::finish(&mut column)
        }
        let Statistics { numbers, counts: late_counts, states } = self.statistics;
        let mut columns = vec![
            end(self.device),
            end(self.schema),
            end(self.version),
            end(self.field),
            end(self.kind),
            end(self.unit),
        ];
        columns.extend(self.counts.map(end));
        columns.extend([end(self.last), end(self.last_text), end(self.last_time)]);
        columns.extend([end(self.last_epoch), end(self.last_seq)]);
        columns.extend(numbers.map(end));
        columns.extend(late_counts.map(end));
        columns.push(end(states));
        columns
    }
}

impl Statistics {
    fn push(&mut self, statistics: Option<&StatisticsView>) {
        let (mut numbers, mut counts, mut spells) = ([None; 6], [None; 2], None);
        match statistics {
            None => {}
            Some(StatisticsView::Gauge { min, max, mean, variance, .. }) => {
                (numbers[0], numbers[1]) = (number(min), number(max));
                (numbers[2], numbers[3]) = (Some(*mean), *variance);
            }
            Some(StatisticsView::Angle { mean, resultant, .. }) => {
                (numbers[2], numbers[4]) = (Some(*mean), Some(*resultant));
            }
            Some(StatisticsView::Counter { increase, resets, late }) => {
                numbers[5] = Some(*increase);
                counts = [Some(*resets), Some(*late)];
            }
            Some(StatisticsView::States(states)) => {
                counts[1] = Some(states.late());
                spells = Some(states);
            }
        }
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.append_option(number));
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.append_option(count));
        if let Some(states) = spells {
            self.push_spells(states);
        }
        self.states.append(spells.is_some());
    }

    fn push_spells(&mut self, states: &Spells) {
        let row = self.states.values();
        let mut push = |value: Option<String>, events: u64, time: u64| {
            let column = "the columns are those of the fields";
            row.field_builder::<StringBuilder>(0).expect(column).append_option(value);
            row.field_builder::<UInt64Builder>(1).expect(column).append_value(events);
            row.field_builder::<UInt64Builder>(2).expect(column).append_value(time);
            row.append(true);
        };
        for state in states.states() {
            push(text(state.value()), state.events(), state.time());
        }
        let (events, time) = states.other();
        if events > 0 {
            push(None, events, time);
        }
    }
}

/// What is a number, as the nearest double.
fn number(kept: &Kept) -> Option<f64> {
    match kept.value() {
        Value::F64(number) => Some(number),
        Value::F32(number) => Some(number.into()),
        Value::I64(number) => Some(number as f64),
        Value::U64(number) => Some(number as f64),
        Value::Bool(flag) => Some(u8::from(flag).into()),
        _ => None,
    }
}

/// The value exactly, as far as it is kept: floats with the digits that tell them from others, bytes as hexadecimal.
fn text(kept: &Kept) -> Option<String> {
    let short = |digits: String| digits.strip_suffix(".0").map(str::to_owned).unwrap_or(digits);
    Some(match kept.value() {
        Value::F64(number) => short(format!("{number:?}")),
        Value::F32(number) => short(format!("{number:?}")),
        Value::I64(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Timestamp(time) => crate::format_instant(time),
        Value::Text(text) => text.to_owned(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Null | Value::F32List(_) | Value::I16List(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, TimestampNanosecondType, UInt64Type};
    use arrow_array::{Array, RecordBatch};
    use icecore_state::DeviceState;
    use icecore_wire::{Batch, BatchBuilder, ColumnType, EncodeOptions, Kind, Schema};

    use super::*;
    use crate::as_of::Explained;

    /// A level, a count, a state, a direction and a list, of which the second event has none.
    fn states() -> States {
        let field = |name, ty, kind| icecore_wire::Field::new(name, ty).with_kind(kind).nullable();
        let fields = vec![
            field("level", ColumnType::F64, Kind::Gauge).with_unit("Cel"),
            field("count", ColumnType::U64, Kind::Counter),
            field("mode", ColumnType::Text, Kind::State),
            field("wind", ColumnType::F64, Kind::Angle).with_unit("deg"),
            field("wave", ColumnType::I16List(2), Kind::Gauge),
        ];
        let schema = Arc::new(Schema::new("every", 3, fields).unwrap());
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        let row = |level, count, mode, wind| {
            [
                Value::F64(level),
                Value::U64(count),
                Value::Text(mode),
                Value::F64(wind),
                Value::I16List(&[1, 2]),
            ]
        };
        builder.row(10, &row(1.5, 7, "on", 350.0)).unwrap();
        builder.row(20, &row(4.5, 3, "off", 10.0)).unwrap();
        builder.row(30, &[Value::Null; 5]).unwrap();
        let payload = builder.finish(0, EncodeOptions::PLAIN).unwrap();
        let batch = Batch::validate(payload, schema).unwrap();
        let mut state = DeviceState::default();
        state.fold(0, 1_000, &batch, 0..3);
        let devices = [("pump".parse().unwrap(), Arc::new(state))].into();
        States { devices, explained: Explained::default() }
    }

    fn number(table: &RecordBatch, column: &str, row: usize) -> Option<f64> {
        let column = table.column_by_name(column).unwrap().as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    }

    #[test]
    fn every_kind_has_its_statistics() {
        let table = states().table().unwrap();
        assert_eq!(table.num_rows(), 5);
        let count = |column: &str, row: usize| {
            let column = table.column_by_name(column).unwrap().as_primitive::<UInt64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let text = |column: &str, row: usize| {
            let column = table.column_by_name(column).unwrap().as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        assert_eq!((count("events", 0), count("count", 0)), (Some(3), Some(2)));
        assert_eq!(number(&table, "last", 0), Some(4.5));
        assert_eq!(text("last_text", 0), Some("4.5".to_owned()));
        let times = table.column_by_name("last_time").unwrap().as_primitive::<TimestampNanosecondType>();
        assert_eq!((times.value(0), times.is_null(4)), (20, false));
        assert_eq!((number(&table, "min", 0), number(&table, "max", 0)), (Some(1.5), Some(4.5)));
        assert_eq!((number(&table, "mean", 0), number(&table, "variance", 0)), (Some(3.0), Some(4.5)));
        assert_eq!((number(&table, "increase", 1), count("resets", 1)), (Some(3.0), Some(1)));
        assert_eq!((number(&table, "mean", 1), number(&table, "last", 1)), (None, Some(3.0)));
        assert_eq!((number(&table, "last", 2), text("last_text", 2)), (None, Some("off".to_owned())));
        let direction = number(&table, "mean", 3).unwrap();
        assert!(direction.min(360.0 - direction) < 1e-9 && number(&table, "resultant", 3) > Some(0.9));
        assert_eq!((number(&table, "last", 4), text("last_text", 4)), (None, None));
    }

    #[test]
    fn spells_are_of_states_only() {
        let table = states().table().unwrap();
        let lists = table.column_by_name("states").unwrap().as_list::<i32>();
        assert_eq!((0..5).filter(|row| lists.is_valid(*row)).collect::<Vec<_>>(), [2]);
        let spells = lists.value(2);
        let spells = spells.as_struct();
        let (values, times) = (spells.column(0).as_string::<i32>(), spells.column(2));
        assert_eq!(values.iter().flatten().collect::<Vec<_>>(), ["on", "off"]);
        assert_eq!(times.as_primitive::<UInt64Type>().values()[..], [10, 0]);
    }
}
