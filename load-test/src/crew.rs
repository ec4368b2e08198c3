//! Devices whose every batch is accounted for: when it was cut, when it was acked, and with which digest.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use icecore_device::{BatchPolicy, Config, Device, Event, Events, Gateway, Identity, Level, Spool};
use icecore_load::promises::{Acked, Stored};
use icecore_load::server::TestServer;
use quinn::Endpoint;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::disconnects::Disconnects;
use crate::fleet::{self, Pace};
use crate::workload::{self, Machine, Readings};

/// How long a member may take until the server is ready for its batches, and its last acks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Unread events of a member; it reads all the time.
const EVENT_BUFFER: usize = 1 << 14;
/// Payload bytes that a member holds: minutes without a network at a usual rate.
pub(crate) const SPOOL_BYTES: usize = 8 << 20;

/// Who the members are, and what they note together. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    pub(crate) config: Config,
    /// Events in a batch.
    pub(crate) rows: usize,
    pub(crate) acked: Acked,
    pub(crate) disconnects: Disconnects,
}

/// A batch's account; its place in the list is its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    /// When it was due.
    pub(crate) cut: Instant,
    pub(crate) acked: Option<Instant>,
}

impl Batch {
    /// From the cut to the durable ack, if it was acked.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.acked.map(|acked| acked - self.cut)
    }
}

/// A device of a crew.
#[derive(Clone)]
pub(crate) struct Member {
    /// Unless the device has an identity of its own.
    gateway: Option<Gateway>,
    pub(crate) device: Device,
    number: usize,
    rows: usize,
    batches: Arc<Mutex<Vec<Batch>>>,
    listener: Arc<Mutex<Option<JoinHandle<Result<()>>>>>,
}

impl Crew {
    /// A crew that writes to `server` (`host:port`) as the gateway `identity`, `rows` events a batch.
    pub(crate) fn new(server: impl Into<String>, identity: Identity, rows: usize) -> Self {
        let cut = BatchPolicy { max_rows: rows, max_age: None, ..BatchPolicy::default() };
        let config = Config::new(server, identity).batch(cut).digests(true);
        Self { config, rows, acked: Acked::default(), disconnects: Disconnects::default() }
    }

    /// The same crew by another way to the server, or with another identity.
    pub(crate) fn by(&self, server: impl Into<String>, identity: Identity) -> Self {
        Self { config: Self::new(server, identity, self.rows).config, ..self.clone() }
    }

