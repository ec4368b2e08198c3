//! Every limit of a device's state. What goes past one is counted, and the state says so.

use std::time::Duration;

/// An event this much ahead of its received time is folded apart from the others: a clock that far off is wrong, by a time zone
/// at least, and what it says is newest must not hide what really is. A constant, not a setting: the same log gives the same
/// state everywhere.
pub const MAX_FUTURE: Duration = Duration::from_secs(3600);

/// Values that a field of kind `state` tells apart: the first so many that came. All others count as one.
pub const MAX_STATES: usize = 32;

/// Bytes of a text or byte string that a field of kind `state` tells apart. A longer one counts with those beyond [`MAX_STATES`].
pub const MAX_STATE_BYTES: usize = 64;

/// Bytes kept of a last value that is a text or a byte string; a longer one is cut.
pub const MAX_LAST_BYTES: usize = 256;

/// The clock skew is the smallest delay within two windows of received time this long, the current one and the one before: long
/// enough that some event came without delay, short enough that a clock that was set right shows.
pub const SKEW_WINDOW: Duration = Duration::from_secs(3600);
