//! Which session speaks for a device when two want to: always the newer one.
//!
//! A device whose connection died without a word comes back on another one and must not wait for the first to time out. That
//! two clients keep taking a device over from each other shows in how often it happens between connections that live: on a
//! dead one, nothing is heard any more after the device was taken over from it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use icecore_wire::{Code, DeviceName};

/// Takeovers between living connections within [`CONFLICT_WINDOW`] that a device which moves about between gateways
/// explains; more are a conflict.
const INNOCENT_TAKEOVERS: usize = 3;
const CONFLICT_WINDOW: Duration = Duration::from_secs(60);

/// When the loser may attach again: the first doubles with every takeover, the last is that of a conflict.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const CONFLICT_RETRY: Duration = Duration::from_secs(60);

/// How long after its last takeover a conflict is over: losers come back after [`CONFLICT_RETRY`].
const CONFLICT_END: Duration = Duration::from_secs(120);

/// The sessions that speak for devices. As large as there are devices attached.
#[derive(Debug, Default)]
pub(crate) struct Owners(Mutex<HashMap<DeviceName, Owner>>);

#[derive(Debug)]
struct Owner {
    session: u64,
    takeovers: Takeovers,
}

/// A session that lost a device, and what it is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) session: u64,
    /// Whether this is one takeover too many.
    pub(crate) conflict: Conflict,
    pub(crate) retry_after: Duration,
}

/// Whether clients keep taking a device over from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    None,
    /// Since this takeover.
    Begins,
    GoesOn,
}

impl Loss {
    pub(crate) fn code(self) -> Code {
        match self.conflict {
            Conflict::None => Code::TakenOver,
            Conflict::Begins | Conflict::GoesOn => Code::IdentityConflict,
        }
    }

    /// What the loser is told.
    pub(crate) fn message(self, device: &DeviceName) -> String {
        match self.conflict {
            Conflict::None => format!("another session has attached `{device}`"),
            Conflict::Begins | Conflict::GoesOn => format!(
                "sessions keep taking `{device}` over from each other: two clients use one identity or one spool; find \
                 the second, and enroll it under a name of its own"
            ),
        }
    }
}

impl Owners {
    /// Has `session` speak for `device` from `now` on; says who did before it. `datagrams_of` counts what was heard on a
    /// session's connection, `None` once it has ended.
    pub(crate) fn claim(
        &self,
        device: &DeviceName,
        session: u64,
        now: Instant,
        datagrams_of: impl Fn(u64) -> Option<u64>,
    ) -> Option<Loss> {
        let mut owners = self.owners();
        let Some(owner) = owners.get_mut(device) else {
            owners.insert(device.clone(), Owner { session, takeovers: Takeovers::default() });
            return None;
        };
        let loser = std::mem::replace(&mut owner.session, session);
        (loser != session).then(|| owner.takeovers.count(loser, now, datagrams_of))
    }

    /// Takes note that `session` does not speak for `device` any more, if it did.
    pub(crate) fn release(&self, device: &DeviceName, session: u64) {
        let mut owners = self.owners();
        if owners.get(device).is_some_and(|owner| owner.session == session) {
            owners.remove(device);
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<DeviceName, Owner>> {
        // Nothing under this lock panics halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a device was taken over lately.
#[derive(Debug, Default)]
struct Takeovers {
    /// At most [`INNOCENT_TAKEOVERS`], the oldest first.
    recent: VecDeque<Takeover>,
    conflict_until: Option<Instant>,
}

#[derive(Debug)]
struct Takeover {
    at: Instant,
    loser: u64,
    /// Heard on the loser's connection until then.
    datagrams: u64,
}

impl Takeovers {
    fn count(&mut self, loser: u64, now: Instant, datagrams_of: impl Fn(u64) -> Option<u64>) -> Loss {
        // Who lives was told of its loss by now, and has at least acknowledged that.
        let lives = |it: &Takeover| datagrams_of(it.loser).is_some_and(|heard| heard > it.datagrams);
        self.recent.retain(|it| now.saturating_duration_since(it.at) <= CONFLICT_WINDOW && lives(it));
        let earlier = self.recent.len();
        if earlier == INNOCENT_TAKEOVERS {
            self.recent.pop_front();
        }
        if let Some(datagrams) = datagrams_of(loser) {
            self.recent.push_back(Takeover { at: now, loser, datagrams });
        }
        let goes_on = self.conflict_until.is_some_and(|until| now < until);
        if !goes_on && earlier < INNOCENT_TAKEOVERS {
            let retry_after = FIRST_RETRY * (1 << earlier);
            return Loss { session: loser, conflict: Conflict::None, retry_after };
        }
        self.conflict_until = Some(now + CONFLICT_END);
        let conflict = if goes_on { Conflict::GoesOn } else { Conflict::Begins };
        Loss { session: loser, conflict, retry_after: CONFLICT_RETRY }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn pump() -> DeviceName {
        "pump".parse().unwrap()
    }

    #[test]
    fn the_newer_session_wins_and_the_older_waits_longer_each_time() {
        let (owners, start) = (Owners::default(), Instant::now());
        // Something is heard on every connection at all times.
        let heard = Cell::new(0);
        let datagrams_of = |_| Some(heard.replace(heard.get() + 1));
        let claim = |session, second| {
            let loss = owners.claim(&pump(), session, start + Duration::from_secs(second), datagrams_of);
            loss.map(|loss| (loss.session, loss.conflict, loss.retry_after.as_secs()))
        };
        assert_eq!(claim(1, 0), None);
        assert_eq!(claim(1, 0), None, "with another alias");
        assert_eq!(claim(2, 1), Some((1, Conflict::None, 1)));
        assert_eq!(claim(1, 2), Some((2, Conflict::None, 2)));
        assert_eq!(claim(2, 4), Some((1, Conflict::None, 4)));
        assert_eq!(claim(1, 8), Some((2, Conflict::Begins, 60)));
        assert_eq!(claim(2, 68), Some((1, Conflict::GoesOn, 60)), "as long as they come back");
        assert_eq!(claim(1, 300), Some((2, Conflict::None, 1)), "that was long ago");
    }

    #[test]
    fn a_device_that_comes_back_from_dead_connections_is_in_no_conflict() {
        let (owners, start) = (Owners::default(), Instant::now());
        // The dead linger until they time out, and then they are gone.
        for (connections, datagrams) in [(0..20, Some(7)), (20..40, None)] {
            for session in connections {
                let loss = owners.claim(&pump(), session, start, |_| datagrams);
                assert!(loss.is_none_or(|loss| loss.code() == Code::TakenOver), "{loss:?}");
            }
        }
    }

    #[test]
    fn only_the_owner_lets_go_of_a_device() {
        let (owners, now) = (Owners::default(), Instant::now());
        let claim = |session| owners.claim(&pump(), session, now, |_| Some(0));
        claim(1);
        claim(2);
        owners.release(&pump(), 1);
        assert!(claim(3).is_some(), "2 spoke for it");
        owners.release(&pump(), 3);
        assert_eq!(claim(4), None);
        owners.release(&pump(), 4);
        assert!(owners.owners().is_empty());
    }
}
