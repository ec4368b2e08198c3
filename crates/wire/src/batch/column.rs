//! Columns and values, on the way in and on the way out.

use crate::ColumnType;

/// One value of one event, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Null,
    /// A double.
    F64(f64),
    /// A single.
    F32(f32),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Nanoseconds since the Unix epoch.
    Timestamp(i64),
    /// A waveform of singles.
    F32List(&'a [f32]),
    /// A waveform of 16-bit integers.
    I16List(&'a [i16]),
}

impl Value<'_> {
    /// The name of the value's type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::F64(_) => "f64",
            Self::F32(_) => "f32",
            Self::I64(_) => "i64",
            Self::U64(_) => "u64",
            Self::Bool(_) => "bool",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::F32List(_) => "an f32 list",
            Self::I16List(_) => "an i16 list",
        }
    }
}

/// The values of one field for all rows of a batch, to be encoded. A null row still takes a slot (any value).
#[derive(Debug, Clone, Copy)]
pub enum ColumnData<'a> {
    /// Doubles.
    F64(&'a [f64]),
    /// Singles.
    F32(&'a [f32]),
    /// Signed integers.
    I64(&'a [i64]),
    /// Unsigned integers.
    U64(&'a [u64]),
    /// Truth values.
    Bool(&'a [bool]),
    /// Texts.
    Text(&'a [&'a str]),
    /// Byte strings.
    Bytes(&'a [&'a [u8]]),
    /// Nanoseconds since the Unix epoch.
    Timestamp(&'a [i64]),
    /// Lists of singles, one after the other (rows × list length numbers).
    F32List(&'a [f32]),
    /// Lists of 16-bit integers, one after the other (rows × list length numbers).
    I16List(&'a [i16]),
}

impl ColumnData<'_> {
    /// How many values there are (of a list column: numbers).
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) | Self::F32List(values) => values.len(),
            Self::I64(values) | Self::Timestamp(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::I16List(values) => values.len(),
        }
    }

    /// Whether the values are of type `ty`.
    pub(super) fn is_of(&self, ty: ColumnType) -> bool {
        matches!(
            (self, ty),
            (Self::F64(_), ColumnType::F64)
                | (Self::F32(_), ColumnType::F32)
                | (Self::I64(_), ColumnType::I64)
                | (Self::U64(_), ColumnType::U64)
                | (Self::Bool(_), ColumnType::Bool)
                | (Self::Text(_), ColumnType::Text)
                | (Self::Bytes(_), ColumnType::Bytes)
                | (Self::Timestamp(_), ColumnType::Timestamp)
                | (Self::F32List(_), ColumnType::F32List(_))
                | (Self::I16List(_), ColumnType::I16List(_))
        )
    }

    /// The name of the values' type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::F64(_) => "f64",
            Self::F32(_) => "f32",
            Self::I64(_) => "i64",
            Self::U64(_) => "u64",
            Self::Bool(_) => "bool",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "timestamp",
            Self::F32List(_) => "f32 lists",
            Self::I16List(_) => "i16 lists",
        }
    }
}

/// A column to be encoded: values and, where some are null, which ones are valid.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The values.
    pub data: ColumnData<'a>,
    /// One flag a row, true = has a value; `None` = every row has one.
    pub validity: Option<&'a [bool]>,
}

impl<'a> Column<'a> {
    /// A column without nulls.
    pub const fn new(data: ColumnData<'a>) -> Self {
        Self { data, validity: None }
    }

    /// A column where `validity` says which rows have a value.
    pub const fn with_validity(data: ColumnData<'a>, validity: &'a [bool]) -> Self {
        Self { data, validity: Some(validity) }
    }
}

impl<'a> From<ColumnData<'a>> for Column<'a> {
    fn from(data: ColumnData<'a>) -> Self {
        Self::new(data)
    }
}

