//! `/v1/devices/{device}/rollups`: the windows of a device as lines of JSON, each as it is known now.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use icecore_replay::rollup::NewestRows;
use icecore_replay::{EventTimes, Order, Query, Replay};
use icecore_tier::policy::Period;
use icecore_wire::{DeviceName, Glob, Schema};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task;

use super::Api;
use super::coverage;
use super::outlet::{Outlet, body};
use super::parameters::{Named, Parameters};
use super::pool::Cancelled;
use super::problem::{Kind, Problem};

/// Pieces, each of a few hundred KiB, that wait for a client.
const PIECES: usize = 2;
/// A client that takes nothing for so long is given up: others wait for the room.
const PATIENCE: Duration = Duration::from_secs(30);

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
        only: Some(name.clone()),
        schemas: Glob::new(&schema),
        times: EventTimes { from: parameters.time("start")?, to: parameters.time("end")? },
        order: Order::Time,
        as_written: true,
        on_damage: coverage::on_damage(&mut parameters)?,
        ..Query::default()
    };
    let limit = parameters.number("limit", 1, u64::MAX)?.unwrap_or(u64::MAX);
    parameters.end()?;
    let room = api.pool.room().await?;
    let cancelled = Cancelled::default();
    let (pieces, mut taken) = mpsc::channel(PIECES);
    let outlet = Outlet::new(pieces, Handle::current(), PATIENCE);
    let stop = cancelled.clone();
    task::spawn_blocking(move || {
        let _room = room;
        let replay = api.check_known(&name).and_then(|()| api.replay());
        let replay = replay.map(|replay| replay.stopped_by(stop.flag()));
        write(replay, &query, schema, limit, &outlet);
    });
    // What fails before anything was found is an answer of its own.
    let first = match taken.recv().await {
        Some(Ok(first)) => first,
        Some(Err(problem)) => return Err(problem),
        None => return Err(Problem::new(Kind::Internal, "the rollups were not read")),
    };
    let body = body(Some(first), taken, cancelled.guard());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Writes the windows and the last line.
fn write(replay: Result<Replay, Problem>, query: &Query, schema: String, limit: u64, outlet: &Outlet) {
    let last = replay.and_then(|replay| {
        let mut sink = NewestRows::new(outlet.clone(), schema, limit);
        let replayed = replay.run(query, &mut sink)?;
        let (windows, more) = sink.written();
        Ok((!replayed.cut_short || more).then(|| {
            let coverage = (!more).then(|| coverage::as_json(&replayed.coverage));
            json!({ "end": { "windows": windows, "more": more, "coverage": coverage } })
        }))
    });
    match last {
        Ok(Some(end)) => drop(outlet.line(&end)),
        // The client has gone.
        Ok(None) => {}
        Err(problem) => outlet.fail(problem),
    }
}
