//! Which devices are what.

use std::fmt;

use serde::Serialize;

/// Kinds are dealt out anew after this many devices.
const DEAL: usize = 40;

/// What a device has to live with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Nothing.
    Steady,
    /// It connects for a batch now and then.
    Sleepy,
    /// Its port changes, and its address.
    Roaming,
    /// Nothing of it arrives, for some seconds or for longer than a connection lasts.
    Flapping,
    /// Its link is long and narrow.
    Slow,
    /// Its identity and its spool are copied, and both go on.
    Cloned,
    /// Its identity is revoked in the middle.
    Revoked,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Steady, Self::Sleepy, Self::Roaming, Self::Flapping, Self::Slow, Self::Cloned, Self::Revoked];

    /// The kind of device `number`.
    pub(super) fn of(number: usize) -> Self {
        match number % DEAL {
            0 => Self::Cloned,
            1 => Self::Revoked,
            2..6 => Self::Sleepy,
            6..10 => Self::Roaming,
            10..13 => Self::Flapping,
            13..16 => Self::Slow,
            _ => Self::Steady,
        }
    }

    /// Whether it has an identity of its own; to the server others cost the same under a common one.
    pub(super) fn has_identity(self) -> bool {
        matches!(self, Self::Sleepy | Self::Cloned | Self::Revoked)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Steady => "steady",
            Self::Sleepy => "sleepy",
            Self::Roaming => "roaming",
            Self::Flapping => "flapping",
            Self::Slow => "slow",
            Self::Cloned => "cloned",
            Self::Revoked => "revoked",
        })
    }
}
