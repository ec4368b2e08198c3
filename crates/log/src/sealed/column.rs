//! One column of one row group: what its head says, and its pages.

use std::ops::Range;

use icecore_wire::ColumnType;

use super::Decoded;
use super::bits::Bits;
use super::cells::{Cells, Growing, width};
use super::limits::{MAX_GROUP_NUMBERS, MAX_GROUP_ROWS, PAGE_VALUES};
use super::numbers::{self, Decoder, Number, Packed};
use super::texts::{self, TextDecoder};
use super::varint::{self, Fields};
use crate::fields::crc32c;

/// A column and what is stored of it.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Goes into the head of the row group.
    pub(super) head: Vec<u8>,
    pub(super) pages: Vec<Vec<u8>>,
}

/// Encodes a column. Of times, the head also tells the range of every page.
pub(super) fn encode(column: &Growing, are_times: bool) -> Encoded {
    let rows = column.valid.len();
    let mut head = Vec::new();
    let mut pages = Vec::new();
    varint::push(&mut head, column.nulls as u64);
    if column.nulls > 0 && column.nulls < rows {
        pages.push(column.valid.pack());
    }
    if column.nulls < rows {
        let (per_page, packed) = compress(column, are_times);
        varint::push(&mut head, per_page as u64);
        varint::push_bytes(&mut head, &packed.head);
        if let Cells::I64(times) = &column.cells
            && are_times
        {
            push_ranges(&mut head, times, per_page);
        }
        pages.extend(packed.pages);
    }
    for page in &pages {
        varint::push(&mut head, page.len() as u64);
        head.extend_from_slice(&crc32c(page).to_le_bytes());
    }
    Encoded { head, pages }
}

/// The values of the rows that have one: how many rows' in a page, and the pages.
fn compress(column: &Growing, are_times: bool) -> (usize, Packed) {
    fn numbers<T: Number>(values: &[T], width: usize, are_times: bool) -> (usize, Packed) {
        let per_page = (PAGE_VALUES / width).max(1);
        (per_page, numbers::compress(values, per_page * width, are_times))
    }
    let width = width(column.ty);
    match &column.cells {
        Cells::F64(values) => numbers(values, width, are_times),
        Cells::F32(values) => numbers(values, width, are_times),
        Cells::I64(values) => numbers(values, width, are_times),
        Cells::U64(values) => numbers(values, width, are_times),
        Cells::I16(values) => numbers(values, width, are_times),
        Cells::Bool(bits) => (MAX_GROUP_ROWS, Packed { head: Vec::new(), pages: vec![bits.pack()] }),
        Cells::Bytes(strings) => {
            let per_page = texts::per_page(strings);
            (per_page, texts::compress(strings, per_page))
        }
    }
}

fn push_ranges(head: &mut Vec<u8>, times: &[i64], per_page: usize) {
    for (min, max) in times.chunks(per_page).map(range_of) {
        varint::push_signed(head, min);
        varint::push(head, max.wrapping_sub(min) as u64);
    }
}

/// The least and the greatest of some times (at least one).
pub(super) fn range_of(times: &[i64]) -> (i64, i64) {
    times.iter().fold((i64::MAX, i64::MIN), |(min, max), time| (min.min(*time), max.max(*time)))
}

/// Where a page lies, and what its bytes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageAt {
    /// From the start of the file.
    pub(super) offset: u64,
    pub(super) len: usize,
    pub(super) crc: u32,
}

/// What is known of a column in a row group once its head is read.
#[derive(Debug)]
pub(super) struct ColumnHead {
    pub(super) ty: ColumnType,
    pub(super) rows: usize,
    /// Rows that have a value.
    pub(super) values: usize,
    /// Values of how many rows a page holds.
    pub(super) per_page: usize,
    /// Which rows have a value, if only some have.
    pub(super) validity: Option<PageAt>,
    pub(super) pages: Vec<PageAt>,
    /// The least and the greatest time of every page, if this is the column of the event times.
    pub(super) ranges: Vec<(i64, i64)>,
    /// What the decoder of the values needs.
    pub(super) decoder: Vec<u8>,
}

