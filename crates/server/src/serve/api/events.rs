//! `/v1/devices/{device}/events`: the events of a device as lines of JSON, and at the end what they cover.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use icecore_replay::{Event, EventTimes, Ndjson, Order, Query, Replay, ReplayError, Sink};
use icecore_wire::DeviceName;
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
    let query = Query {
        only: Some([name.clone()].into()),
        schemas: parameters.glob("schema")?,
        times: EventTimes { from: parameters.time("start")?, to: parameters.time("end")? },
        from_position: parameters.number("after", 0, u64::MAX - 1)?.map_or(0, |after| after + 1),
        order: parameters.word("order", &[("log", Order::Log), ("time", Order::Time)])?,
        as_written: parameters.word("as_written", &[("false", false), ("true", true)])?,
        on_damage: coverage::on_damage(&mut parameters)?,
        ..Query::default()
    };
    let limit = parameters.number("limit", 1, u64::MAX)?;
    parameters.end()?;
    lines::of_device(api, name, move |replay, outlet| write(replay, &query, limit, outlet)).await
}

/// Writes the events; the last line tells what they cover.
fn write(
    replay: &Replay,
    query: &Query,
    limit: Option<u64>,
    outlet: &Outlet,
) -> Result<Option<Value>, Problem> {
    let mut sink = Limited {
        events: Ndjson::new(outlet.clone()),
        left: limit.unwrap_or(u64::MAX),
        last: None,
        more: false,
    };
    let replayed = replay.run(query, &mut sink)?;
    let covered = !sink.more;
    Ok((!replayed.cut_short || sink.more).then(|| {
        json!({ "end": {
            "events": replayed.coverage.present.min(limit.unwrap_or(u64::MAX)),
            "more": sink.more,
            "next": sink.last.filter(|_| sink.more && query.order == Order::Log),
            "coverage": covered.then(|| coverage::as_json(&replayed.coverage)),
        }})
    }))
}

/// Takes so many events, and then ends the replay.
struct Limited {
    events: Ndjson<Outlet>,
    left: u64,
    /// The position of the last event.
    last: Option<u64>,
    /// Whether there was one event more.
    more: bool,
}

impl Sink for Limited {
    fn event(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        if self.left == 0 {
            self.more = true;
            return Err(ReplayError::Output(ErrorKind::BrokenPipe.into()));
        }
        self.left -= 1;
        self.last = Some(event.position);
        self.events.event(event)
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        self.events.flush()
    }
}
