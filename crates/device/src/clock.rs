//! What time it is, for devices with a clock and for those without.
//!
//! A device without one knows in which boot it is and for how long. The server's clock, learned with each connection,
//! makes a time of that: `uptime + offset`. What was recorded before is [rebased](crate::spool::rebase).

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where [`Recorder::record`](crate::Recorder::record) takes an event's time from, and by what time certificates are
/// judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The system's clock is right.
    #[default]
    System,
    /// The system's clock means nothing, as on a device without a battery for it: events are stamped by the server's
    /// clock, known from the first connection in this boot on.
    ///
    /// What is recorded before it is known waits, and is set right when it is. What an earlier boot left without ever
    /// having learned it is sent as `time_uncertain`, with times that are surely not too late; and so is what is recorded
    /// while the server's clock shows a time before `not_before`, and so has to be wrong.
    Uptime {
        /// A time that has surely passed, such as when the firmware was built; nanoseconds since the Unix epoch.
        not_before: i64,
    },
}

/// How long a device has been up, and since which start.
///
/// By default Linux's boot id and `CLOCK_BOOTTIME`, which goes on while the machine is suspended. Other devices bring
/// their own with [`Config::boot_clock`](crate::Config::boot_clock).
pub trait BootClock: fmt::Debug + Send + Sync {
    /// An id that differs from start to start.
    fn boot(&self) -> [u8; 16];

    /// Time since the start, sleep included. Never steps backwards.
    fn uptime(&self) -> Duration;
}

/// One start of a machine.
pub(crate) type Boot = [u8; 16];

/// Linux's own measure.
#[derive(Debug)]
struct Kernel(Boot);

impl Kernel {
    fn new() -> Self {
        let digits = fs::read_to_string(BOOT_ID).unwrap_or_default().replace('-', "");
        let boot = u128::from_str_radix(digits.trim(), 16).map(u128::to_be_bytes);
        Self(boot.unwrap_or_else(|_| {
            let mut random = [0; 16];
            // Without an id of the boot, this process counts as one.
            let _ = getrandom::fill(&mut random);
            random
        }))
    }
}

impl BootClock for Kernel {
    fn boot(&self) -> Boot {
        self.0
    }

    fn uptime(&self) -> Duration {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
    }
}

/// When an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Nanoseconds since the Unix epoch.
    Time(i64),
    /// Nanoseconds since the start of the boot.
    Uptime(i64),
}

impl Stamp {
    pub(crate) fn is_uptime(self) -> bool {
        matches!(self, Self::Uptime(_))
    }

    pub(crate) fn nanoseconds(self) -> i64 {
        let (Self::Time(nanoseconds) | Self::Uptime(nanoseconds)) = self;
        nanoseconds
    }
}

/// The clock of a connection and its devices.
#[derive(Debug)]
pub(crate) struct DeviceClock {
    clock: Clock,
    source: Arc<dyn BootClock>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Unix time at uptime 0, in this boot.
    offset: Option<i64>,
    /// The least that it can be: no better was to be had of a server whose own clock is wrong.
    least_offset: Option<i64>,
    /// The newest time that a server is known to have had.
    server_time: i64,
}

