//! What is read of one device as lines of JSON, and at the end what they cover.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use icecore_replay::Replay;
use icecore_wire::DeviceName;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task;

use super::Api;
use super::outlet::{Outlet, body};
use super::pool::Cancelled;
use super::problem::{Kind, Problem};

/// Pieces, each of a few hundred KiB, that wait for a client.
const PIECES: usize = 2;
/// A client that takes nothing for so long is given up: others wait for the room.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers with the lines that `write` writes of the device called `name`, and with the last line that it returns, if the client is still there.
pub(super) async fn of_device(
    api: Arc<Api>,
    name: DeviceName,
    write: impl FnOnce(&Replay, &Outlet) -> Result<Option<Value>, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let room = api.pool.room().await?;
    let cancelled = Cancelled::default();
    let (pieces, mut taken) = mpsc::channel(PIECES);
    let outlet = Outlet::new(pieces, Handle::current(), PATIENCE);
    let stop = cancelled.clone();
    task::spawn_blocking(move || {
        let _room = room;
        let replay = api.check_known(&name).and_then(|()| api.replay());
        match replay.and_then(|replay| write(&replay.stopped_by(stop.flag()), &outlet)) {
            Ok(Some(last)) => drop(outlet.line(&last)),
            // The client has gone.
            Ok(None) => {}
            Err(problem) => outlet.fail(problem),
        }
    });
    // What fails before anything was found is an answer of its own.
    let first = match taken.recv().await {
        Some(Ok(first)) => first,
        Some(Err(problem)) => return Err(problem),
        None => return Err(Problem::new(Kind::Internal, "what was asked for was not read")),
    };
    let body = body(Some(first), taken, cancelled.guard());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}