    /// Connects member `number` over a connection of its own, on `endpoint`'s socket or one of its own.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub(crate) async fn connect(&self, number: usize, endpoint: Option<Endpoint>) -> Result<Member> {
        let config = self.config.clone();
        let gateway = Gateway::connect(match endpoint {
            Some(endpoint) => config.endpoint(endpoint),
            None => config,
        })?;
        self.behind(&gateway, number).await
    }

    /// Connects member `number` behind `gateway`.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub(crate) async fn behind(&self, gateway: &Gateway, number: usize) -> Result<Member> {
        let device = gateway.device(name(number).parse()?, Spool::Memory { max_bytes: SPOOL_BYTES })?;
        let mut events = device.events(EVENT_BUFFER);
        timeout(PATIENCE, self.attached(&mut events))
            .await
            .with_context(|| format!("device {number} was not attached within {PATIENCE:?}"))??;
        Ok(self.member(Some(gateway.clone()), device, number, events))
    }

    /// Starts member `number` as the device that the crew's identity names, and does not wait until it is connected: it
    /// may be refused, or connect on demand. The accounts of batches fit only if `spool` is a new one.
    ///
    /// # Errors
    /// When the identity or the spool cannot be used.
    pub(crate) fn alone(&self, number: usize, spool: Spool) -> Result<Member> {
        let device = Device::connect(self.config.clone(), spool)?;
        let events = device.events(EVENT_BUFFER);
        Ok(self.member(None, device, number, events))
    }

    fn member(&self, gateway: Option<Gateway>, device: Device, number: usize, events: Events) -> Member {
        let batches = Arc::<Mutex<Vec<Batch>>>::default();
        let listener = tokio::spawn(self.clone().listen(events, Arc::clone(&batches)));
        let listener = Arc::new(Mutex::new(Some(listener)));
        Member { gateway, device, number, rows: self.rows, batches, listener }
    }

    /// Connects members side by side, each over a connection of its own, on a few sockets.
    ///
    /// # Errors
    /// When a connection fails.
    pub(crate) async fn connect_all(&self, numbers: Range<usize>, server: &str) -> Result<Vec<Member>> {
        let sockets = fleet::sockets(server, numbers.len()).await?;
        let mut attempts = JoinSet::new();
        for (place, number) in numbers.enumerate() {
            let (crew, socket) = (self.clone(), sockets[place % sockets.len()].clone());
            attempts.spawn(async move {
                sleep(fleet::turn(place)).await;
                crew.connect(number, Some(socket)).await
            });
        }
        let mut members = Vec::new();
        while let Some(attempt) = attempts.join_next().await {
            members.push(attempt.context("a connection attempt panicked")??);
        }
        members.sort_by_key(|member| member.number);
        Ok(members)
    }

    /// Connects members one after the other, each over a connection and a socket of its own: to a network they are
    /// different clients.
    ///
    /// # Errors
    /// When a connection fails.
    pub(crate) async fn connect_apart(&self, numbers: Range<usize>) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        for number in numbers {
            members.push(self.connect(number, None).await?);
        }
        Ok(members)
    }

    async fn attached(&self, events: &mut Events) -> Result<()> {
        loop {
            let event = events.next().await.context("the connection was closed")?;
            self.disconnects.note(&event);
            match event {
                Event::Attached { .. } => return Ok(()),
                Event::Refused { message, .. } => bail!("the server refused: {message}"),
                _ => {}
            }
        }
    }

    async fn listen(self, mut events: Events, batches: Arc<Mutex<Vec<Batch>>>) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(event) = events.next().await {
            self.acked.note(&event);
            self.disconnects.note(&event);
            match event {
                Event::Acked { range, level: Level::Durable, .. } => {
                    let number = usize::try_from(range.start)? / self.rows;
                    if let Some(batch) = locked(&batches).get_mut(number) {
                        batch.acked.get_or_insert_with(Instant::now);
                    }
                }
                Event::Rejected { device, range, message, .. } => {
                    outcome = Err(anyhow!("{device} {range:?} was rejected: {message}"));
                }
                Event::Missed { events } => outcome = Err(anyhow!("{events} events were missed")),
                _ => {}
            }
        }
        outcome
    }

    /// Stops `server` and proves that it has what was acked, once, and nothing else.
    ///
    /// # Errors
    /// When the server does not stop in good order, or a promise was not kept.
    pub(crate) fn prove(&self, server: &mut TestServer) -> Result<Stored> {
        server.stop()?;
        let stored = self.acked.check(&server.path("data"))?;
        let acked = self.acked.events();
        ensure!(stored.events == acked, "{acked} events were acked, the log has {}", stored.events);
        println!("verified: a replay of the log has exactly the {acked} acked events, byte for byte");
        print!("{}", self.disconnects);
        Ok(stored)
    }
}

impl Member {
    /// Cuts a batch at every turn of `pace`, until its end.
    ///
    /// # Errors
    /// When recording fails.
    pub(crate) async fn stream(&self, pace: Pace) -> Result<()> {
        let mut recording = Recording::of(self);
        let mut due = pace.begin;
        while due < pace.end {
            sleep_until(due).await;
            // When recording has to wait, the batches behind it are late as well, and their acks with them.
            recording.cut(due.into_std()).await?;
            due += pace.every;
        }
        Ok(())
    }

