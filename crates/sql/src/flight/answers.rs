//! Statements that are being answered, each in a thread of its own, so that one that computes for long keeps no call waiting. So many are worked
//! on at once; who waits for his client to fetch what is ready makes room for another.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::utils::batches_to_flight_data;
use arrow_schema::SchemaRef;
use futures_util::{Stream, StreamExt, stream};
use icecore_replay::Coverage;
use serde_json::json;
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::Status;
use tracing::{info, warn};

use super::rows;
use super::session::{Call, Sessions};
use super::statement::Statement;
use super::status::{self, shortened};
use crate::{Database, SqlError};

/// Statements that are worked on at once: more would only wait for each other on a small machine.
const AT_ONCE: usize = 4;
/// Answers that are begun: each may have some tens of MiB read ahead.
const BEGUN: usize = 16;
/// Statements that wait to be begun, and how long they do.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of stack for a statement: it is planned by recursion, which goes as deep as a statement may. They are taken as they are used.
const STACK: usize = 64 << 20;
/// Messages of an answer that wait for the client: some 2 MiB each.
const READY: usize = 2;
/// How long a client may take to fetch the next one, before it is taken for gone.
const IDLE: Duration = Duration::from_mins(5);
/// Bytes of a statement in the log.
const LOGGED: usize = 300;
/// Segments that are named in a coverage, of each kind; the others are counted.
const NAMED: usize = 100;

/// What statements are answered with.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    queue: Arc<Semaphore>,
    places: Arc<Semaphore>,
    planners: Arc<Semaphore>,
    room: Arc<Semaphore>,
    running: Running,
    pub(super) sessions: Sessions,
    stop: watch::Receiver<bool>,
}

/// A message of an answer; `None` is its good end.
type Sent = Result<Option<FlightData>, Status>;

/// A statement, and where its answer goes.
struct Work {
    statement: Statement,
    database: Arc<Database>,
    call: Call,
    sessions: Sessions,
    listed: Listed,
    send: mpsc::Sender<Sent>,
    stop: watch::Receiver<bool>,
    room: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Answers {
    /// No statements yet; all of them end when `stop` says so.
    pub(super) fn new(stop: watch::Receiver<bool>) -> Self {
        let [queue, places, planners, room] =
            [WAITING, BEGUN, AT_ONCE, AT_ONCE].map(|most| Arc::new(Semaphore::new(most)));
        let (running, sessions) = (Running::default(), Sessions::default());
        Self { queue, places, planners, room, running, sessions, stop }
    }

    /// Begins to answer a statement. Dropping the answer ends it.
    ///
    /// # Errors
    /// When there is no room for it, or it is cancelled before there is.
    pub(super) async fn begin(
        &self,
        statement: Statement,
        database: Arc<Database>,
        call: Call,
    ) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send + use<>, Status> {
        let listed = self.running.list(statement.id());
        let place = tokio::select! {
            place = self.place(&self.places) => place?,
            status = listed.cancelled() => return Err(status),
            status = stopping(self.stop.clone()) => return Err(status),
        };
        let (send, messages) = mpsc::channel(READY);
        let (sessions, stop, room) = (self.sessions.clone(), self.stop.clone(), Arc::clone(&self.room));
        let work = Work { statement, database, call, sessions, listed, send, stop, room, _place: place };
        start(|runtime| work.run(runtime))?;
        Ok(until_its_end(messages))
    }

    /// What `plan` makes of a statement before it is answered. That may take long, too.
    ///
    /// # Errors
    /// When there is no room for it; and those of `plan`.
    pub(super) async fn plan<T: Send + 'static, F: Future<Output = Result<T, Status>>>(
        &self,
        plan: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, Status> {
        let place = tokio::select! {
            place = self.place(&self.planners) => place?,
            status = stopping(self.stop.clone()) => return Err(status),
        };
        let (send, planned) = oneshot::channel();
        start(move |runtime| {
            // Nobody may be there any more to hear of it.
            let _ = send.send(runtime.and_then(|runtime| runtime.block_on(plan())));
            drop(place);
        })?;
        planned.await.unwrap_or_else(|_| Err(broken("planning")))
    }

    /// Ends the answer of a ticket; false if it is not being answered.
    pub(super) fn cancel(&self, statement: &Statement) -> bool {
        self.running.cancel(statement.id())
    }

    async fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
        let busy = || {
            Status::resource_exhausted(
                "too many statements are planned and answered; come again when some of their rows were fetched",
            )
        };
        let _waiting = self.queue.try_acquire().map_err(|_| busy())?;
        let place = timeout(PATIENCE, Arc::clone(places).acquire_owned()).await;
        place.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// Has a thread of its own `work`, in a runtime of its own.
fn start(work: impl FnOnce(Result<Runtime, Status>) + Send + 'static) -> Result<(), Status> {
    let unavailable = |error: io::Error| Status::unavailable(format!("cannot start a thread: {error}"));
    let run = move || work(runtime::Builder::new_current_thread().enable_all().build().map_err(unavailable));
    let thread = thread::Builder::new().name("flight-sql".to_owned()).stack_size(STACK);
    thread.spawn(run).map_err(unavailable).map(drop)
}

fn broken(what: &str) -> Status {
    Status::internal(format!("{what} broke off, which is a mistake in the program"))
}

/// The messages, and an error where they end without an end: what worked on them broke down.
fn until_its_end(messages: mpsc::Receiver<Sent>) -> impl Stream<Item = Result<FlightData, Status>> + Send {
    stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match messages.recv().await {
            Some(Ok(Some(message))) => Some((Ok(message), Some(messages))),
            Some(Ok(None)) => None,
            Some(Err(status)) => Some((Err(status), None)),
            None => Some((Err(broken("the answer")), None)),
        }
    })
}