impl ColumnHead {
    /// Reads what stands at the front of `fields`. The column's pages start at `offset`, which is moved behind them.
    pub(super) fn read(
        fields: &mut Fields<'_>,
        ty: ColumnType,
        rows: usize,
        are_times: bool,
        offset: &mut u64,
    ) -> Decoded<Self> {
        let values = rows - fields.size(rows, "nulls")?;
        let (mut per_page, mut decoder, mut ranges) = (1, Vec::new(), Vec::new());
        if values > 0 {
            per_page = fields.size(MAX_GROUP_ROWS, "values in a page")?.max(1);
            decoder = fields.bytes()?.to_vec();
        }
        let count = values.div_ceil(per_page);
        if values * width(ty) > MAX_GROUP_NUMBERS {
            return Err(format!("{values} lists in one row group"));
        }
        if are_times {
            for _ in 0..count {
                let min = fields.signed()?;
                let max = min.checked_add_unsigned(fields.number()?).ok_or("a time out of range")?;
                ranges.push((min, max));
            }
        }
        let mut page = || {
            let len = fields.size(u32::MAX as usize, "bytes of a page")?;
            let page = PageAt { offset: *offset, len, crc: u32::from_le_bytes(fields.array()?) };
            *offset = offset.saturating_add(len as u64);
            Ok::<_, String>(page)
        };
        let validity = if values > 0 && values < rows { Some(page()?) } else { None };
        let pages = (0..count).map(|_| page()).collect::<Decoded<_>>()?;
        Ok(Self { ty, rows, values, per_page, validity, pages, ranges, decoder })
    }

    /// Decodes the validity page.
    pub(super) fn validity(&self, page: &[u8]) -> Decoded<Bits> {
        let bits = Bits::unpack(page, self.rows)?;
        match bits.count(0..self.rows) {
            values if values == self.values => Ok(bits),
            values => Err(format!("{values} rows with a value, not {}", self.values)),
        }
    }

    pub(super) fn decoder(&self) -> Decoded<ValueDecoder> {
        let (head, count, pages) = (&self.decoder, self.values * width(self.ty), self.pages.len());
        Ok(match self.ty {
            ColumnType::F64 => ValueDecoder::F64(Decoder::open(head, count, pages)?),
            ColumnType::F32 | ColumnType::F32List(_) => ValueDecoder::F32(Decoder::open(head, count, pages)?),
            ColumnType::I64 | ColumnType::Timestamp => ValueDecoder::I64(Decoder::open(head, count, pages)?),
            ColumnType::U64 => ValueDecoder::U64(Decoder::open(head, count, pages)?),
            ColumnType::I16List(_) => ValueDecoder::I16(Decoder::open(head, count, pages)?),
            ColumnType::Bool => ValueDecoder::Bool,
            ColumnType::Text => ValueDecoder::Text(TextDecoder::open(head, count, pages)?),
            ColumnType::Bytes => ValueDecoder::Bytes(TextDecoder::open(head, count, pages)?),
        })
    }

    /// Which values (counted by rows that have one) the page with this index holds.
    pub(super) fn page_values(&self, index: usize) -> Range<usize> {
        numbers::page_range(index, self.per_page, self.values)
    }
}

/// Decodes the pages of one column and row group.
pub(super) enum ValueDecoder {
    F64(Decoder<f64>),
    F32(Decoder<f32>),
    I64(Decoder<i64>),
    U64(Decoder<u64>),
    I16(Decoder<i16>),
    Bool,
    Text(TextDecoder),
    Bytes(TextDecoder),
}

impl ValueDecoder {
    /// Decodes the page with this index, of `count` cells.
    pub(super) fn page(&mut self, index: usize, page: &[u8], count: usize) -> Decoded<Cells> {
        Ok(match self {
            Self::F64(decoder) => Cells::F64(decoder.page(index, page, count)?),
            Self::F32(decoder) => Cells::F32(decoder.page(index, page, count)?),
            Self::I64(decoder) => Cells::I64(decoder.page(index, page, count)?),
            Self::U64(decoder) => Cells::U64(decoder.page(index, page, count)?),
            Self::I16(decoder) => Cells::I16(decoder.page(index, page, count)?),
            Self::Bool => Cells::Bool(Bits::unpack(page, count)?),
            Self::Text(decoder) => {
                let strings = decoder.page(index, page, count)?;
                texts::check_utf8(&strings)?;
                Cells::Bytes(strings)
            }
            Self::Bytes(decoder) => Cells::Bytes(decoder.page(index, page, count)?),
        })
    }

    /// The same, behind other cells: of numbers without a copy.
    pub(super) fn append(
        &mut self,
        index: usize,
        page: &[u8],
        count: usize,
        cells: &mut Cells,
    ) -> Decoded<()> {
        match (&mut *self, &mut *cells) {
            (Self::F64(decoder), Cells::F64(cells)) => decoder.append(index, page, count, cells),
            (Self::F32(decoder), Cells::F32(cells)) => decoder.append(index, page, count, cells),
            (Self::I64(decoder), Cells::I64(cells)) => decoder.append(index, page, count, cells),
            (Self::U64(decoder), Cells::U64(cells)) => decoder.append(index, page, count, cells),
            (Self::I16(decoder), Cells::I16(cells)) => decoder.append(index, page, count, cells),
            _ => {
                let decoded = self.page(index, page, count)?;
                cells.extend_from_page(&decoded, 0..count)
            }
        }
    }
}
