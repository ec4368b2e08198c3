//! What goes wrong, planned ahead for a whole history.

use fastrand::Rng;
use icecore_log::disk::Crash;

use crate::network::MS;
use crate::spool::SpoolFate;

/// One thing that goes wrong, or happens beside ingestion.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The server's machine or process crashes at once.
    Crash(Crash),
    /// It crashes in the middle of what it writes, after this many more changes of the disk.
    CrashAfter { changes: u64, crash: Crash },
    /// The disk fails the next sync.
    SyncFails,
    /// Only this much space is left, for this many microseconds.
    DiskFull { left: u64, duration: u64 },
    /// The server is stopped in good order.
    Stop,
    /// A device's connection ends; what is on the way may still arrive.
    Disconnect { device: usize },
    /// Nothing gets through on a device's connection any more.
    Silence { device: usize },
    /// A device restarts.
    Restart { device: usize, fate: SpoolFate },
    /// The beginning of an earlier connection arrives once more.
    Replay,
    /// Somebody else sends in the name of a device's epoch.
    Impostor { device: usize },
    /// Somebody reads the log while it is written.
    Look,
    /// Finished segments are sealed, in one go, at most this many bytes of them; given up after this many pieces of work.
    Seal { hot_bytes: u64, pieces: u64 },
}

/// Kinds of faults, the likelier ones several times.
const KINDS: u8 = 17;

/// When what goes wrong in a history of `duration` microseconds.
pub(crate) fn plan(devices: usize, duration: u64, rng: &mut Rng) -> Vec<(u64, Fault)> {
    // Some histories are quiet, and some have one kind of trouble only: that is where a bug is seen most clearly.
    let kinds: Vec<u8> = (0..rng.usize(1..=4)).map(|_| rng.u8(..KINDS)).collect();
    let faults = rng.usize(..=12);
    (0..faults)
        .map(|_| {
            let time = rng.u64(..duration);
            let kind = if rng.bool() { kinds[rng.usize(..kinds.len())] } else { rng.u8(..KINDS) };
            (time, fault(kind, devices, rng))
        })
        .collect()
}

fn fault(kind: u8, devices: usize, rng: &mut Rng) -> Fault {
    let device = rng.usize(..devices);
    let crash = if rng.u8(..3) == 0 { Crash::Process } else { Crash::Power };
    match kind {
        0 | 1 => Fault::Crash(crash),
        2 | 3 => Fault::CrashAfter { changes: rng.u64(..24), crash },
        4 | 5 => Fault::SyncFails,
        6 => Fault::DiskFull { left: rng.u64(..16 << 10), duration: rng.u64(100..900) * MS },
        7 => Fault::Stop,
        8 => Fault::Disconnect { device },
        9 => Fault::Silence { device },
        10 => {
            let fate = [SpoolFate::Kept, SpoolFate::Unclean, SpoolFate::Wiped][rng.usize(..3)];
            Fault::Restart { device, fate }
        }
        11 => Fault::Replay,
        12 => Fault::Impostor { device },
        13..=15 => {
            let pieces = if rng.u8(..4) == 0 { rng.u64(..20) } else { u64::MAX };
            Fault::Seal { hot_bytes: rng.u64(..64) << 10, pieces }
        }
        _ => Fault::Look,
    }
}