/// Done when the server stops.
async fn stopping(mut stop: watch::Receiver<bool>) -> Status {
    let _ = stop.wait_for(|stop| *stop).await;
    Status::unavailable("the server stops")
}

impl Work {
    /// Works on it until it is done, or nobody wants it any more.
    fn run(self, runtime: Result<Runtime, Status>) {
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(status) => {
                let _ = self.send.blocking_send(Err(status));
                return;
            }
        };
        runtime.block_on(async {
            let ended = tokio::select! {
                ended = self.answer() => ended,
                () = self.send.closed() => return,
                status = self.listed.cancelled() => Err(status),
                status = stopping(self.stop.clone()) => Err(status),
            };
            if let Err(status) = ended
                && !self.send.is_closed()
            {
                let statement = shortened(self.statement.text(), LOGGED);
                info!(statement, error = status.message(), "a statement of Flight SQL failed");
                let _ = timeout(IDLE, self.send.send(Err(status))).await;
            }
        });
    }

    async fn answer(&self) -> Result<(), Status> {
        let mut room = self.room().await?;
        let prepared = self.statement.prepare(&self.database).await?;
        let schema = prepared.answered_schema().map_err(|error| status::of(&error))?;
        let schema = rows::plain(&schema);
        let answer = prepared.answer().await.map_err(|error| status::of(&error))?;
        let columns = Arc::clone(&schema);
        let batches = answer.rows.map(move |rows| {
            let rows = rows.map_err(|error| FlightError::from(status::of(&SqlError::from(error))))?;
            rows::in_columns(&rows, &columns).map_err(FlightError::from)
        });
        let mut messages = FlightDataEncoderBuilder::new().with_schema(Arc::clone(&schema)).build(batches);
        while let Some(message) = messages.next().await {
            let message = Ok(Some(message.map_err(status::unwritable)?));
            match self.send.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    drop(room);
                    self.send(message).await?;
                    room = self.room().await?;
                }
                Err(TrySendError::Closed(_)) => return Err(gone()),
            }
        }
        drop(messages);
        let coverage = answer.covered.coverage().await.map_err(|error| status::of(&error))?;
        let told = as_json(&coverage);
        self.sessions.note(&self.call, &told);
        self.check(&coverage)?;
        drop(room);
        self.send(Ok(Some(last(&schema, told)?))).await?;
        self.send(Ok(None)).await
    }

    /// Waits for room to work.
    async fn room(&self) -> Result<OwnedSemaphorePermit, Status> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        room.map_err(|_| Status::unavailable("the server stops"))
    }

    async fn send(&self, message: Sent) -> Result<(), Status> {
        match timeout(IDLE, self.send.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                let minutes = IDLE.as_secs() / 60;
                Err(Status::deadline_exceeded(format!(
                    "nothing was fetched of the answer for {minutes} minutes"
                )))
            }
        }
    }

    /// Says what the answer lacks, if it does.
    fn check(&self, coverage: &Coverage) -> Result<(), Status> {
        if coverage.is_complete() {
            return Ok(());
        }
        let (statement, missing) = (shortened(self.statement.text(), LOGGED), coverage.missing());
        warn!(statement, missing, "an answer of Flight SQL is not complete");
        match self.statement.wants().or(self.call.wants).complete {
            true => Err(Status::failed_precondition(format!(
                "not everything that was asked for is there: {missing}"
            ))),
            false => Ok(()),
        }
    }
}

