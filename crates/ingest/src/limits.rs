//! How much a device or gateway may send: token buckets over events and bytes, without a clock of their own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use icecore_wire::DeviceName;

use crate::Role;
use crate::identity::Identity;

/// How far ahead of its rate a sender may be: devices report in bursts, and a batch is one.
const BURST: Duration = Duration::from_secs(2);

/// Buckets below which nothing is cleared away.
const FEW_BUCKETS: usize = 1_024;

/// A rate; 0 stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Events a second.
    pub events_per_s: u64,
    /// Bytes of batch payload a second.
    pub bytes_per_s: u64,
}

/// What may be sent, resends included. The default limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// For each device, however it is connected.
    pub device: Rate,
    /// For each gateway, over all its connections and devices.
    pub gateway: Rate,
}

/// What a batch weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) events: u32,
    pub(crate) bytes: usize,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is within the limits.
    Free,
    /// It is taken, and the connection is to pause.
    Paced(Pause),
    /// It is to come again after this time: its device is beyond its own limit, and others on the connection are not.
    Refused(Duration),
}

/// How a connection gets back to its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// When it may go on.
    pub(crate) until: Instant,
    /// The rate, in bytes of batches like this one a second.
    pub(crate) bytes_per_s: u64,
}

/// The limits, and who has used how much of them.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: RateLimits,
    devices: Mutex<Buckets>,
    gateways: Mutex<Buckets>,
}

/// The buckets of those who have sent lately. A bucket that has filled up again is cleared away, since a new one is full
/// as well; so there are about as many as senders within [`BURST`].
#[derive(Debug, Default)]
struct Buckets {
    buckets: HashMap<DeviceName, Bucket>,
    /// Number of buckets at which to look for full ones.
    clear_at: usize,
}

/// When all that was sent so far would have been sent at exactly the rate.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    events_until: Instant,
    bytes_until: Instant,
}

impl Limiter {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self { limits, devices: Mutex::default(), gateways: Mutex::default() }
    }

    /// Whether there is any limit for such a client.
    pub(crate) fn applies_to(&self, client: &Identity) -> bool {
        self.limits.device.is_limited() || (client.role == Role::Gateway && self.limits.gateway.is_limited())
    }

    /// Counts a batch that `client` sent for `device`, and says what becomes of it. A refused batch is not counted: what a
    /// device behind a gateway sends beyond its own limit is not taken from its neighbours' share.
    pub(crate) fn admit(
        &self,
        client: &Identity,
        device: &DeviceName,
        load: Load,
        now: Instant,
    ) -> Admission {
        let RateLimits { device: of_device, gateway: of_gateway } = self.limits;
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = devices.bucket(device, now);
        if client.role == Role::Device {
            bucket.charge(of_device, load, now);
            return of_device.admission(*bucket, load, now);
        }
        if let Some(wait) = bucket.wait(now) {
            return Admission::Refused(wait);
        }
        bucket.charge(of_device, load, now);
        drop(devices);
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = gateways.bucket(&client.name, now);
        bucket.charge(of_gateway, load, now);
        of_gateway.admission(*bucket, load, now)
    }
}

impl Rate {
    fn is_limited(self) -> bool {
        self != Self::default()
    }

    /// What becomes of a batch that was charged.
    fn admission(self, bucket: Bucket, load: Load, now: Instant) -> Admission {
        let Some(wait) = bucket.wait(now) else { return Admission::Free };
        let bytes = if self.bytes_per_s == 0 { u64::MAX } else { self.bytes_per_s };
        let by_events = if self.events_per_s == 0 {
            u64::MAX
        } else {
            self.events_per_s.saturating_mul(load.bytes as u64) / u64::from(load.events.max(1))
        };
        Admission::Paced(Pause { until: now + wait, bytes_per_s: bytes.min(by_events).max(1) })
    }
}

impl Buckets {
    fn bucket(&mut self, name: &DeviceName, now: Instant) -> &mut Bucket {
        if !self.buckets.contains_key(name) {
            if self.buckets.len() >= self.clear_at.max(FEW_BUCKETS) {
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
                self.clear_at = 2 * self.buckets.len();
            }
            self.buckets.insert(name.clone(), Bucket { events_until: now, bytes_until: now });
        }
        self.buckets.get_mut(name).expect("it is there or was put there")
    }
}

impl Bucket {
    fn is_full(&self, now: Instant) -> bool {
        self.events_until <= now && self.bytes_until <= now
    }

    fn charge(&mut self, rate: Rate, load: Load, now: Instant) {
        self.events_until = self.events_until.max(now) + time_for(u64::from(load.events), rate.events_per_s);
        self.bytes_until = self.bytes_until.max(now) + time_for(load.bytes as u64, rate.bytes_per_s);
    }

