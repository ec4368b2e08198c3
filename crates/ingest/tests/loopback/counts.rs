//! What the server counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A recorder that keeps counters by name and labels.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<HashMap<Key, Arc<AtomicU64>>>>);

impl Counts {
    /// Handshakes of a kind that ended in a session.
    pub(crate) fn handshakes(&self, kind: &'static str) -> u64 {
        self.read(&Key::from_parts("icecore_handshakes_total", &[("kind", kind)]))
    }

    /// The value of a counter without labels.
    pub(crate) fn total(&self, name: &'static str) -> u64 {
        self.read(&Key::from_name(name))
    }

    fn read(&self, key: &Key) -> u64 {
        self.0.lock().unwrap().get(key).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(key.clone()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