impl DeviceClock {
    pub(crate) fn new(clock: Clock, source: Option<Arc<dyn BootClock>>) -> Self {
        let source = source.unwrap_or_else(|| Arc::new(Kernel::new()));
        Self { clock, source, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn boot(&self) -> Boot {
        self.source.boot()
    }

    fn uptime(&self) -> i64 {
        nanoseconds(self.source.uptime())
    }

    /// The time that has surely passed; `None` where the system's clock is right.
    pub(crate) fn not_before(&self) -> Option<i64> {
        match self.clock {
            Clock::System => None,
            Clock::Uptime { not_before } => Some(not_before),
        }
    }

    /// The present, for an event.
    pub(crate) fn stamp(&self) -> Stamp {
        if self.clock == Clock::System {
            return Stamp::Time(system_time());
        }
        let (uptime, offset) = (self.uptime(), self.offset());
        offset.map_or(Stamp::Uptime(uptime), |offset| Stamp::Time(uptime.saturating_add(offset)))
    }

    /// The present for `Hello`; 0 for none.
    pub(crate) fn device_time(&self) -> i64 {
        match self.stamp() {
            Stamp::Time(time) => time,
            Stamp::Uptime(_) => 0,
        }
    }

    /// The least that Unix time at uptime 0 can be, where a server was heard and nothing better is known.
    pub(crate) fn least_offset(&self) -> Option<i64> {
        self.known().least_offset
    }

    /// Unix time at uptime 0, if it is known.
    pub(crate) fn offset(&self) -> Option<i64> {
        match self.clock {
            Clock::System => Some(system_time().saturating_sub(self.uptime())),
            Clock::Uptime { .. } => self.known().offset,
        }
    }

    /// The newest time that a server is known to have had; 0 for none.
    pub(crate) fn server_time(&self) -> i64 {
        self.known().server_time
    }

    /// What an earlier process left in a spool: the offset of this boot, if it knew, and the newest time it heard of.
    pub(crate) fn recall(&self, offset: Option<i64>, server_time: i64) {
        let mut known = self.known();
        known.offset = known.offset.or(offset);
        known.server_time = known.server_time.max(server_time);
    }

    /// The server said its time, `delay` ago.
    pub(crate) fn heard(&self, server_time: i64, delay: Duration) {
        let Some(not_before) = self.not_before() else { return };
        let (now, uptime) = (server_time.saturating_add(nanoseconds(delay)), self.uptime());
        let mut known = self.known();
        if now >= not_before {
            *known = Known { offset: Some(now.saturating_sub(uptime)), least_offset: None, server_time: now };
        } else if known.offset.is_none() {
            // It has no clock either. Nothing waits for ever, and nothing is stamped as if the time were known.
            let least = not_before.max(known.server_time).saturating_sub(uptime);
            known.least_offset = known.least_offset.max(Some(least));
        }
    }
}

impl TimeProvider for DeviceClock {
    /// The best there is: a device that thinks it is 1970 can verify its server all the same.
    fn current_time(&self) -> Option<UnixTime> {
        let Some(not_before) = self.not_before() else { return Some(UnixTime::now()) };
        let time = match self.stamp() {
            Stamp::Time(time) => time,
            Stamp::Uptime(_) => not_before.max(self.known().server_time),
        };
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(time).unwrap_or(0))))
    }
}

/// 0 for a clock before 1970 or beyond the year 2262: that is none.
fn system_time() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(0)
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: i64 = 1_700_000_000_000_000_000;

    fn seconds(clock: &DeviceClock) -> u64 {
        clock.current_time().unwrap().as_secs()
    }

    #[test]
    fn time_starts_when_a_server_tells_it() {
        let clock = DeviceClock::new(Clock::Uptime { not_before: BUILT }, None);
        assert!(clock.stamp().is_uptime());
        assert_eq!((clock.device_time(), seconds(&clock)), (0, 1_700_000_000));
        clock.recall(None, BUILT + 5_000_000_000);
        assert_eq!(seconds(&clock), 1_700_000_005, "the last server's time, kept in the spool");
        clock.heard(1, Duration::ZERO);
        assert!(clock.stamp().is_uptime() && clock.offset().is_none(), "that server has no clock either");
        let at_least = clock.least_offset().unwrap() + clock.uptime() - BUILT;
        assert!((5_000_000_000..6_000_000_000).contains(&at_least), "{at_least}");
        clock.heard(BUILT + 60_000_000_000, Duration::from_secs(1));
        let Stamp::Time(now) = clock.stamp() else { panic!("the time is known") };
        assert!((61..70).contains(&((now - BUILT) / 1_000_000_000)), "{now}");
        assert_eq!(clock.least_offset(), None);
        clock.heard(1, Duration::ZERO);
        assert!(matches!(clock.stamp(), Stamp::Time(later) if later >= now), "what is known stays known");
        assert!((1_700_000_061..1_700_000_070).contains(&seconds(&clock)));
    }

    #[test]
    fn a_system_clock_is_believed() {
        let clock = DeviceClock::new(Clock::System, None);
        clock.heard(BUILT, Duration::ZERO);
        assert!(matches!(clock.stamp(), Stamp::Time(now) if now > BUILT));
    }
}
