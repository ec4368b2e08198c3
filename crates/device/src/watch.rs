//! Those who watch what happens: subscriptions to events, and counters.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use icecore_wire::DeviceName;
use tokio::sync::Notify;

use crate::event::Event;

/// A subscription to events: a bounded buffer that loses the newest and counts them when its reader is too slow.
pub struct Events(Arc<Buffer>);

impl Events {
    /// The next event; `None` when the device or gateway is closed and everything was read.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut unread = self.0.unread();
                if let Some(event) = unread.pop() {
                    return Some(event);
                }
                if unread.ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.unread().pop()
    }
}

struct Buffer {
    /// Only events of this device and of the connection; `None`: all.
    device: Option<DeviceName>,
    capacity: usize,
    unread: Mutex<Unread>,
    arrived: Notify,
}

#[derive(Default)]
struct Unread {
    events: VecDeque<Event>,
    missed: u64,
    ended: bool,
}

impl Buffer {
    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().expect("a buffer of events is never left half changed")
    }

    fn offer(&self, events: &[Event]) {
        let mut unread = self.unread();
        for event in events {
            if self.device.is_some() && event.device().is_some() && event.device() != self.device.as_ref() {
                continue;
            }
            if unread.events.len() >= self.capacity {
                unread.missed += 1;
                continue;
            }
            if unread.missed > 0 {
                let events = std::mem::take(&mut unread.missed);
                unread.events.push_back(Event::Missed { events });
            }
            unread.events.push_back(event.clone());
        }
        drop(unread);
        self.arrived.notify_one();
    }
}

impl Unread {
    fn pop(&mut self) -> Option<Event> {
        let lost_since = |missed: &mut u64| Event::Missed { events: std::mem::take(missed) };
        self.events.pop_front().or_else(|| (self.missed > 0).then(|| lost_since(&mut self.missed)))
    }
}

/// Counters of one connection since it was made, across reconnects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// UDP payload bytes sent.
    pub wire_bytes_sent: u64,
    /// UDP payload bytes received.
    pub wire_bytes_received: u64,
    /// UDP datagrams sent.
    pub datagrams_sent: u64,
    /// UDP datagrams received.
    pub datagrams_received: u64,
    /// Connections whose first packets carried data already, by resuming an earlier session (0-RTT).
    pub zero_rtt_offered: u64,
    /// Of those, connections whose server took that data.
    pub zero_rtt_accepted: u64,
    /// Times that a connection that had fallen silent was moved to another socket.
    pub moves: u64,
    /// Batches written to the connection, repetitions included.
    pub batches_sent: u64,
    /// Of those, batches that had been written before; those do not count whose server did not take 0-RTT data.
    pub batches_resent: u64,
    /// Batches acked as durable.
    pub batches_acked: u64,
    /// Events acked as durable.
    pub events_acked: u64,
    /// Batches that never had to be sent, because the server had them already.
    pub batches_already_stored: u64,
    /// Events in them.
    pub events_already_stored: u64,
    /// Batches that the server refused for good.
    pub batches_rejected: u64,
    /// Events in them.
    pub events_rejected: u64,
    /// Events that full or damaged spools lost, and that the server was or will be told about.
    pub events_dropped: u64,
    /// Bytes written to the files of spools on disk, headers and padding included: what wears flash.
    pub spool_bytes_written: u64,
    /// Times that spools on disk waited for the disk (fsync), new directory entries included.
    pub spool_fsyncs: u64,
    /// Connections that the server welcomed.
    pub connections: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.wire_bytes_sent += other.wire_bytes_sent;
        self.wire_bytes_received += other.wire_bytes_received;
        self.datagrams_sent += other.datagrams_sent;
        self.datagrams_received += other.datagrams_received;
        self.zero_rtt_offered += other.zero_rtt_offered;
        self.zero_rtt_accepted += other.zero_rtt_accepted;
        self.moves += other.moves;
        self.batches_sent += other.batches_sent;
        self.batches_resent += other.batches_resent;
        self.batches_acked += other.batches_acked;
        self.events_acked += other.events_acked;
        self.batches_already_stored += other.batches_already_stored;
        self.events_already_stored += other.events_already_stored;
        self.batches_rejected += other.batches_rejected;
        self.events_rejected += other.events_rejected;
        self.events_dropped += other.events_dropped;
        self.spool_bytes_written += other.spool_bytes_written;
        self.spool_fsyncs += other.spool_fsyncs;
        self.connections += other.connections;
    }
}

