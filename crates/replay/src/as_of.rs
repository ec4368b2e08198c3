//! States as they were: as of an event time, as known at a received time, or both.
//!
//! Whoever asks gets what a fold of the device's events would give, those up to the event time `at`, in the order in which the log has
//! them, up to the last one that was received by `known_at`. It is made of the newest snapshot from which that follows, and of
//! what the log holds behind it. If something that it takes was deleted by policy it is not made at all, and the error says
//! from which instants on there is one. `docs/time.md` explains it to people.
//!
//! - `bases`: where folding begins: snapshots, and the live state
//! - `folding`: what is read behind that
//! - `refusal`: what is missing, and from when on nothing is
//! - `table`: states as record batches

mod bases;
mod folding;
mod refusal;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::{LogError, RealDisk, SegmentId};
use icecore_state::DeviceState;
use icecore_state::snapshot::{SnapshotError, Snapshots};
use icecore_tier::catalog::CatalogError;
use icecore_wire::{BatchError, DeviceName, Glob};

use crate::Replay;
pub use bases::Bases;
use folding::Folding;
pub use refusal::{ExactFrom, Refusal};

/// Which state: by default what is known now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AsOf {
    /// Only events that happened by this time, by the devices' clocks; nanoseconds since the Unix epoch. What is settled of epochs is
    /// no matter of event time, and is as if this were not asked.
    pub at: Option<i64>,
    /// Only what was received by this time, by the server's clock; nanoseconds since the Unix epoch.
    pub known_at: Option<i64>,
}

/// The states that were asked for, and how they were made.
#[derive(Debug)]
pub struct States {
    /// By device, those of which anything was received.
    pub devices: BTreeMap<DeviceName, Arc<DeviceState>>,
    /// How they were made.
    pub explained: Explained,
}

/// How states were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explained {
    /// What the statistics of the device begin with; for many devices, the oldest one that any of them takes. `None`: with the first event.
    pub base: Option<Base>,
    /// What is settled of epochs begins with this.
    pub ledger: Option<Base>,
    /// Everything before this position of the log was looked at, or known to be of no use.
    pub position: u64,
    /// Blocks of hot segments that were read.
    pub blocks: u64,
    /// Sealed segments that were opened.
    pub segments: Vec<SegmentId>,
    /// Of how many.
    pub sealed: usize,
    /// Pages that were read of their columns.
    pub pages: u64,
    /// Batches that were decoded.
    pub batches: u64,
    /// Events of these that were folded.
    pub events: u64,
    /// Snapshots that were passed over because they are damaged.
    pub faults: Vec<String>,
}

/// A place in the log of which states were known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The file of the snapshot; `None` of the live state.
    pub file: Option<PathBuf>,
    /// Every event before this position is in it.
    pub position: u64,
    /// The newest received time in it, nanoseconds since the Unix epoch; `None` of the live state.
    pub received: Option<i64>,
}

/// A state was not made.
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    /// It would not be exact.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The directory of snapshots cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A stored batch is not what ingestion lets in, though its checksum holds.
    #[error(
        "the batch at position {position}, of {device} from sequence {first_sequence}, cannot be decoded: {source}"
    )]
    Batch {
        /// The position of its first event.
        position: u64,
        /// Its device.
        device: DeviceName,
        /// The sequence of its first event.
        first_sequence: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// Whoever asked has gone.
    #[error("nobody waits for the answer any more")]
    Stopped,
}

/// Who is asked for.
#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    One(&'a DeviceName),
    Matching(&'a Glob),
}

impl Who<'_> {
    fn wants(self, device: &str) -> bool {
        match self {
            Self::One(name) => name.as_str() == device,
            Self::Matching(glob) => glob.matches(device),
        }
    }
}

impl Replay {
    /// Where states of this log begin: the snapshots that are beside it. Those that are kept in stores are looked for when these do
    /// not do.
    ///
    /// # Errors
    /// When the directory of snapshots cannot be read.
    pub fn bases(&self) -> Result<Bases, SnapshotError> {
        Bases::new(&Snapshots::new(Arc::new(RealDisk), self.data()))
    }

    /// The state of one device. It is absent if nothing was received of it by then.
    ///
    /// # Errors
    /// When it would not be exact, or something that it takes cannot be read.
    pub fn state(&self, device: &DeviceName, as_of: AsOf, bases: &Bases) -> Result<States, AsOfError> {
        self.made(Who::One(device), as_of, bases)
    }

    /// The states of all devices whose names match. All of them are in memory.
    ///
    /// # Errors
    /// As [`Replay::state`]; one device of which it would not be exact is enough.
    pub fn states(&self, devices: &Glob, as_of: AsOf, bases: &Bases) -> Result<States, AsOfError> {
        self.made(Who::Matching(devices), as_of, bases)
    }

    /// Takes snapshots that are kept in stores only where those that are here do not do.
    fn made(&self, who: Who<'_>, as_of: AsOf, bases: &Bases) -> Result<States, AsOfError> {
        let seats = bases.seats(self, who, as_of, false)?;
        let made = match seats.oldest {
            None if bases.are_more_kept(self)? => None,
            _ => Some(Folding::new(self, who, as_of, bases, seats).run()),
        };
        match made {
            Some(Err(AsOfError::Refused(refused))) if !bases.are_more_kept(self)? => Err(refused.into()),
            Some(Err(AsOfError::Refused(_))) | None => {
                let seats = bases.seats(self, who, as_of, true)?;
                Folding::new(self, who, as_of, bases, seats).run()
            }
            Some(made) => made,
        }
    }
}
