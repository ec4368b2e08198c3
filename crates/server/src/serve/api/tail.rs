//! `/v1/tail`: what becomes durable, as server-sent events that can be gone on from.
//!
//! Every tail reads the log itself, behind its watermark, on a thread behind ingestion: one that is slow is late, and costs
//! nobody anything. Ids are `term:position`: everything up to that position was told.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use icecore_log::{Damage, LogReader, OnDamage, RealDisk, Watermark};
use icecore_replay::{Batches, EventJson, Follow, Followed, Query, ReplayError, Selection};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Api;
use super::coverage::lacking;
use super::outlet::{Outlet, body};
use super::parameters::Parameters;
use super::problem::{Kind, Problem};
use crate::serve::background;

/// Tails at the same time; each has a thread.
pub(in crate::serve) const TAILS: usize = 16;
/// Pieces that wait for a client.
const PIECES: usize = 4;
/// Bytes of a piece, before the last event in it.
const PIECE_BYTES: usize = 32 << 10;
/// A client that takes nothing for so long is given up; it can go on from the last id it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something was added.
const LOOK: Duration = Duration::from_millis(50);
/// A client hears something at least so often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A place in the log: everything up to and with the event at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    term: u64,
    position: u64,
}

/// Where a tail begins.
#[derive(Debug, Clone, Copy)]
enum From {
    Now,
    Start,
    /// Behind a place that was told.
    Behind(Place),
    /// Behind the event that has this position now.
    Position(u64),
}

pub(super) async fn tail(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    mut query: Parameters,
) -> Result<Response, Problem> {
    let from = query.read("from", |text| match text {
        "now" => Ok(From::Now),
        "start" => Ok(From::Start),
        text => match text.parse::<u64>() {
            Ok(position) => Ok(From::Position(position)),
            Err(_) => text.parse().map(From::Behind),
        },
    })?;
    let resumed = headers.get("last-event-id").map(|id| {
        let place = id.to_str().map_err(|_| String::new()).and_then(str::parse);
        place.map(From::Behind).map_err(|expected| Problem::parameter("Last-Event-ID", expected))
    });
    let from = resumed.transpose()?.or(from).unwrap_or(From::Now);
    let query_of_tail = Query {
        devices: query.glob("device")?,
        schemas: query.glob("schema")?,
        // A version that comes while it is read must not change what the others read as.
        as_written: true,
        on_damage: OnDamage::Skip,
        ..Query::default()
    };
    query.end()?;
    let place = Arc::clone(&api.tails).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Busy, format!("{TAILS} tails are being read, which is as many as there may be"))
    })?;
    let finding = Arc::clone(&api);
    let (term, position) = api.pool.run(move |_| finding.begin(from)).await?;
    let (pieces, taken) = mpsc::channel(PIECES);
    let outlet = Outlet::new(pieces, Handle::current(), PATIENCE);
    let query = Query { from_position: position, ..query_of_tail };
    Tail { api, query, term, outlet, text: Vec::new(), events: EventJson::default(), told: Instant::now() }
        .start()?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body(None, taken, place)).into_response())
}

impl Api {
    /// The term, and the position of the first event that is to be told.
    fn begin(&self, from: From) -> Result<(u64, u64), Problem> {
        let data = &self.config.data.dir;
        let mark = Watermark::published(&RealDisk, data);
        let mark = mark.ok_or_else(|| Problem::new(Kind::Unreadable, "the watermark cannot be read"))?;
        match from {
            From::Now => Ok((mark.term, mark.position)),
            From::Start => Ok((mark.term, 0)),
            From::Position(position) if position < mark.position => Ok((mark.term, position + 1)),
            From::Position(position) => Err(no_place(&position, &mark)),
            From::Behind(place) => {
                let reader = LogReader::open(Arc::new(RealDisk), data)?;
                match reader.holds(place.term, place.position)? {
                    true => Ok((mark.term, place.position + 1)),
                    false => Err(no_place(&place, &mark)),
                }
            }
        }
    }
}

fn no_place(place: &dyn fmt::Display, mark: &Watermark) -> Problem {
    let Watermark { term, position, .. } = mark;
    let detail = format!(
        "there is no {place} in this log, which is in term {term} and has {position} events: it was made anew from less than it \
         once had, or it is another log; begin with from=start or from=now"
    );
    Problem::new(Kind::Place, detail)
}

/// One tail being read.
struct Tail {
    api: Arc<Api>,
    /// From the position on that is to be told next.
    query: Query,
    term: u64,
    outlet: Outlet,
    text: Vec<u8>,
    events: EventJson,
    /// When something was sent last.
    told: Instant,
}

/// Why a tail ended.
enum Ended {
    /// Nobody takes it any more.
    Gone,
    Failed(Problem),
}

