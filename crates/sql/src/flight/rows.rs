//! Columns as every client reads them: without dictionaries and views, which not all of them know.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::compute::cast;
use datafusion::arrow::error::ArrowError;

/// The same columns, plain.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(plain_type(field.data_type())))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The type of the same values, plain.
pub(super) fn plain_type(of: &DataType) -> DataType {
    match of {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
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
    use arrow_array::{Array, ArrayRef, DictionaryArray, StringArray, StringViewArray};

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
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(in_columns(&rows, &plain(&rows.schema())).unwrap().num_rows(), 7);
    }
}