    /// Time until something may be sent again; `None` when it may now.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let until = self.events_until.max(self.bytes_until);
        let wait = until.saturating_duration_since(now).saturating_sub(BURST);
        (!wait.is_zero()).then_some(wait)
    }
}

/// How long `amount` takes at a rate.
fn time_for(amount: u64, per_s: u64) -> Duration {
    amount.saturating_mul(1_000_000_000).checked_div(per_s).map_or(Duration::ZERO, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(role: Role, name: &str) -> Identity {
        Identity { role, name: named(name), fingerprint: String::new(), expires: 0 }
    }

    fn named(name: &str) -> DeviceName {
        DeviceName::try_from(name).unwrap()
    }

    fn rate(events_per_s: u64, bytes_per_s: u64) -> Rate {
        Rate { events_per_s, bytes_per_s }
    }

    const BATCH: Load = Load { events: 100, bytes: 3_300 };

    /// Sends batches for a device as fast as the limiter lets it for `seconds`; returns how many were taken.
    fn rush(limiter: &Limiter, client: &Identity, device: &str, start: Instant, seconds: u64) -> u64 {
        let (end, mut now, mut taken) = (start + Duration::from_secs(seconds), start, 0);
        while now < end {
            match limiter.admit(client, &named(device), BATCH, now) {
                Admission::Free => taken += 1,
                Admission::Paced(pause) => {
                    taken += 1;
                    now = pause.until;
                }
                Admission::Refused(wait) => now += wait,
            }
        }
        taken
    }

    #[test]
    fn whatever_is_limited_nobody_gets_more_than_the_rate_and_a_burst() {
        for (limit, batches_per_s) in [(rate(1_000, 0), 10), (rate(0, 33_000), 10), (rate(5_000, 33_000), 10)]
        {
            let start = Instant::now();
            let limiter = Limiter::new(RateLimits { device: limit, gateway: Rate::default() });
            for client in [client(Role::Device, "pump"), client(Role::Gateway, "gw")] {
                let device = format!("pump of {}", client.name);
                let taken = rush(&limiter, &client, &device, start, 60);
                let allowed = batches_per_s * (60 + 2);
                assert!((allowed - 1..=allowed + 1).contains(&taken), "{taken} of {allowed} for {limit:?}");
            }
        }
    }

    #[test]
    fn a_device_behind_a_gateway_is_refused_and_its_neighbours_are_not() {
        let limits = RateLimits { device: rate(1_000, 0), gateway: rate(10_000, 0) };
        let (limiter, gateway, now) = (Limiter::new(limits), client(Role::Gateway, "gw"), Instant::now());
        for _ in 0..21 {
            assert_eq!(limiter.admit(&gateway, &named("greedy"), BATCH, now), Admission::Free);
        }
        for _ in 0..1_000 {
            let refused = limiter.admit(&gateway, &named("greedy"), BATCH, now);
            assert_eq!(refused, Admission::Refused(Duration::from_millis(100)));
        }
        assert_eq!(limiter.admit(&gateway, &named("modest"), BATCH, now), Admission::Free);
    }

    #[test]
    fn a_gateway_beyond_its_limit_is_paced_over_all_its_devices() {
        let limits = RateLimits { device: Rate::default(), gateway: rate(1_000, 0) };
        let (limiter, gateway, now) = (Limiter::new(limits), client(Role::Gateway, "gw"), Instant::now());
        for n in 0..20 {
            assert_eq!(limiter.admit(&gateway, &named(&format!("pump {n}")), BATCH, now), Admission::Free);
        }
        // Batches of this size carry 33 bytes an event.
        let pause = Pause { until: now + Duration::from_millis(100), bytes_per_s: 33_000 };
        assert_eq!(limiter.admit(&gateway, &named("pump 20"), BATCH, now), Admission::Paced(pause));
        let other = client(Role::Gateway, "other");
        assert_eq!(limiter.admit(&other, &named("pump 0"), BATCH, now), Admission::Free);
    }

    #[test]
    fn buckets_leave_when_they_are_full_again() {
        let limiter = Limiter::new(RateLimits { device: rate(1_000, 0), gateway: Rate::default() });
        let start = Instant::now();
        for n in 0..100_000_u32 {
            let device = client(Role::Device, &format!("pump {n}"));
            limiter.admit(&device, &device.name, BATCH, start + Duration::from_millis(1) * n);
        }
        // A batch is a tenth of a second's allowance, in which a hundred others send.
        let kept = limiter.devices.lock().unwrap().buckets.len();
        assert!(kept <= FEW_BUCKETS, "{kept} are kept");
    }
}
