//! What the footer says of a column in a row group.

use icecore_wire::ColumnType;

use super::Decoded;
use super::cells::{Cells, Growing};
use super::limits::{MAX_GROUP_NUMBERS, MAX_GROUP_ROWS, STATISTIC_BYTES};
use super::varint::{self, Fields};

/// The least and the greatest value of a column.
///
/// Of lists, those of their elements. NaN is neither; -0.0 is less than 0.0.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Extremes {
    /// Doubles, and singles widened.
    Float(f64, f64),
    /// Signed integers and timestamps.
    Signed(i64, i64),
    /// Unsigned integers.
    Unsigned(u64, u64),
    /// Truth values.
    Bool(bool, bool),
    /// Texts, cut to 32 bytes at a character: no text is less than the first, and none greater than the last but those that
    /// begin with it.
    Text(String, String),
}

/// What is known of a column in a row group without reading it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statistics {
    /// Rows without a value.
    pub nulls: u64,
    /// Numbers that are NaN.
    pub nans: u64,
    /// `None`: there are no values, or nothing but NaN, or values without an order (bytes).
    pub extremes: Option<Extremes>,
}

impl Statistics {
    pub(super) fn of(column: &Growing) -> Self {
        let floats = |values: &mut dyn Iterator<Item = f64>| {
            let (mut nans, mut extremes) = (0, None);
            for value in values {
                if value.is_nan() {
                    nans += 1;
                    continue;
                }
                let (min, max) = extremes.get_or_insert((value, value));
                if value.total_cmp(min).is_lt() {
                    *min = value;
                } else if value.total_cmp(max).is_gt() {
                    *max = value;
                }
            }
            (nans, extremes.map(|(min, max)| Extremes::Float(min, max)))
        };
        let (nans, extremes) = match &column.cells {
            Cells::F64(values) => floats(&mut values.iter().copied()),
            Cells::F32(values) => floats(&mut values.iter().map(|value| f64::from(*value))),
            Cells::I64(values) => (0, extremes(values.iter().copied()).map(|(a, b)| Extremes::Signed(a, b))),
            Cells::I16(values) => {
                let values = values.iter().map(|value| i64::from(*value));
                (0, extremes(values).map(|(a, b)| Extremes::Signed(a, b)))
            }
            Cells::U64(values) => {
                (0, extremes(values.iter().copied()).map(|(a, b)| Extremes::Unsigned(a, b)))
            }
            Cells::Bool(bits) => {
                let values = bits.iter(0..bits.len());
                (0, extremes(values).map(|(a, b)| Extremes::Bool(a, b)))
            }
            Cells::Bytes(texts) if column.ty == ColumnType::Text => {
                let cut = |(min, max)| Extremes::Text(cut(min), cut(max));
                (0, extremes(texts.iter()).map(cut))
            }
            Cells::Bytes(_) => (0, None),
        };
        Self { nulls: column.nulls as u64, nans, extremes }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        varint::push(out, self.nulls);
        varint::push(out, self.nans);
        let Some(extremes) = &self.extremes else {
            out.push(0);
            return;
        };
        out.push(1);
        match extremes {
            Extremes::Float(min, max) => {
                out.extend_from_slice(&min.to_bits().to_le_bytes());
                out.extend_from_slice(&max.to_bits().to_le_bytes());
            }
            Extremes::Signed(min, max) => {
                varint::push_signed(out, *min);
                varint::push(out, max.wrapping_sub(*min) as u64);
            }
            Extremes::Unsigned(min, max) => {
                varint::push(out, *min);
                varint::push(out, max - min);
            }
            Extremes::Bool(min, max) => out.extend_from_slice(&[u8::from(*min), u8::from(*max)]),
            Extremes::Text(min, max) => {
                varint::push_bytes(out, min.as_bytes());
                varint::push_bytes(out, max.as_bytes());
            }
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>, ty: ColumnType) -> Decoded<Self> {
        let nulls = fields.at_most(MAX_GROUP_ROWS as u64, "nulls")?;
        let nans = fields.at_most(MAX_GROUP_NUMBERS as u64, "NaNs")?;
        if fields.array()? == [0] {
            return Ok(Self { nulls, nans, extremes: None });
        }
        let extremes = match ty {
            ColumnType::F64 | ColumnType::F32 | ColumnType::F32List(_) => {
                let mut float = || Ok::<_, String>(f64::from_bits(u64::from_le_bytes(fields.array()?)));
                Extremes::Float(float()?, float()?)
            }
            ColumnType::I64 | ColumnType::Timestamp | ColumnType::I16List(_) => {
                let min = fields.signed()?;
                let max = min.checked_add_unsigned(fields.number()?).ok_or("a maximum out of range")?;
                Extremes::Signed(min, max)
            }
            ColumnType::U64 => {
                let min = fields.number()?;
                let max = min.checked_add(fields.number()?).ok_or("a maximum out of range")?;
                Extremes::Unsigned(min, max)
            }
            ColumnType::Bool => {
                let [min, max] = fields.array()?;
                Extremes::Bool(min != 0, max != 0)
            }
            ColumnType::Text => {
                let mut text = || {
                    Ok::<_, String>(
                        str::from_utf8(fields.bytes()?).map_err(|_| "a text that is not UTF-8")?.to_owned(),
                    )
                };
                Extremes::Text(text()?, text()?)
            }
            ColumnType::Bytes => return Err("byte strings have no extremes".into()),
        };
        Ok(Self { nulls, nans, extremes: Some(extremes) })
    }
}

fn extremes<T: PartialOrd + Copy>(mut values: impl Iterator<Item = T>) -> Option<(T, T)> {
    let first = values.next()?;
    let widen = |(min, max): (T, T), value: T| {
        (if value < min { value } else { min }, if value > max { value } else { max })
    };
    Some(values.fold((first, first), widen))
}

/// The beginning of a text.
fn cut(text: &[u8]) -> String {
    let text = str::from_utf8(text).expect("texts were validated");
    text[..text.floor_char_boundary(STATISTIC_BYTES)].to_owned()
}
