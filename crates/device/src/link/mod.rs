//! The connection to the server: made, kept, made again.
//!
//! - [`dial`]: from an address to an open connection, and what an error means to a person
//! - [`pump`]: one connection from `Hello` to its end: batches out, acks in
//! - [`renewal`]: a new certificate in time
//! - [`silence`]: noticing a dead path soon
//! - [`wait`]: the time between two connections

mod dial;
mod pump;
mod renewal;
mod silence;
mod wait;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_wire::DeviceName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::clock::DeviceClock;
use crate::config::Config;
use crate::error::ConnectError;
use crate::event::{Disconnect, Event};
use crate::identity::Identity;
use crate::spool::class::{Class, InFlight};
use crate::transport;
use crate::watch::{Stats, Watchers};
use dial::Dialer;
use renewal::Renewal;
use wait::Wait;

/// What devices, recorders and the connection's task share.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) clock: Arc<DeviceClock>,
    pub(crate) watchers: Watchers,
    channels: Mutex<HashMap<DeviceName, Arc<Channel>>>,
    /// Channels with something to ask or to send live, and those with backlog to send: each at most once in either.
    ready: [Mutex<VecDeque<Arc<Channel>>>; 2],
    /// Something is ready, or the link is to stop.
    wake: Notify,
    in_flight: Arc<InFlight>,
    traffic: Mutex<Traffic>,
    renewal: Mutex<Renewal>,
    last_error: Mutex<Option<String>>,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

/// What went over the wire: on past connections, and on the newest, which is asked.
#[derive(Default)]
struct Traffic {
    past: Stats,
    newest: Option<quinn::Connection>,
}

impl Traffic {
    fn total(&self) -> Stats {
        let mut total = self.past;
        if let Some(connection) = &self.newest {
            let quinn::ConnectionStats { udp_tx: sent, udp_rx: received, .. } = connection.stats();
            total.wire_bytes_sent += sent.bytes;
            total.wire_bytes_received += received.bytes;
            total.datagrams_sent += sent.datagrams;
            total.datagrams_received += received.datagrams;
        }
        total
    }

    /// The one before goes on counting until here: its last packet leaves after it was closed.
    fn begin(&mut self, connection: quinn::Connection) {
        self.past = self.total();
        self.newest = Some(connection);
    }
}

impl Link {
    /// Starts the task that keeps the connection.
    pub(crate) fn start(config: Config) -> Result<Arc<Self>, ConnectError> {
        let clock = Arc::new(DeviceClock::new(config.clock, config.boot_clock.clone()));
        let tls = client_config(&config, &config.identity, &clock)?;
        let dialer = Dialer::new(&config.server, config.endpoint.clone(), tls);
        let renewal = Renewal::new(config.identity.clone());
        let link = Arc::new(Self {
            config,
            renewal: Mutex::new(renewal),
            clock,
            watchers: Watchers::default(),
            channels: Mutex::default(),
            ready: Default::default(),
            wake: Notify::new(),
            in_flight: Arc::default(),
            traffic: Mutex::default(),
            last_error: Mutex::default(),
            stop: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
        });
        // Made here, because a task that never got its turn has duties as well.
        tokio::spawn(run(LastDuty(Arc::clone(&link)), dialer));
        Ok(link)
    }

    /// The server said its time, `delay` ago.
    fn heard_time(&self, server_time: i64, delay: Duration) {
        self.clock.heard(server_time, delay);
        for channel in self.all() {
            channel.update(|outbox, _| outbox.clock_known(&self.clock));
            channel.signal();
        }
    }

    /// Adds a device.
    pub(crate) fn add(&self, channel: &Arc<Channel>) -> Result<(), ConnectError> {
        let mut channels = self.channels();
        if channels.contains_key(&channel.name) {
            return Err(ConnectError::Exists(channel.name.clone()));
        }
        channels.insert(channel.name.clone(), Arc::clone(channel));
        drop(channels);
        channel.signal();
        Ok(())
    }

    pub(crate) fn has(&self, name: &DeviceName) -> bool {
        self.channels().contains_key(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.channels().len()
    }

    /// Forgets a closed device, and has the connection let go of it.
    pub(crate) fn remove(&self, channel: &Arc<Channel>) {
        self.channels().remove(&channel.name);
        channel.remove();
    }

    pub(crate) fn all(&self) -> Vec<Arc<Channel>> {
        self.channels().values().cloned().collect()
    }

    pub(crate) fn in_flight(&self) -> Arc<InFlight> {
        Arc::clone(&self.in_flight)
    }

    pub(crate) fn signal(&self, class: Class, channel: Arc<Channel>) {
        let mut ready = locked(&self.ready[class as usize]);
        if *self.stopped.borrow() {
            // Nobody takes it out any more: it would keep the link, the link would keep it, and its spool stay locked.
            return;
        }
        ready.push_back(channel);
        drop(ready);
        self.wake.notify_one();
    }

    fn next_ready(&self, class: Class) -> Option<Arc<Channel>> {
        locked(&self.ready[class as usize]).pop_front()
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.watchers.stats();
        stats.add(&locked(&self.traffic).total());
        stats
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }

    pub(crate) fn set_error(&self, error: String) {
        *locked(&self.last_error) = Some(error);
    }

    /// Asks the task to end the connection and itself.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.wake.notify_one();
    }

