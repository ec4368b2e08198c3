//! The values of a column in memory, on the way in and on the way out.

use std::ops::Range;

use icecore_wire::{Bitmap, BytesValues, Column, ColumnData, ColumnType, ColumnView, TextValues, Values};

use super::Decoded;
use super::bits::Bits;
use super::limits::MAX_TEXT_BYTES;

/// Values one after the other, lists flat. Which type they are of stands elsewhere.
#[derive(Debug, Clone)]
pub(super) enum Cells {
    F64(Vec<f64>),
    F32(Vec<f32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    I16(Vec<i16>),
    Bool(Bits),
    Bytes(Strings),
}

/// Texts or byte strings.
#[derive(Debug, Clone)]
pub(super) struct Strings {
    /// 0 and every end.
    pub(super) offsets: Vec<u32>,
    pub(super) data: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }
}

impl Strings {
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.data[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Adds one; there is room for it in 32 bits, or it is an error.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Decoded<()> {
        if self.data.len() + bytes.len() > MAX_TEXT_BYTES {
            return Err(format!("texts of more than {MAX_TEXT_BYTES} bytes in one column"));
        }
        self.data.extend_from_slice(bytes);
        self.offsets.push(self.data.len() as u32);
        Ok(())
    }
}

/// Elements of one value: 1 but for lists.
pub(super) fn width(ty: ColumnType) -> usize {
    match ty {
        ColumnType::F32List(length) | ColumnType::I16List(length) => usize::from(length),
        _ => 1,
    }
}

/// The least bytes that a value takes in memory.
pub(super) fn bytes_of(ty: ColumnType) -> usize {
    match ty {
        ColumnType::F64 | ColumnType::I64 | ColumnType::U64 | ColumnType::Timestamp => 8,
        ColumnType::F32 | ColumnType::F32List(_) => 4 * width(ty),
        ColumnType::I16List(_) => 2 * width(ty),
        ColumnType::Bool => 0,
        ColumnType::Text | ColumnType::Bytes => size_of::<u32>(),
    }
}

impl Cells {
    pub(super) fn new(ty: ColumnType) -> Self {
        match ty {
            ColumnType::F64 => Self::F64(Vec::new()),
            ColumnType::F32 | ColumnType::F32List(_) => Self::F32(Vec::new()),
            ColumnType::I64 | ColumnType::Timestamp => Self::I64(Vec::new()),
            ColumnType::U64 => Self::U64(Vec::new()),
            ColumnType::I16List(_) => Self::I16(Vec::new()),
            ColumnType::Bool => Self::Bool(Bits::default()),
            ColumnType::Text | ColumnType::Bytes => Self::Bytes(Strings::default()),
        }
    }

    /// Bytes they take in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F64(values) => size_of_val(&values[..]),
            Self::F32(values) => size_of_val(&values[..]),
            Self::I64(values) => size_of_val(&values[..]),
            Self::U64(values) => size_of_val(&values[..]),
            Self::I16(values) => size_of_val(&values[..]),
            Self::Bool(bits) => bits.bytes().len(),
            Self::Bytes(strings) => strings.data.len() + size_of_val(&strings.offsets[1..]),
        }
    }

    /// Adds the values of these rows.
    fn extend_from(&mut self, values: Values<'_>, rows: Range<usize>, width: usize) -> Decoded<()> {
        let flat = rows.start * width..rows.end * width;
        match (self, values) {
            (Self::F64(cells), Values::F64(values)) => cells.extend_from_slice(&values[flat]),
            (Self::F32(cells), Values::F32(values) | Values::F32List { values, .. }) => {
                cells.extend_from_slice(&values[flat]);
            }
            (Self::I64(cells), Values::I64(values) | Values::Timestamp(values)) => {
                cells.extend_from_slice(&values[flat]);
            }
            (Self::U64(cells), Values::U64(values)) => cells.extend_from_slice(&values[flat]),
            (Self::I16(cells), Values::I16List { values, .. }) => cells.extend_from_slice(&values[flat]),
            (Self::Bool(cells), Values::Bool(values)) => rows.for_each(|row| cells.push(values.get(row))),
            (Self::Bytes(cells), Values::Text(values)) => {
                for row in rows {
                    cells.push(values.get(row).as_bytes())?;
                }
            }
            (Self::Bytes(cells), Values::Bytes(values)) => {
                for row in rows {
                    cells.push(values.get(row))?;
                }
            }
            _ => unreachable!("a validated batch has the types of its schema"),
        }
        Ok(())
    }

    /// Adds the elements `range` of a decoded page of the same type.
    pub(super) fn extend_from_page(&mut self, page: &Self, range: Range<usize>) -> Decoded<()> {
        match (self, page) {
            (Self::F64(cells), Self::F64(page)) => cells.extend_from_slice(&page[range]),
            (Self::F32(cells), Self::F32(page)) => cells.extend_from_slice(&page[range]),
            (Self::I64(cells), Self::I64(page)) => cells.extend_from_slice(&page[range]),
            (Self::U64(cells), Self::U64(page)) => cells.extend_from_slice(&page[range]),
            (Self::I16(cells), Self::I16(page)) => cells.extend_from_slice(&page[range]),
            (Self::Bool(cells), Self::Bool(page)) => page.iter(range).for_each(|bit| cells.push(bit)),
            (Self::Bytes(cells), Self::Bytes(page)) => {
                for index in range {
                    cells.push(page.get(index))?;
                }
            }
            _ => unreachable!("pages of a column are decoded as its type"),
        }
        Ok(())
    }

    /// Gives every row a slot: these are the values of the rows that `valid` says have one.
    fn spread(self, valid: &Bits, width: usize) -> Decoded<Self> {
        fn spread<T: Copy + Default>(values: &[T], valid: &Bits, width: usize) -> Vec<T> {
            let mut slots = Vec::with_capacity(valid.len() * width);
            let mut values = values.chunks_exact(width);
            for valid in valid.iter(0..valid.len()) {
                match values.next_if(valid) {
                    Some(value) => slots.extend_from_slice(value),
                    None => slots.resize(slots.len() + width, T::default()),
                }
            }
            slots
        }
        Ok(match self {
            Self::F64(values) => Self::F64(spread(&values, valid, width)),
            Self::F32(values) => Self::F32(spread(&values, valid, width)),
            Self::I64(values) => Self::I64(spread(&values, valid, width)),
            Self::U64(values) => Self::U64(spread(&values, valid, width)),
            Self::I16(values) => Self::I16(spread(&values, valid, width)),
            Self::Bool(values) => {
                let (mut slots, mut next) = (Bits::default(), 0);
                for valid in valid.iter(0..valid.len()) {
                    slots.push(valid && values.get(next));
                    next += usize::from(valid);
                }
                Self::Bool(slots)
            }
            Self::Bytes(values) => {
                let (mut slots, mut values) = (Strings::default(), values.iter());
                for valid in valid.iter(0..valid.len()) {
                    slots.push(values.next_if(valid).unwrap_or_default())?;
                }
                Self::Bytes(slots)
            }
        })
    }
}

