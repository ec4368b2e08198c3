//! The live state: what every device looks like now, and its snapshots.
//!
//! - [`opening`]: the state at the start: the newest good snapshot and what the log holds behind it
//! - [`folding`]: the thread that folds what is durable, before anybody hears that it is
//! - [`writing`]: the thread that writes snapshots, beside all that

mod folding;
mod opening;
mod writing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use icecore_log::LogPoint;
use icecore_state::{DeviceState, Fleet, Reach, Recent};
use icecore_wire::DeviceName;

use super::content::BlockContent;
pub(super) use folding::{Durable, Folding};
pub(super) use opening::{Opened, open};
pub(super) use writing::{SnapshotWriter, Writing};

/// When snapshots are written: what was stored or has passed since the last one, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Events.
    pub every_events: u64,
    /// Time.
    pub every: Duration,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { every_events: 10_000_000, every: Duration::from_secs(300) }
    }
}

/// The state of every device as of the last durable block. Whoever has an ack finds what was acked in here.
#[derive(Debug, Clone)]
pub struct LiveState {
    live: Arc<Mutex<Live>>,
    /// A snapshot is wanted before it is due.
    wanted: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Live {
    fleet: Fleet,
    /// Every event before this position is in it, and none behind it.
    position: u64,
    recent: Recent,
}

/// One device as the live state has it.
#[derive(Debug, Clone)]
pub struct LiveDevice {
    /// Its state; `None` if the log says nothing of it.
    pub state: Option<Arc<DeviceState>>,
    /// Every event before this position is in it, and none behind it.
    pub position: u64,
    /// How far back its events reach that came since the server was started.
    pub recent: Vec<Reach>,
}

impl LiveState {
    fn new(fleet: Fleet, position: u64) -> Self {
        let recent = Recent::new(position);
        Self { live: Arc::new(Mutex::new(Live { fleet, position, recent })), wanted: Arc::default() }
    }

    /// Up to which position of the log it goes: every event before that is in it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// A device, and up to which position of the log it is known.
    #[must_use]
    pub fn look_up(&self, name: &DeviceName) -> LiveDevice {
        let Live { fleet, position, recent } = &*self.lock();
        LiveDevice { state: fleet.device(name).cloned(), position: *position, recent: recent.of(name) }
    }

    /// The state of a device; `None` if the log says nothing of it. It stays as it is while events go on coming.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<Arc<DeviceState>> {
        self.with(|fleet| fleet.device(name).cloned())
    }

    /// Up to `count` devices, the first `from` of them left out: whoever wants all takes them in parts, so that nobody waits.
    #[must_use]
    pub fn devices(&self, from: usize, count: usize) -> Vec<(DeviceName, Arc<DeviceState>)> {
        self.with(|fleet| {
            let part = fleet.devices().skip(from).take(count);
            part.map(|(name, state)| (name.clone(), Arc::clone(state))).collect()
        })
    }

    /// Has a snapshot written soon, if anything has changed since the last one.
    pub fn save_soon(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    fn have_begun(&self) {
        self.wanted.store(false, Ordering::Release);
    }

    fn with<T>(&self, look: impl FnOnce(&mut Fleet) -> T) -> T {
        look(&mut self.lock().fleet)
    }

    /// Folds blocks that come next.
    fn fold(&self, blocks: &[(BlockContent, LogPoint)]) {
        let Live { fleet, position, recent } = &mut *self.lock();
        for (content, point) in blocks {
            content.fold_into(fleet);
            content.note_in(recent);
            *position = point.position;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
