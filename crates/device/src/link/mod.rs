//! The connection to the server: made, kept, made again.
//!
//! - [`dial`]: from an address to an open connection, and what an error means to a person
//! - [`pump`]: one connection from `Hello` to its end: batches out, acks in
//! - [`silence`]: noticing a dead path soon

mod dial;
mod pump;
mod silence;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_wire::DeviceName;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::config::{Backoff, Config};
use crate::error::ConnectError;
use crate::event::{Disconnect, Event};
use crate::spool::class::{Class, InFlight};
use crate::transport;
use crate::watch::{Stats, Watchers};
use dial::Dialer;

/// A connection that lasted this long was a good one: the next attempt starts from the shortest wait again.
const STEADY: Duration = Duration::from_secs(5);

/// What devices, recorders and the connection's task share.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) watchers: Watchers,
    channels: Mutex<HashMap<DeviceName, Arc<Channel>>>,
    /// Channels with something to ask or to send live, and those with backlog to send: each at most once in either.
    ready: [Mutex<VecDeque<Arc<Channel>>>; 2],
    /// Something is ready, or the link is to stop.
    wake: Notify,
    in_flight: Arc<InFlight>,
    traffic: Mutex<Traffic>,
    last_error: Mutex<Option<String>>,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

/// Bytes on the wire: of past connections, and the present one to be asked.
#[derive(Default)]
struct Traffic {
    sent: u64,
    received: u64,
    present: Option<quinn::Connection>,
}

impl Traffic {
    fn end_present(&mut self) {
        if let Some(connection) = self.present.take() {
            let stats = connection.stats();
            self.sent += stats.udp_tx.bytes;
            self.received += stats.udp_rx.bytes;
        }
    }
}

impl Link {
    /// Starts the task that keeps the connection.
    pub(crate) fn start(config: Config) -> Result<Arc<Self>, ConnectError> {
        let dialer =
            Dialer::new(&config.server, config.endpoint.clone(), transport::client_config(&config.identity)?);
        let link = Arc::new(Self {
            config,
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
        let traffic = locked(&self.traffic);
        let present = traffic.present.as_ref().map(quinn::Connection::stats);
        let (sent, received) = present.map_or((0, 0), |stats| (stats.udp_tx.bytes, stats.udp_rx.bytes));
        Stats {
            wire_bytes_sent: traffic.sent + sent,
            wire_bytes_received: traffic.received + received,
            ..self.watchers.stats()
        }
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
        let began = Instant::now();
        let ended = connect_once(link, &mut dialer).await;
        for channel in link.all() {
            channel.update(|outbox, _| outbox.rewind());
        }
        if link.is_stopping() {
            break;
        }
        if began.elapsed() >= STEADY {
            wait.reset();
        }
        let retry_in = wait.next().max(ended.retry_after.unwrap_or_default());
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
    let connection = tokio::select! {
        dialed = dialer.dial() => match dialed {
            Ok(connection) => connection,
            Err(reason) => return reason.into(),
        },
        _ = stop.wait_for(|stop| *stop) => return Disconnect::Lost { reason: "stopped".into() }.into(),
    };
    locked(&link.traffic).present = Some(connection.clone());
    let ended = pump::run(link, &connection).await;
    connection.close(0u32.into(), b"");
    locked(&link.traffic).end_present();
    ended
}

/// Jittered exponential backoff.
struct Wait {
    bounds: Backoff,
    next: Duration,
}

impl Wait {
    fn new(bounds: Backoff) -> Self {
        Self { bounds, next: bounds.min }
    }

    fn reset(&mut self) {
        self.next = self.bounds.min;
    }

    fn next(&mut self) -> Duration {
        let full = self.next.min(self.bounds.max);
        self.next = full.saturating_mul(2).min(self.bounds.max);
        let mut random = [0; 4];
        // Without random numbers devices merely come back at the same time.
        let _ = getrandom::fill(&mut random);
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        full.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let bounds = Backoff { min: Duration::from_millis(50), max: Duration::from_millis(300) };
        let mut wait = Wait::new(bounds);
        for full in [50, 100, 200, 300, 300] {
            let waited = wait.next().as_millis();
            assert!((full / 2..=full).contains(&waited), "{waited} of {full}");
        }
        wait.reset();
        assert!(wait.next() <= bounds.min);
    }
}