    /// When a device needs a connection, if one does.
    fn demand(&self, now: Instant) -> Option<Instant> {
        let demands = self.all().into_iter().filter_map(|channel| channel.demand(now.into_std()));
        demands.min().map(Instant::from_std)
    }

    fn is_demanded(&self, now: Instant) -> bool {
        self.demand(now).is_some_and(|at| at <= now)
    }

    /// Whether a connection on demand ended because nobody needed it: closed for that reason, or left to time out.
    fn has_slept(&self, ended: &Ended, now: Instant) -> bool {
        let left = self.config.on_demand.is_some() && !self.is_demanded(now);
        ended.reason == Disconnect::Idle || left && ended.reason == Disconnect::Silent
    }

    /// Waits until a device needs a connection, or the link is to stop.
    async fn demanded(&self) {
        while !self.is_stopping() {
            // Every device is looked at below; whoever comes after this wakes the link anew.
            for class in Class::ALL {
                while let Some(channel) = self.next_ready(class) {
                    channel.begin_service(class);
                }
            }
            let now = Instant::now();
            match self.demand(now) {
                Some(at) if at <= now => return,
                Some(at) => drop(tokio::time::timeout_at(at, self.wake.notified()).await),
                None => self.wake.notified().await,
            }
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the task has ended.
    pub(crate) async fn stopped(&self) {
        // The sender lives in self: waiting cannot fail.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<DeviceName, Arc<Channel>>> {
        locked(&self.channels)
    }
}

/// Every critical section here leaves its data whole at each step, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a connection ended.
struct Ended {
    reason: Disconnect,
    /// The server's wish.
    retry_after: Option<Duration>,
}

impl From<Disconnect> for Ended {
    fn from(reason: Disconnect) -> Self {
        Self { reason, retry_after: None }
    }
}

/// How connections are made with `identity`.
fn client_config(
    config: &Config,
    identity: &Identity,
    clock: &Arc<DeviceClock>,
) -> Result<quinn::ClientConfig, rustls::Error> {
    let mut tls = transport::client_config_by(identity, clock.clone())?;
    if config.on_demand.is_some() {
        tls.transport_config(Arc::new(transport::on_demand_config()));
    }
    Ok(tls)
}

/// However the task ends, with its runtime for one, everything that the link holds is let go of.
struct LastDuty(Arc<Link>);

impl Drop for LastDuty {
    fn drop(&mut self) {
        self.0.channels().clear();
        self.0.watchers.end();
        self.0.stopped.send_replace(true);
        // Last: from here on nothing is added.
        self.0.ready.iter().for_each(|ready| locked(ready).clear());
    }
}

/// Connects, pumps, and connects again, until the link is stopped.
async fn run(duty: LastDuty, mut dialer: Dialer) {
    let link = &duty.0;
    let mut wait = Wait::new(link.config.backoff);
    while !link.is_stopping() {
        if link.config.on_demand.is_some() {
            link.demanded().await;
            if link.is_stopping() {
                break;
            }
        }
        let began = Instant::now();
        let ended = connect_once(link, &mut dialer).await;
        for channel in link.all() {
            channel.update(|outbox, _| outbox.rewind());
        }
        if link.is_stopping() {
            break;
        }
        let now = Instant::now();
        if link.has_slept(&ended, now) {
            wait.reset();
            link.watchers.event(Event::Disconnected { reason: Disconnect::Idle, retry_in: Duration::ZERO });
            continue;
        }
        wait.ended(began, now);
        let retry_in = wait.next(now, ended.retry_after);
        tracing::debug!(reason = %ended.reason, ?retry_in, "disconnected");
        link.set_error(ended.reason.to_string());
        link.watchers.event(Event::Disconnected { reason: ended.reason, retry_in });
        let mut stop = link.stop.subscribe();
        let _ = tokio::time::timeout(retry_in, stop.wait_for(|stop| *stop)).await;
    }
    dialer.finish().await;
}

/// One connection from the attempt to its end.
async fn connect_once(link: &Arc<Link>, dialer: &mut Dialer) -> Ended {
    let mut stop = link.stop.subscribe();
    link.use_renewed(dialer);
    let (connection, first_flight) = tokio::select! {
        dialed = dialer.dial() => match dialed {
            Ok(dialed) => dialed,
            Err(reason) => return reason.into(),
        },
        _ = stop.wait_for(|stop| *stop) => return Disconnect::Lost { reason: "stopped".into() }.into(),
    };
    locked(&link.traffic).begin(connection.clone());
    let ended = pump::run(link, &connection, dialer.own_endpoint(), first_flight).await;
    dialer.answered(!matches!(ended.reason, Disconnect::Unreachable { .. }));
    connection.close(0u32.into(), b"");
    ended
}
