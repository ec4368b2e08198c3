//! Threads behind ingestion: they get what the others leave, for acks come first.

use std::io;

use tracing::warn;

/// For what has to go on under load, too: a thirtieth of a core that others want.
const NICENESS: i32 = 15;

/// Has the calling thread, which is for `what`, come after those of ingestion.
pub(super) fn behind_ingestion(what: &str) {
    if let Err(error) = rustix::process::nice(NICENESS) {
        warn!(%error, what, "a thread runs at the usual priority");
    }
}

/// Has the calling thread, which is for `what`, run while no other wants to: it gives way at once to one that wakes up,
/// where a thread that is only nicer goes on for some milliseconds.
pub(super) fn when_idle(what: &str) {
    if let Err(error) = schedule_idle() {
        // Not every C library has it.
        warn!(%error, what, "a thread cannot wait for idle time; it runs at a low priority");
        behind_ingestion(what);
    }
}

#[cfg(target_os = "linux")]
fn schedule_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is whole and outlives the call, and 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn schedule_idle() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