/// Takes the next item only where one is due.
trait NextIf: Iterator {
    fn next_if(&mut self, due: bool) -> Option<Self::Item> {
        if due { self.next() } else { None }
    }
}

impl<I: Iterator> NextIf for I {}

/// A column that grows: its values, and which rows have one.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) ty: ColumnType,
    /// One bit a row.
    pub(super) valid: Bits,
    /// Of the rows that have one.
    pub(super) cells: Cells,
    pub(super) nulls: usize,
}

impl Growing {
    pub(super) fn new(ty: ColumnType) -> Self {
        Self { ty, valid: Bits::default(), cells: Cells::new(ty), nulls: 0 }
    }

    /// Adds one row with a value.
    pub(super) fn push(&mut self, value: Values<'_>) -> Decoded<()> {
        self.valid.push(true);
        self.cells.extend_from(value, 0..1, width(self.ty))
    }

    /// Adds one row without a value.
    pub(super) fn push_null(&mut self) {
        self.valid.push(false);
        self.nulls += 1;
    }

    /// Adds all rows of a column.
    pub(super) fn extend(&mut self, column: &ColumnView<'_>, rows: usize) -> Decoded<()> {
        let width = width(self.ty);
        if column.validity.is_none() {
            self.valid.extend(true, rows);
            return self.cells.extend_from(column.values, 0..rows, width);
        }
        let mut row = 0;
        while row < rows {
            let null = column.is_null(row);
            let end = (row + 1..rows).find(|next| column.is_null(*next) != null).unwrap_or(rows);
            self.valid.extend(!null, end - row);
            if null {
                self.nulls += end - row;
            } else {
                self.cells.extend_from(column.values, row..end, width)?;
            }
            row = end;
        }
        Ok(())
    }
}

/// The values of a column, one a row (unspecified where there is none), lists flat.
#[derive(Debug, Clone)]
pub enum SealedValues {
    /// Doubles.
    F64(Vec<f64>),
    /// Singles, or lists of them.
    F32(Vec<f32>),
    /// Signed integers, or times.
    I64(Vec<i64>),
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Lists of 16-bit integers.
    I16(Vec<i16>),
    /// Truth values, a bit each, least significant first.
    Bool(Vec<u8>),
    /// Texts (which are UTF-8) or byte strings.
    Bytes {
        /// 0 and every end.
        offsets: Vec<u32>,
        /// One after the other.
        data: Vec<u8>,
    },
}

/// A column, or some rows of it, read from a sealed segment.
#[derive(Debug, Clone)]
pub struct SealedColumn {
    ty: ColumnType,
    rows: usize,
    /// `None`: all rows have a value.
    valid: Option<Bits>,
    /// One a row; unspecified where there is none.
    slots: Cells,
}

