//! Columns of a sealed row group as arrays, mostly without a copy.

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type, Int16Type, Int64Type, UInt64Type};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Int32Array, PrimitiveArray,
    StringArray, TimestampNanosecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field};
use icecore_log::sealed::{BatchPart, SealedColumn, SealedValues};
use icecore_wire::ColumnType;

/// What makes a column of times one of UTC.
pub(super) const UTC: &str = "UTC";

/// The array of a field.
pub(super) fn of_field(ty: ColumnType, column: SealedColumn) -> Result<ArrayRef, ArrowError> {
    let rows = column.len();
    let (valid, values) = column.into_values();
    let nulls = valid.map(|valid| NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(valid), 0, rows)));
    Ok(match (values, ty) {
        (SealedValues::F64(values), _) => Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)),
        (SealedValues::F32(values), ColumnType::F32List(length)) => {
            let elements = PrimitiveArray::<Float32Type>::new(values.into(), None);
            list(DataType::Float32, length, Arc::new(elements), nulls)?
        }
        (SealedValues::F32(values), _) => Arc::new(PrimitiveArray::<Float32Type>::new(values.into(), nulls)),
        (SealedValues::I64(values), ColumnType::Timestamp) => {
            Arc::new(TimestampNanosecondArray::new(values.into(), nulls).with_timezone(UTC))
        }
        (SealedValues::I64(values), _) => Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls)),
        (SealedValues::U64(values), _) => Arc::new(PrimitiveArray::<UInt64Type>::new(values.into(), nulls)),
        (SealedValues::I16(values), _) => {
            let length = match ty {
                ColumnType::I16List(length) => length,
                _ => 1,
            };
            let elements = PrimitiveArray::<Int16Type>::new(values.into(), None);
            list(DataType::Int16, length, Arc::new(elements), nulls)?
        }
        (SealedValues::Bool(bits), _) => {
            Arc::new(BooleanArray::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows), nulls))
        }
        (SealedValues::Bytes { offsets, data }, _) => {
            let offsets = OffsetBuffer::new(ScalarBuffer::new(Buffer::from_vec(offsets), 0, rows + 1));
            let data = Buffer::from_vec(data);
            match ty {
                ColumnType::Text => Arc::new(StringArray::try_new(offsets, data, nulls)?),
                _ => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
            }
        }
    })
}

fn list(
    ty: DataType,
    length: u16,
    elements: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let element = Arc::new(Field::new_list_field(ty, true));
    Ok(Arc::new(FixedSizeListArray::try_new(element, length.into(), elements, nulls)?))
}

/// The array of the devices of `parts`, as a dictionary of those that occur.
pub(super) fn of_devices(parts: &[BatchPart], rows: usize) -> Result<ArrayRef, ArrowError> {
    let (mut keys, mut names): (Vec<i32>, Vec<&str>) = (Vec::with_capacity(rows), Vec::new());
    for part in parts {
        // Rows are in the order of devices.
        if names.last() != Some(&part.source.device.as_str()) {
            names.push(part.source.device.as_str());
        }
        keys.resize(keys.len() + part.count as usize, names.len() as i32 - 1);
    }
    let names = Arc::new(StringArray::from(names));
    Ok(Arc::new(DictionaryArray::try_new(Int32Array::from(keys), names)?))
}

/// One number a row, the same for all rows of a batch.
pub(super) fn repeated<T: Copy>(parts: &[BatchPart], rows: usize, of: impl Fn(&BatchPart) -> T) -> Vec<T> {
    let mut all = Vec::with_capacity(rows);
    parts.iter().for_each(|part| all.resize(all.len() + part.count as usize, of(part)));
    all
}

/// Numbers that ascend by one within a batch.
pub(super) fn counted(parts: &[BatchPart], rows: usize, first: impl Fn(&BatchPart) -> u64) -> Vec<u64> {
    let mut all = Vec::with_capacity(rows);
    for part in parts {
        let first = first(part);
        all.extend((0..u64::from(part.count)).map(|offset| first.wrapping_add(offset)));
    }
    all
}
