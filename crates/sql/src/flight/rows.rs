//! Columns as every client reads them: without dictionaries and views, which not all of them know.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::compute::cast;
use datafusion::arrow::error::ArrowError;

/// The same columns, plain.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(plain_type(field.data_type())))
}

/// The type of the same values, plain.
pub(super) fn plain_type(of: &DataType) -> DataType {
    match of {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The same rows in the columns of `schema`.
///
/// # Errors
/// When the values of a column do not go into it.
pub(super) fn in_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // So that rows without columns are counted.
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{
        Array, ArrayRef, DictionaryArray, FixedSizeListArray, Float64Array, LargeListArray, ListArray,
        MapArray, StringArray, StringViewArray, StructArray,
    };
    use arrow_flight::utils::batches_to_flight_data;
    use arrow_schema::Field;
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;

    #[test]
    fn dictionaries_and_views_become_plain() {
        let devices: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let views = StringViewArray::from(vec![Some("x"), None, Some("y")]);
        let columns: [(&str, ArrayRef); 2] = [("device", Arc::new(devices)), ("note", Arc::new(views))];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
            .unwrap();
        let schema = plain(&rows.schema());
        let plain = in_columns(&rows, &schema).unwrap();
        let text =
            |column: usize| plain.column(column).as_any().downcast_ref::<StringArray>().unwrap().clone();
        assert_eq!(text(0), StringArray::from(vec!["a", "b", "a"]));
        assert!(text(1).is_null(1) && text(1).value(2) == "y");
    }

    #[test]
    fn so_does_what_is_inside_of_others() {
        let devices: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let devices: ArrayRef = Arc::new(devices);
        let field = |name: &str, of: &ArrayRef| Arc::new(Field::new(name, of.data_type().clone(), true));
        let both = |of: &ArrayRef| {
            ListArray::new(field("item", of), OffsetBuffer::from_lengths([1, 1]), Arc::clone(of), None)
        };
        let large = OffsetBuffer::from_lengths([1, 1]);
        let large = LargeListArray::new(field("item", &devices), large, Arc::clone(&devices), None);
        let fixed = FixedSizeListArray::new(field("item", &devices), 1, Arc::clone(&devices), None);
        let named = StructArray::from(vec![(field("d", &devices), Arc::clone(&devices))]);
        let key = Arc::new(Field::new("key", devices.data_type().clone(), false));
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        let entries =
            StructArray::from(vec![(key, Arc::clone(&devices)), (field("value", &numbers), numbers)]);
        let of_entries = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let map = MapArray::new(of_entries, OffsetBuffer::from_lengths([1, 1]), entries, None, false);
        let named: ArrayRef = Arc::new(named);
        let columns: [(&str, ArrayRef); 6] = [
            ("list", Arc::new(both(&devices))),
            ("large", Arc::new(large)),
            ("fixed", Arc::new(fixed)),
            ("structs", Arc::new(both(&named))),
            ("struct", named),
            ("map", Arc::new(map)),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
            .unwrap();
        let schema = plain(&rows.schema());
        let plain = in_columns(&rows, &schema).unwrap();
        for (column, before) in plain.columns().iter().zip(rows.columns()) {
            assert!(!column.data_type().to_string().contains("Dictionary"), "{}", column.data_type());
            for row in 0..2 {
                assert_eq!(
                    array_value_to_string(column, row).unwrap(),
                    array_value_to_string(before, row).unwrap()
                );
            }
        }
        batches_to_flight_data(&schema, vec![plain]).unwrap();
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(in_columns(&rows, &plain(&rows.schema())).unwrap().num_rows(), 7);
    }
}