fn gone() -> Status {
    Status::cancelled("the client has gone")
}

/// The last message: no rows, and what those before it cover. Not every client takes a message that is none of rows.
fn last(schema: &SchemaRef, coverage: String) -> Result<FlightData, Status> {
    let empty = RecordBatch::new_empty(Arc::clone(schema));
    let mut messages = batches_to_flight_data(schema, vec![empty]).map_err(status::unwritten)?;
    let message = messages.pop().ok_or_else(|| Status::internal("an empty batch is no message"))?;
    Ok(message.with_app_metadata(coverage))
}

/// What an answer covers, as the HTTP API says it, with so many segments at most.
fn as_json(coverage: &Coverage) -> String {
    let Coverage { present, unstored, deleted, absent, damage } = coverage;
    let unstored = unstored.as_ref().map(|unstored| {
        json!({ "not_arrived": unstored.not_arrived, "dropped": unstored.dropped, "refused": unstored.refused })
    });
    let lacking = |segments: &[icecore_replay::Lacking]| {
        let named = segments.iter().take(NAMED).map(|lacking| {
            let segment = lacking.segment.to_string();
            json!({ "segment": segment, "events": lacking.events, "exact": lacking.is_exact, "why": lacking.why })
        });
        named.collect::<Vec<_>>()
    };
    json!({
        "present": present,
        "complete": coverage.is_complete(),
        "unstored": unstored,
        "deleted": lacking(deleted),
        "absent": lacking(absent),
        "damage": damage.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>(),
        "summary": coverage.to_string(),
    })
    .to_string()
}

/// The statements that are being answered, by the ids of their tickets.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<Vec<Stoppable>>>);

/// A ticket, and what stops the answer to it.
type Stoppable = (Vec<u8>, Arc<Notify>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Listed {
    running: Running,
    cancelled: Arc<Notify>,
}

impl Running {
    fn list(&self, id: &[u8]) -> Listed {
        let cancelled = Arc::<Notify>::default();
        self.all().push((id.to_vec(), Arc::clone(&cancelled)));
        Listed { running: self.clone(), cancelled }
    }

    /// Whether there were any; they are none of the listed from here on, though their answers end a little later.
    fn cancel(&self, id: &[u8]) -> bool {
        let meant = |(listed, _): &mut Stoppable| !id.is_empty() && listed == id;
        self.all().extract_if(.., meant).map(|(_, cancelled)| cancelled.notify_one()).count() > 0
    }

    fn all(&self) -> MutexGuard<'_, Vec<Stoppable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    async fn cancelled(&self) -> Status {
        self.cancelled.notified().await;
        Status::cancelled("the statement was cancelled")
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.all().retain(|(_, cancelled)| !Arc::ptr_eq(cancelled, &self.cancelled));
    }
}
