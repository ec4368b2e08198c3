//! Noticing that nobody is there any more, sooner than QUIC's idle timeout does.

use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::time::Instant;

use crate::transport::CONTROL_WINDOW;

/// The shortest silence that is taken for a dead path. Three probe timeouts are less on a short path, but a machine
/// under load may pause for some hundred milliseconds.
const MIN_SILENCE: Duration = Duration::from_millis(800);

/// The longest: no path needs more.
const MAX_SILENCE: Duration = Duration::from_secs(8);

/// How long a QUIC peer may hold an acknowledgement back.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Three probe timeouts, each twice the one before, in units of the first.
const THREE_PROBES: u32 = 1 + 2 + 4;

/// Listens while batches are in flight: the other side must be heard from now and then.
///
/// A healthy server may have nothing to say for long (a full disk stops acks), so half-way through the patience it is
/// asked for a sign of life: any packet that it must acknowledge.
#[derive(Default)]
pub(super) struct Silence {
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
}

impl Silence {
    /// Something is being sent: listen from now on, if not already.
    pub(super) fn listen(&mut self, connection: &Connection, now: Instant) {
        self.listening.get_or_insert_with(|| Listening {
            heard: connection.stats().udp_rx.datagrams,
            since: now,
            check_at: now + patience(connection) / 4,
            asked: false,
        });
    }

    /// When to look.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.listening.as_ref().map(|listening| listening.check_at)
    }

    /// Looks, if it is time. True: the path is dead.
    pub(super) fn is_dead(&mut self, connection: &Connection, in_flight: bool, now: Instant) -> bool {
        let Some(listening) = self.listening.as_mut().filter(|listening| listening.check_at <= now) else {
            return false;
        };
        if !in_flight {
            self.listening = None;
            return false;
        }
        let patience = patience(connection);
        listening.check_at = now + patience / 4;
        let heard = connection.stats().udp_rx.datagrams;
        if heard != listening.heard {
            (listening.heard, listening.since, listening.asked) = (heard, now, false);
        }
        let silent = now - listening.since;
        if silent >= patience / 2 && !listening.asked {
            listening.asked = true;
            // Raising the receive window, by however little, makes QUIC send a frame that must be acknowledged.
            self.questions += 1;
            connection.set_receive_window(VarInt::from_u32(CONTROL_WINDOW + self.questions));
        }
        silent >= patience
    }
}

/// How long this path may be silent.
fn patience(connection: &Connection) -> Duration {
    let probe_timeout = connection.rtt() * 3 + ACK_DELAY;
    (probe_timeout * THREE_PROBES).clamp(MIN_SILENCE, MAX_SILENCE)
}