impl Tail {
    fn start(mut self) -> Result<(), Problem> {
        let run = move || {
            background::behind_ingestion("a tail");
            if let Err(Ended::Failed(problem)) = self.read() {
                self.named("problem", &problem.as_json());
                drop(self.send());
            }
        };
        let started = thread::Builder::new().name("tail".to_owned()).spawn(run);
        started
            .map(drop)
            .map_err(|error| Problem::new(Kind::Internal, format!("cannot start a thread: {error}")))
    }

    /// Reads what is there, and then what is added, until nobody takes it.
    fn read(&mut self) -> Result<(), Ended> {
        self.text.extend_from_slice(b"retry: 1000\n");
        self.mark();
        loop {
            let replay = self.api.replay().map_err(Ended::Failed)?;
            let query = self.query.clone();
            let mut batches = replay.batches(&query);
            self.catch_up(&mut batches)?;
            self.follow(batches.follow())?;
        }
    }

    /// What was there when the log was opened.
    fn catch_up(&mut self, batches: &mut Batches<'_>) -> Result<(), Ended> {
        let mut damaged = 0;
        while let Some(batch) = batches.next() {
            self.tell_missing(batches, &mut damaged)?;
            self.batch(&batch?)?;
        }
        self.tell_missing(batches, &mut damaged)
    }

    /// What is added; ends when another view of the log is needed.
    fn follow(&mut self, mut added: Follow) -> Result<(), Ended> {
        loop {
            match added.next() {
                Ok(Followed::Batch(batch)) => self.batch(&batch)?,
                Ok(Followed::Other) if self.told.elapsed() < LOOK => {}
                Ok(Followed::Other) => {
                    self.send()?;
                    self.beat()?;
                }
                Ok(Followed::Idle) => {
                    self.query.from_position = self.query.from_position.max(added.position());
                    self.send()?;
                    self.beat()?;
                    thread::sleep(LOOK);
                }
                // What is damaged is passed over by the next view, which tells it.
                Ok(Followed::Behind) | Err(ReplayError::Log(icecore_log::LogError::Damaged(_))) => {
                    self.query.from_position = self.query.from_position.max(added.position());
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn batch(&mut self, batch: &Selection) -> Result<(), Ended> {
        batch.for_each(|event| {
            let place = Place { term: self.term, position: event.position };
            self.text.extend_from_slice(format!("id: {place}\ndata: ").as_bytes());
            self.events.push(&mut self.text, event);
            self.text.extend_from_slice(b"\n\n");
            self.query.from_position = self.query.from_position.max(event.position + 1);
            if self.text.len() < PIECE_BYTES { Ok(()) } else { self.send() }
        })
    }

    /// Tells what cannot be told.
    fn tell_missing(&mut self, batches: &mut Batches<'_>, damaged: &mut usize) -> Result<(), Ended> {
        for segment in batches.take_lacking() {
            self.named("missing", &lacking(&segment));
        }
        for damage in batches.damage().iter().skip(*damaged) {
            let Damage { positions, .. } = damage;
            let events = positions.as_ref().map(|positions| positions.end.saturating_sub(positions.start));
            let why = damage.to_string();
            self.named("missing", &json!({ "segment": null, "events": events, "exact": false, "why": why }));
            *damaged += 1;
        }
        if self.text.len() < PIECE_BYTES { Ok(()) } else { self.send() }
    }

    /// Says at times how far it is, though nothing was there to be told.
    fn beat(&mut self) -> Result<(), Ended> {
        if self.outlet.is_closed() {
            return Err(Ended::Gone);
        }
        if self.told.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.text.extend_from_slice(b": nothing new\n");
        self.mark();
        self.send()
    }

    /// An id without an event, which a client takes for the last one.
    fn mark(&mut self) {
        if let Some(position) = self.query.from_position.checked_sub(1) {
            let place = Place { term: self.term, position };
            self.text.extend_from_slice(format!("id: {place}\n").as_bytes());
        }
        self.text.push(b'\n');
    }

    fn named(&mut self, name: &str, data: &Value) {
        self.text.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
    }

    fn send(&mut self) -> Result<(), Ended> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.told = Instant::now();
        let sent = std::io::Write::write_all(&mut self.outlet, &self.text);
        self.text.clear();
        sent.map_err(|_| Ended::Gone)
    }
}

impl std::convert::From<ReplayError> for Ended {
    fn from(error: ReplayError) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, self.position)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
        };
        let parts =
            text.split_once(':').and_then(|(term, position)| Some((number(term)?, number(position)?)));
        let place = parts.filter(|(_, position)| *position < u64::MAX);
        let place = place.map(|(term, position)| Self { term, position });
        place.ok_or_else(|| format!("expected the id of an event, TERM:POSITION, not {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_nothing_else_does() {
        let place = Place { term: 3, position: 1 << 60 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "3", ":", "3:", ":4", "3:-4", "+3:4", "3:4:5", "3:18446744073709551615", "a:b"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
