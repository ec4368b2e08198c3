//! A session with small tables, in several partitions and small batches.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, RecordBatch, TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use jiff::Timestamp;

/// Device, time and value.
pub(super) type Event<'a> = (&'a str, &'a str, Option<f64>);

/// A session that knows the functions, and splits the work.
pub(super) fn session() -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(3).with_batch_size(4);
    let context = SessionContext::new_with_config(config);
    super::register(&context).unwrap();
    context
}

/// A table `name(device, event_time, value)` whose rows are dealt out to three partitions.
pub(super) fn table(context: &SessionContext, name: &str, events: &[Event<'_>]) {
    let schema = batch(&[]).schema();
    let mut partitions = vec![vec![]; 3];
    for (at, events) in events.chunks(2).enumerate() {
        partitions[at % 3].push(batch(events));
    }
    let table = MemTable::try_new(schema, partitions).unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
}

fn batch(events: &[Event<'_>]) -> RecordBatch {
    let devices: DictionaryArray<Int32Type> = events.iter().map(|event| event.0).collect();
    let times = events.iter().map(|event| nanoseconds(event.1));
    let times = TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC");
    let values: Float64Array = events.iter().map(|event| event.2).collect();
    let columns: [(_, ArrayRef, _); 3] = [
        ("device", Arc::new(devices), false),
        ("event_time", Arc::new(times), false),
        ("value", Arc::new(values), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// A time of day on 31 January 2013, or any time in full.
pub(super) fn nanoseconds(time: &str) -> i64 {
    let time = if time.contains('T') { time.to_owned() } else { format!("2013-01-31T{time}Z") };
    time.parse::<Timestamp>().unwrap().as_nanosecond().try_into().unwrap()
}

/// The rows of an answer, with a space between cells; NULL is `-`, and the day of times that have that one is left out.
pub(super) async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<String>> {
    let state = context.state();
    let mut statement = state.sql_to_statement(sql, &state.config().options().sql_parser.dialect)?;
    super::nest(&mut statement);
    let plan = state.statement_to_plan(statement).await?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let options = FormatOptions::new().with_null("-");
    let mut rows = Vec::new();
    for batch in batches {
        let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
        let cells: Vec<_> = cells.collect();
        for row in 0..batch.num_rows() {
            let line: Vec<_> = cells.iter().map(|cells| cells.value(row).to_string()).collect();
            rows.push(line.join(" ").replace("2013-01-31T", ""));
        }
    }
    Ok(rows)
}

/// What is said about a statement that fails.
pub(super) async fn refusal(context: &SessionContext, sql: &str) -> String {
    rows(context, sql).await.unwrap_err().to_string()
}
