//! Noticing that nobody is there any more, sooner than QUIC's idle timeout does.

use std::time::{Duration, SystemTime};

use quinn::{Connection, VarInt};
use tokio::time::Instant;

use super::wait::share;
use crate::transport::{CONTROL_WINDOW, IDLE_TIMEOUT};

/// The shortest silence that is taken for a dead path. Three probe timeouts are less on a short path, but a machine
/// under load may pause for some hundred milliseconds.
const MIN_SILENCE: Duration = Duration::from_millis(800);

/// The longest: no path needs more.
const MAX_SILENCE: Duration = Duration::from_secs(8);

/// How long a QUIC peer may hold an acknowledgement back.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Three probe timeouts, each twice the one before, in units of the first.
const THREE_PROBES: u32 = 1 + 2 + 4;

/// What to make of a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None, or not for long.
    Alive,
    /// The path may be dead while the other side is not: a network that changed, a NAT that forgot. Another socket may
    /// reach it.
    Move,
    /// Nobody is there.
    Dead,
}

/// Listens while batches are in flight: the other side must be heard from now and then.
///
/// A healthy server may have nothing to say for long (a full disk stops acks), so half-way through the patience it is
/// asked for a sign of life: any packet that it must acknowledge.
pub(super) struct Silence {
    /// By how much this connection is more patient than others, so that not all that fall silent at once come back at
    /// once.
    stretch: f64,
    listening: Option<Listening>,
    /// Questions asked so far.
    questions: u32,
}

struct Listening {
    /// Datagrams received when last looked.
    heard: u64,
    /// When that was new.
    since: Instant,
    check_at: Instant,
    asked: bool,
    moved: bool,
}

impl Silence {
    pub(super) fn new() -> Self {
        Self { stretch: 0.75 + share() / 2.0, listening: None, questions: 0 }
    }

    /// Something is being sent: listen from now on, if not already.
    pub(super) fn listen(&mut self, connection: &Connection, now: Instant) {
        let check_at = now + self.patience(connection) / 4;
        self.listening.get_or_insert_with(|| Listening {
            heard: connection.stats().udp_rx.datagrams,
            since: now,
            check_at,
            asked: false,
            moved: false,
        });
    }

    /// When to look.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.listening.as_ref().map(|listening| listening.check_at)
    }

    /// Looks, if it is time. Whoever is told to move, moves, and looks on.
    pub(super) fn look(&mut self, connection: &Connection, in_flight: bool, now: Instant) -> Verdict {
        let patience = self.patience(connection);
        let Some(listening) = self.listening.as_mut().filter(|listening| listening.check_at <= now) else {
            return Verdict::Alive;
        };
        if !in_flight {
            self.listening = None;
            return Verdict::Alive;
        }
        listening.check_at = now + patience / 4;
        let heard = connection.stats().udp_rx.datagrams;
        if heard != listening.heard {
            (listening.heard, listening.since) = (heard, now);
            (listening.asked, listening.moved) = (false, false);
        }
        let silent = now - listening.since;
        if silent >= patience / 2 && !listening.asked {
            listening.asked = true;
            // Raising the receive window, by however little, makes QUIC send a frame that must be acknowledged.
            self.questions += 1;
            connection.set_receive_window(VarInt::from_u32(CONTROL_WINDOW + self.questions));
        }
        if silent < patience {
            return Verdict::Alive;
        }
        if std::mem::replace(&mut listening.moved, true) {
            return Verdict::Dead;
        }
        // To move is to ask as well.
        (listening.since, listening.asked) = (now, true);
        Verdict::Move
    }

    /// How long this path may be silent.
    fn patience(&self, connection: &Connection) -> Duration {
        let probe_timeout = connection.rtt() * 3 + ACK_DELAY;
        (probe_timeout * THREE_PROBES).clamp(MIN_SILENCE, MAX_SILENCE).mul_f64(self.stretch)
    }
}

/// Tells when the machine slept: the wall clock went on, the one that timers go by did not.
///
/// A wall clock that is put forward looks the same. That costs a connection, seldom.
pub(super) struct Clocks {
    wall: SystemTime,
    timers: Instant,
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self { wall: SystemTime::now(), timers: Instant::now() }
    }

    /// Whether the machine slept, since this was last asked, for so long that the other side has given up.
    pub(super) fn have_parted(&mut self) -> bool {
        let before = std::mem::replace(self, Self::new());
        self.parted_since(&before)
    }

    fn parted_since(&self, before: &Self) -> bool {
        // A wall clock that was put back tells nothing.
        let wall = self.wall.duration_since(before.wall).unwrap_or_default();
        wall.saturating_sub(self.timers - before.timers) >= IDLE_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_what_the_wall_clock_counts_alone() {
        let before = Clocks::new();
        let after = |wall, timers| Clocks { wall: before.wall + wall, timers: before.timers + timers };
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert!(after(minute, second).parted_since(&before));
        assert!(!after(minute, minute).parted_since(&before));
        assert!(!after(second, second).parted_since(&before));
        assert!(!Clocks { wall: before.wall - minute, ..after(second, second) }.parted_since(&before));
    }
}