/// Bits, one a row, least significant first.
#[derive(Debug, Clone, Copy)]
pub struct Bitmap<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Bitmap<'a> {
    /// Bits as they lie in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bit of `row`. Panics when there is no such row.
    pub fn get(&self, row: usize) -> bool {
        self.bytes[row / 8] >> (row % 8) & 1 == 1
    }
}

/// Texts of one column.
#[derive(Debug, Clone, Copy)]
pub struct TextValues<'a> {
    pub(super) offsets: &'a [u32],
    pub(super) data: &'a str,
}

impl<'a> TextValues<'a> {
    /// Texts one after the other in `data`: that of row i from `offsets[i]` to `offsets[i + 1]`, both between characters.
    pub const fn new(offsets: &'a [u32], data: &'a str) -> Self {
        Self { offsets, data }
    }

    /// The text of `row`. Panics when there is no such row.
    pub fn get(&self, row: usize) -> &'a str {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// Byte strings of one column.
#[derive(Debug, Clone, Copy)]
pub struct BytesValues<'a> {
    pub(super) offsets: &'a [u32],
    pub(super) data: &'a [u8],
}

impl<'a> BytesValues<'a> {
    /// Byte strings one after the other in `data`: that of row i from `offsets[i]` to `offsets[i + 1]`.
    pub const fn new(offsets: &'a [u32], data: &'a [u8]) -> Self {
        Self { offsets, data }
    }

    /// The bytes of `row`. Panics when there is no such row.
    pub fn get(&self, row: usize) -> &'a [u8] {
        &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// The values of one column of a validated batch, read where they lie (or where pco decoded them to). Slots of null
/// rows hold unspecified values.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Doubles.
    F64(&'a [f64]),
    /// Singles.
    F32(&'a [f32]),
    /// Signed integers.
    I64(&'a [i64]),
    /// Unsigned integers.
    U64(&'a [u64]),
    /// Truth values.
    Bool(Bitmap<'a>),
    /// Texts.
    Text(TextValues<'a>),
    /// Byte strings.
    Bytes(BytesValues<'a>),
    /// Nanoseconds since the Unix epoch.
    Timestamp(&'a [i64]),
    /// Lists of singles, one after the other.
    F32List {
        /// Numbers a row.
        length: usize,
        /// All lists, one after the other.
        values: &'a [f32],
    },
    /// Lists of 16-bit integers, one after the other.
    I16List {
        /// Numbers a row.
        length: usize,
        /// All lists, one after the other.
        values: &'a [i16],
    },
}

/// One column of a validated batch.
#[derive(Debug, Clone, Copy)]
pub struct ColumnView<'a> {
    /// The type of the values.
    pub ty: ColumnType,
    /// Which rows have a value; `None` = all.
    pub validity: Option<Bitmap<'a>>,
    /// The values.
    pub values: Values<'a>,
}

impl<'a> ColumnView<'a> {
    /// Whether `row` has no value. Panics when the batch has no such row.
    pub fn is_null(&self, row: usize) -> bool {
        self.validity.is_some_and(|validity| !validity.get(row))
    }

    /// The value of `row`. Panics when the batch has no such row.
    pub fn value(&self, row: usize) -> Value<'a> {
        if self.is_null(row) {
            return Value::Null;
        }
        match self.values {
            Values::F64(values) => Value::F64(values[row]),
            Values::F32(values) => Value::F32(values[row]),
            Values::I64(values) => Value::I64(values[row]),
            Values::U64(values) => Value::U64(values[row]),
            Values::Bool(values) => Value::Bool(values.get(row)),
            Values::Text(values) => Value::Text(values.get(row)),
            Values::Bytes(values) => Value::Bytes(values.get(row)),
            Values::Timestamp(values) => Value::Timestamp(values[row]),
            Values::F32List { length, values } => Value::F32List(&values[row * length..(row + 1) * length]),
            Values::I16List { length, values } => Value::I16List(&values[row * length..(row + 1) * length]),
        }
    }
}
