//! `/v1/retention/plan`: what the policies that apply would do, and cost.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use icecore_tier::plan::MAX_DAYS;
use serde_json::Value;

use super::Api;
use super::parameters::Parameters;
use super::problem::Problem;
use crate::retention;

pub(super) async fn plan(State(api): State<Arc<Api>>, mut query: Parameters) -> Result<Json<Value>, Problem> {
    let days = query.number("days", 1, MAX_DAYS)?;
    query.end()?;
    let reading = Arc::clone(&api);
    let plan = move |_: &_| Ok(retention::plan_by_policies(&reading.catalog.view()?, &reading.config, days)?);
    api.pool.run(plan).await.map(Json)
}
