//! `/v1/devices/{device}/rollups`: the windows of a device as lines of JSON, each as it is known now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use icecore_replay::rollup::NewestRows;
use icecore_replay::{EventTimes, Order, Query, Replay};
use icecore_tier::policy::Period;
use icecore_wire::{DeviceName, Glob, Schema};
use serde_json::{Value, json};

use super::Api;
use super::coverage;
use super::lines;
use super::outlet::Outlet;
use super::parameters::{Named, Parameters};
use super::problem::Problem;

pub(super) async fn of_device(
    State(api): State<Arc<Api>>,
    Named(name): Named<DeviceName>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let wanted = |name: &str| Problem::parameter(name, "it has to be there");
    let schema = parameters.text("schema")?.ok_or_else(|| wanted("schema"))?;
    let every = parameters.read("every", |text| text.parse::<Period>().map_err(|error| error.to_string()))?;
    let schema = Schema::derived_name(&schema, &every.ok_or_else(|| wanted("every"))?.to_string());
    let query = Query {
        only: Some([name.clone()].into()),
        schemas: Glob::new(&schema),
        times: EventTimes { from: parameters.time("start")?, to: parameters.time("end")? },
        order: Order::Time,
        as_written: true,
        on_damage: coverage::on_damage(&mut parameters)?,
        ..Query::default()
    };
    let limit = parameters.number("limit", 1, u64::MAX)?.unwrap_or(u64::MAX);
    parameters.end()?;
    lines::of_device(api, name, move |replay, outlet| write(replay, &query, schema, limit, outlet)).await
}

/// Writes the windows; the last line tells what they cover.
fn write(
    replay: &Replay,
    query: &Query,
    schema: String,
    limit: u64,
    outlet: &Outlet,
) -> Result<Option<Value>, Problem> {
    let mut sink = NewestRows::new(outlet.clone(), schema, limit);
    let replayed = replay.run(query, &mut sink)?;
    let (windows, more) = sink.written();
    Ok((!replayed.cut_short || more).then(|| {
        let coverage = (!more).then(|| coverage::as_json(&replayed.coverage));
        json!({ "end": { "windows": windows, "more": more, "coverage": coverage } })
    }))
}
