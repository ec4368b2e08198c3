//! How batches that were stamped before there was a clock get their times.
//!
//! Such a batch lies in the spool with uptimes. When the server's clock is known, the offset of each boot is decided once
//! and for all, and fsynced before the first batch that it changes is sent: what is sent is a function of the stored bytes and
//! of that offset, so that a resend after a crash is the same to the byte. An epoch never outlasts a boot, so a queue
//! has one offset.

use std::collections::BTreeMap;

use super::queue::EpochQueue;
use crate::clock::{Boot, DeviceClock};

/// What is added to the uptimes of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rebase {
    pub(crate) offset: i64,
    /// The offset is a lower bound: the boot ended before it was known, or the server did not know better.
    pub(crate) uncertain: bool,
}

/// What a spool knows of clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rebases {
    /// The newest time that a server is known to have had; nanoseconds since the Unix epoch.
    pub(crate) server_time: i64,
    pub(crate) boots: BTreeMap<Boot, Rebase>,
}

/// By how much the server's time must have moved on to be kept anew, nanoseconds: an hour of certificates' validity is
/// not worth more wear of flash.
const SERVER_TIME_STEP: i64 = 3_600_000_000_000;

impl Rebases {
    /// Decides the offsets of all boots that have none, now that the clock is known. `None` when there is nothing new to
    /// keep.
    pub(crate) fn decide(&self, queues: &[EpochQueue], clock: &DeviceClock) -> Option<Self> {
        let known = clock.offset().map(|offset| Rebase { offset, uncertain: false });
        let least = || clock.least_offset().map(|offset| Rebase { offset, uncertain: true });
        let (of_present, server_time) = (known.or_else(least)?, clock.server_time());
        let mut decided = Self { server_time: self.server_time, boots: BTreeMap::new() };
        for queue in queues {
            let Some(boot) = queue.boot else { continue };
            let present = boot == clock.boot();
            // The present boot's is decided ahead: what is being gathered may still be cut with uptimes.
            if !(queue.has_uptimes() || present && clock.not_before().is_some()) {
                continue;
            }
            let rebase = if present {
                of_present
            } else {
                let not_before = clock.not_before().unwrap_or(0);
                Rebase { offset: not_before.max(self.server_time), uncertain: true }
            };
            decided.boots.insert(boot, *self.boots.get(&boot).unwrap_or(&rebase));
        }
        if server_time.saturating_sub(self.server_time) >= SERVER_TIME_STEP {
            decided.server_time = server_time;
        }
        let news = decided.server_time != self.server_time
            || decided.boots.keys().any(|boot| !self.boots.contains_key(boot));
        news.then_some(decided)
    }

    /// Lets the queues go by what was decided.
    pub(crate) fn apply(&self, queues: &mut [EpochQueue]) {
        for queue in queues {
            queue.rebase = queue.boot.and_then(|boot| self.boots.get(&boot)).copied();
        }
    }
}
