//! What people with sensors ask of time: buckets, gaps, counters, directions, and the newest of another table.
//!
//! Some of it is more than a function. Filling gaps and joining as of a time have operators of their own, and a counter's increase
//! is a window function below an aggregate: rules of the analyzer put them where the SQL calls for them.

mod as_of;
mod circular_mean;
mod extreme;
mod gap_fill;
mod increase;
mod planner;
#[cfg(test)]
mod testing;
mod time_bucket;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::prelude::SessionContext;

pub(crate) use as_of::nest;

use as_of::{AsOfFilters, AsOfSyntax};
use circular_mean::CircularMean;
use extreme::Extreme;
use gap_fill::{Fill, FillGaps};
use increase::{Increase, RiseOf, SumRises};
use planner::Planner;
use time_bucket::TimeBucket;

/// Functions of the engine that make much of little: a few bytes of a statement are gigabytes while it is planned, where nothing is counted.
const INFLATING: [&str; 7] =
    ["repeat", "lpad", "rpad", "array_repeat", "array_resize", "range", "generate_series"];

/// Makes the functions known to a session, and some of the engine's unknown. Statements that join as of a time must go through [`nest`]
/// before they are planned.
///
/// # Errors
///
/// If the session takes no more functions.
pub(crate) fn register(context: &SessionContext) -> Result<()> {
    for name in INFLATING {
        context.deregister_udf(name);
    }
    let bucket = Arc::new(ScalarUDF::from(TimeBucket::start()));
    context.register_udf(bucket.as_ref().clone());
    context.register_udf(TimeBucket::gap_fill().into());
    context.register_udf(Fill::Locf.function());
    context.register_udf(Fill::Interpolate.function());
    context.register_udaf(AggregateUDF::from(CircularMean::default()));
    context.register_udaf(AggregateUDF::from(Extreme::max_by()));
    context.register_udaf(AggregateUDF::from(Extreme::min_by()));
    context.register_udaf(AggregateUDF::from(Increase::default()));
    let rise = Arc::new(WindowUDF::from(RiseOf::default()));
    context.register_udwf(rise.as_ref().clone());
    // In this order: what counts per bucket needs to see the bucket, not the call for gaps.
    context.add_analyzer_rule(Arc::new(FillGaps::new(bucket)));
    context.add_analyzer_rule(Arc::new(SumRises::new(rise)));
    let mut state = SessionStateBuilder::new_from_existing(context.state())
        .with_session_id(context.session_id())
        .with_query_planner(Arc::new(Planner));
    if let Some(optimizer) = state.optimizer() {
        // Filters come to a join through what stands above it, and before columns that nobody needs are cut off in between.
        let pushed = optimizer.rules.iter().position(|rule| rule.name() == "push_down_filter");
        optimizer.rules.insert(pushed.map_or(0, |at| at + 1), Arc::new(AsOfFilters));
    }
    let state = state.build();
    let shared = context.state_ref();
    *shared.write() = state;
    shared.write().register_relation_planner(Arc::new(AsOfSyntax))
}