    /// Cuts batches as fast as the spool takes them, until `end`.
    ///
    /// # Errors
    /// When recording fails.
    pub(crate) async fn flood(&self, end: tokio::time::Instant) -> Result<()> {
        let mut recording = Recording::of(self);
        while tokio::time::Instant::now() < end {
            recording.cut(Instant::now()).await?;
        }
        Ok(())
    }

    /// The account of every batch so far.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        locked(&self.batches).clone()
    }

    /// Events cut so far.
    pub(crate) fn cut(&self) -> u64 {
        (locked(&self.batches).len() * self.rows) as u64
    }

    /// Waits for the last acks.
    ///
    /// # Errors
    /// When something is not acked in time.
    pub(crate) async fn flush(&self) -> Result<()> {
        let flushed = self.device.flush(Level::Durable, PATIENCE).await;
        flushed.with_context(|| self.device.name().to_string())
    }

    /// Waits for the last acks, then closes the connection.
    ///
    /// # Errors
    /// When something is not acked in time, or was refused.
    pub(crate) async fn close(self) -> Result<()> {
        self.flush().await?;
        match self.gateway {
            Some(gateway) => gateway.close(PATIENCE).await?,
            None => self.device.close(PATIENCE).await?,
        }
        listened(&self.listener).await
    }

    /// Closes the connection and, in good order, the spool, whatever was not acked.
    ///
    /// # Errors
    /// When something was refused.
    pub(crate) async fn leave(self) -> Result<()> {
        // What is pending is in the spool, if that is one to last.
        let _ = match self.gateway {
            Some(gateway) => gateway.close(Duration::ZERO).await,
            None => self.device.close(Duration::ZERO).await,
        };
        listened(&self.listener).await
    }
}

/// The name of member `number`.
pub(crate) fn name(number: usize) -> String {
    format!("load/{number:05}")
}

/// Waits for a member's listener, which ends with the connection.
async fn listened(listener: &Mutex<Option<JoinHandle<Result<()>>>>) -> Result<()> {
    let listener = locked(listener).take();
    match listener {
        Some(listener) => listener.await.context("a listener panicked")?,
        None => Ok(()),
    }
}

/// Waits for the last acks of all members.
///
/// # Errors
/// When something is not acked in time.
pub(crate) async fn flush_all(members: &[Member]) -> Result<()> {
    for member in members {
        member.flush().await?;
    }
    Ok(())
}

/// Closes members side by side.
///
/// # Errors
/// The first of theirs.
pub(crate) async fn close_all(members: Vec<Member>) -> Result<()> {
    // First all acks: the first who closes a common gateway ends the others' connection as well.
    flush_all(&members).await?;
    let mut closing: JoinSet<_> = members.into_iter().map(Member::close).collect();
    while let Some(closed) = closing.join_next().await {
        closed.context("closing a connection panicked")??;
    }
    Ok(())
}

/// Latencies, from cut to ack, of the batches that `members` cut within `time`.
pub(crate) fn latencies(members: &[Member], time: &Range<Instant>) -> Vec<Duration> {
    let batches = members.iter().flat_map(Member::batches);
    batches.filter(|batch| time.contains(&batch.cut)).filter_map(|batch| batch.latency()).collect()
}

/// What a member needs to go on with its readings.
struct Recording<'a> {
    member: &'a Member,
    machine: Machine,
    readings: Readings,
    recorder: icecore_device::Recorder,
}

impl<'a> Recording<'a> {
    fn of(member: &'a Member) -> Self {
        let machine = Machine::new(member.number as u64, workload::now());
        let recorder = member.device.recorder(workload::schema());
        Self { member, machine, readings: Readings::default(), recorder }
    }

    /// Makes a batch that was due at `due`.
    async fn cut(&mut self, due: Instant) -> Result<()> {
        self.machine.read(self.member.rows, &mut self.readings);
        locked(&self.member.batches).push(Batch { cut: due, acked: None });
        Ok(self.recorder.columns(&self.readings.times, &self.readings.columns()).await?)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is a single step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