/// What one step did: gathered without locks, published at once.
pub(crate) struct Report {
    pub(crate) stats: Stats,
    events: Vec<Event>,
    watched: bool,
}

impl Report {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.stats == Stats::default()
    }

    /// Keeps an event, made only if somebody watches.
    pub(crate) fn event(&mut self, event: impl FnOnce() -> Event) {
        if self.watched {
            self.events.push(event());
        }
    }
}

/// Who watches one connection.
#[derive(Default)]
pub(crate) struct Watchers {
    buffers: Mutex<Vec<Weak<Buffer>>>,
    watched: AtomicBool,
    ended: AtomicBool,
    stats: Mutex<Stats>,
}

impl Watchers {
    pub(crate) fn subscribe(&self, device: Option<DeviceName>, capacity: usize) -> Events {
        let buffer = Arc::new(Buffer { device, capacity, unread: Mutex::default(), arrived: Notify::new() });
        let mut buffers = self.buffers();
        buffer.unread().ended = self.ended.load(Ordering::Relaxed);
        buffers.push(Arc::downgrade(&buffer));
        self.watched.store(true, Ordering::Relaxed);
        drop(buffers);
        Events(buffer)
    }

    pub(crate) fn report(&self) -> Report {
        let watched = self.watched.load(Ordering::Relaxed);
        Report { stats: Stats::default(), events: Vec::new(), watched }
    }

    pub(crate) fn publish(&self, report: &Report) {
        self.locked_stats().add(&report.stats);
        if report.events.is_empty() {
            return;
        }
        let mut buffers = self.buffers();
        buffers.retain(|buffer| {
            buffer.upgrade().is_some_and(|buffer| {
                buffer.offer(&report.events);
                true
            })
        });
        self.watched.store(!buffers.is_empty(), Ordering::Relaxed);
    }

    /// Publishes one event.
    pub(crate) fn event(&self, event: Event) {
        let mut report = self.report();
        report.event(|| event);
        self.publish(&report);
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.locked_stats()
    }

    /// Ends all subscriptions.
    pub(crate) fn end(&self) {
        let mut buffers = self.buffers();
        self.ended.store(true, Ordering::Relaxed);
        for buffer in buffers.drain(..).filter_map(|buffer| buffer.upgrade()) {
            buffer.unread().ended = true;
            buffer.arrived.notify_one();
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Weak<Buffer>>> {
        self.buffers.lock().expect("the list of subscriptions is never left half changed")
    }

    fn locked_stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().expect("counters are never left half changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(device: &str, first: u64) -> Event {
        let epoch = icecore_wire::Epoch::from_bytes([7; 16]);
        Event::Dropped { device: device.parse().unwrap(), epoch, range: first..first + 1 }
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed() {
        let watchers = Watchers::default();
        let mut events = watchers.subscribe(None, 2);
        for first in 0..5 {
            watchers.event(dropped("a", first));
        }
        assert!(matches!(events.try_next(), Some(Event::Dropped { range, .. }) if range.start == 0));
        watchers.event(dropped("a", 5));
        assert!(matches!(events.try_next(), Some(Event::Dropped { range, .. }) if range.start == 1));
        assert!(matches!(events.try_next(), Some(Event::Missed { events: 3 })));
        assert!(matches!(events.try_next(), Some(Event::Dropped { range, .. }) if range.start == 5));
        assert!(events.try_next().is_none());
    }

    #[test]
    fn a_device_sees_its_own_events_and_the_connections() {
        let watchers = Watchers::default();
        let mut events = watchers.subscribe(Some("a".parse().unwrap()), 10);
        watchers.event(dropped("b", 0));
        watchers.event(Event::Connected { server: "s".into() });
        watchers.event(dropped("a", 1));
        assert!(matches!(events.try_next(), Some(Event::Connected { .. })));
        assert!(matches!(events.try_next(), Some(Event::Dropped { range, .. }) if range.start == 1));
        assert!(events.try_next().is_none());
    }
}