impl SealedColumn {
    /// `dense` holds the values of the rows that have one.
    pub(super) fn new(ty: ColumnType, rows: usize, valid: Option<Bits>, dense: Cells) -> Decoded<Self> {
        let slots = match &valid {
            Some(valid) => dense.spread(valid, width(ty))?,
            None => dense,
        };
        Ok(Self { ty, rows, valid, slots })
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Which rows have a value, a bit each, least significant first (`None`: all), and the values.
    #[must_use]
    pub fn into_values(self) -> (Option<Vec<u8>>, SealedValues) {
        let values = match self.slots {
            Cells::F64(values) => SealedValues::F64(values),
            Cells::F32(values) => SealedValues::F32(values),
            Cells::I64(values) => SealedValues::I64(values),
            Cells::U64(values) => SealedValues::U64(values),
            Cells::I16(values) => SealedValues::I16(values),
            Cells::Bool(bits) => SealedValues::Bool(bits.into_bytes()),
            Cells::Bytes(Strings { offsets, data }) => SealedValues::Bytes { offsets, data },
        };
        (self.valid.map(Bits::into_bytes), values)
    }

    /// The values, as those of a batch.
    #[must_use]
    pub fn view(&self) -> ColumnView<'_> {
        let validity = self.valid.as_ref().map(|valid| Bitmap::new(valid.bytes()));
        ColumnView { ty: self.ty, validity, values: self.values() }
    }

    fn values(&self) -> Values<'_> {
        match (&self.slots, self.ty) {
            (Cells::F64(values), _) => Values::F64(values),
            (Cells::F32(values), ColumnType::F32List(length)) => {
                Values::F32List { length: length.into(), values }
            }
            (Cells::F32(values), _) => Values::F32(values),
            (Cells::I64(values), ColumnType::Timestamp) => Values::Timestamp(values),
            (Cells::I64(values), _) => Values::I64(values),
            (Cells::U64(values), _) => Values::U64(values),
            (Cells::I16(values), _) => Values::I16List { length: width(self.ty), values },
            (Cells::Bool(bits), _) => Values::Bool(Bitmap::new(bits.bytes())),
            (Cells::Bytes(strings), ColumnType::Text) => {
                let data =
                    str::from_utf8(&strings.data).expect("texts are checked when their page is decoded");
                Values::Text(TextValues::new(&strings.offsets, data))
            }
            (Cells::Bytes(strings), _) => Values::Bytes(BytesValues::new(&strings.offsets, &strings.data)),
        }
    }

    /// The rows `range`, made ready to be encoded.
    pub(super) fn lend(&self, range: Range<usize>) -> Lent<'_> {
        let valid = self.valid.as_ref().map(|valid| valid.iter(range.clone()).collect());
        let flat = range.start * width(self.ty)..range.end * width(self.ty);
        let text = |row| str::from_utf8(row).expect("texts are checked when their page is decoded");
        let values = match (&self.slots, self.ty) {
            (Cells::F64(values), _) => LentValues::Plain(ColumnData::F64(&values[flat])),
            (Cells::F32(values), ColumnType::F32) => LentValues::Plain(ColumnData::F32(&values[flat])),
            (Cells::F32(values), _) => LentValues::Plain(ColumnData::F32List(&values[flat])),
            (Cells::I64(values), ColumnType::I64) => LentValues::Plain(ColumnData::I64(&values[flat])),
            (Cells::I64(values), _) => LentValues::Plain(ColumnData::Timestamp(&values[flat])),
            (Cells::U64(values), _) => LentValues::Plain(ColumnData::U64(&values[flat])),
            (Cells::I16(values), _) => LentValues::Plain(ColumnData::I16List(&values[flat])),
            (Cells::Bool(bits), _) => LentValues::Bool(bits.iter(flat).collect()),
            (Cells::Bytes(strings), ColumnType::Text) => {
                LentValues::Text(range.map(|row| text(strings.get(row))).collect())
            }
            (Cells::Bytes(strings), _) => LentValues::Bytes(range.map(|row| strings.get(row)).collect()),
        };
        Lent { values, valid }
    }
}

/// Some rows of a column, as an encoder wants them.
pub(super) struct Lent<'a> {
    values: LentValues<'a>,
    valid: Option<Vec<bool>>,
}

enum LentValues<'a> {
    Plain(ColumnData<'a>),
    Bool(Vec<bool>),
    Text(Vec<&'a str>),
    Bytes(Vec<&'a [u8]>),
}

impl Lent<'_> {
    pub(super) fn column(&self) -> Column<'_> {
        let data = match &self.values {
            LentValues::Plain(data) => *data,
            LentValues::Bool(values) => ColumnData::Bool(values),
            LentValues::Text(values) => ColumnData::Text(values),
            LentValues::Bytes(values) => ColumnData::Bytes(values),
        };
        Column { data, validity: self.valid.as_deref() }
    }
}
