//! `/v1/devices/{device}/events`: the events of a device as lines of JSON, and at the end what they cover.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use icecore_replay::{Event, EventTimes, Ndjson, Order, Query, Replay, ReplayError, Sink};
use icecore_wire::DeviceName;
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
    let query = Query {
        only: Some(name.clone()),
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
    let room = api.pool.room().await?;
    let cancelled = Cancelled::default();
    let (pieces, mut taken) = mpsc::channel(PIECES);
    let outlet = Outlet::new(pieces, Handle::current(), PATIENCE);
    let stop = cancelled.clone();
    task::spawn_blocking(move || {
        let _room = room;
        let replay = api.check_known(&name).and_then(|()| api.replay());
        let replay = replay.map(|replay| replay.stopped_by(stop.flag()));
        write(replay, &query, limit, &outlet);
    });
    // What fails before anything was found is an answer of its own.
    let first = match taken.recv().await {
        Some(Ok(first)) => first,
        Some(Err(problem)) => return Err(problem),
        None => return Err(Problem::new(Kind::Internal, "the events were not read")),
    };
    let body = body(Some(first), taken, cancelled.guard());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Writes the events and the last line.
fn write(replay: Result<Replay, Problem>, query: &Query, limit: Option<u64>, outlet: &Outlet) {
    let last = replay.and_then(|replay| {
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
    });
    match last {
        Ok(Some(end)) => drop(outlet.line(&end)),
        // The client has gone.
        Ok(None) => {}
        Err(problem) => outlet.fail(problem),
    }
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
