//! What a network does to datagrams, as a function of time, chance and what went before. No sockets.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// Bytes of the IPv4 and UDP headers around a datagram.
pub const HEADER_BYTES: u64 = 28;

/// What one direction of a path does to the datagrams it carries. The default passes everything on at once.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// Share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// Share that arrives twice.
    pub duplication: f64,
    /// Share that arrives with one bit flipped.
    pub corruption: f64,
    /// Share that is held back by [`Conditions::held`], so that later ones overtake it.
    pub reordering: f64,
    /// How long a reordered datagram is held back beyond its delay.
    pub held: Duration,
    /// How long every datagram is under way.
    pub delay: Duration,
    /// Up to how much longer, at random; keeps the order.
    pub jitter: Duration,
    /// The bottleneck, if there is one; all clients of the path share it.
    pub bottleneck: Option<Bottleneck>,
}

/// A link of limited capacity, and the queue ahead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bytes a second, headers included.
    pub bytes_per_s: u64,
    /// Bytes that may wait; what comes beyond them is lost.
    pub queue_bytes: u64,
}

/// Datagrams and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes of UDP payload.
    pub payload_bytes: u64,
}

impl Volume {
    /// Bytes with IPv4 and UDP headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.payload_bytes + self.datagrams * HEADER_BYTES
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            datagrams: self.datagrams - earlier.datagrams,
            payload_bytes: self.payload_bytes - earlier.payload_bytes,
        }
    }

    fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.payload_bytes += bytes as u64;
    }
}

/// What went through one direction of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What was sent into it.
    pub sent: Volume,
    /// What came out of it, or will: without the lost, with the duplicates.
    pub delivered: Volume,
}

/// One direction of a path: its conditions, its dice and its memory.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) conditions: Conditions,
    pub(super) traffic: Traffic,
    random: Rng,
    /// When the bottleneck will have sent what waits for it.
    free_at: Option<Instant>,
    /// When the last datagram that kept the order arrives.
    newest: Option<Instant>,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            conditions: Conditions::default(),
            traffic: Traffic::default(),
            random: Rng::with_seed(seed),
            free_at: None,
            newest: None,
        }
    }

    /// Passes a datagram that was sent at `now`; returns when it arrives, and when it arrives again. `silent`: the
    /// path is a black hole at present.
    pub(super) fn pass(&mut self, now: Instant, datagram: &mut [u8], silent: bool) -> [Option<Instant>; 2] {
        self.traffic.sent.add(datagram.len());
        if silent || self.chance(self.conditions.loss) {
            return [None; 2];
        }
        let Some(through) = self.through_bottleneck(now, datagram.len() as u64) else { return [None; 2] };
        if self.chance(self.conditions.corruption) && !datagram.is_empty() {
            let at = self.random.usize(..datagram.len());
            datagram[at] ^= 1 << self.random.u32(..8);
        }
        let first = self.arrival(through);
        let again = self.chance(self.conditions.duplication).then(|| self.arrival(through));
        for _ in [Some(first), again].into_iter().flatten() {
            self.traffic.delivered.add(datagram.len());
        }
        [Some(first), again]
    }

    /// When the bottleneck has let a datagram through; `None` when its queue is full.
    fn through_bottleneck(&mut self, now: Instant, payload: u64) -> Option<Instant> {
        let Some(Bottleneck { bytes_per_s, queue_bytes }) = self.conditions.bottleneck else {
            return Some(now);
        };
        let time_for = |bytes: u64| Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64);
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        if start - now > time_for(queue_bytes) {
            return None;
        }
        let through = start + time_for(payload + HEADER_BYTES);
        self.free_at = Some(through);
        Some(through)
    }

    /// When a datagram arrives that has left the bottleneck at `through`.
    fn arrival(&mut self, through: Instant) -> Instant {
        let due = through + self.conditions.delay + self.conditions.jitter.mul_f64(self.random.f64());
        if self.chance(self.conditions.reordering) {
            return due + self.conditions.held;
        }
        let due = self.newest.map_or(due, |newest| newest.max(due));
        self.newest = Some(due);
        due
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrivals, in milliseconds after the start, of 1,000 datagrams of 72 bytes sent a millisecond apart.
    fn arrivals(conditions: Conditions) -> (Lane, Vec<[Option<u128>; 2]>) {
        let mut lane = Lane::new(7);
        lane.conditions = conditions;
        let start = Instant::now();
        let pass = |i| lane.pass(start + Duration::from_millis(i), &mut [0; 72], false);
        let at = |due: Instant| (due - start).as_millis();
        let arrived = (0..1_000).map(pass).map(|both| both.map(|due| due.map(at))).collect();
        (lane, arrived)
    }

    fn first(arrived: &[[Option<u128>; 2]]) -> Vec<u128> {
        arrived.iter().filter_map(|[first, _]| *first).collect()
    }

    #[test]
    fn a_calm_lane_passes_everything_at_once() {
        let (lane, arrived) = arrivals(Conditions::default());
        assert_eq!(first(&arrived), (0..1_000).collect::<Vec<_>>());
        assert!(arrived.iter().all(|[_, again]| again.is_none()));
        assert_eq!(lane.traffic.sent, lane.traffic.delivered);
        assert_eq!(lane.traffic.sent, Volume { datagrams: 1_000, payload_bytes: 72_000 });
        assert_eq!(lane.traffic.sent.bytes(), 100_000);
    }

    #[test]
    fn losses_and_duplicates_are_as_frequent_as_asked_for() {
        let (lane, arrived) = arrivals(Conditions { loss: 0.1, duplication: 0.2, ..Conditions::default() });
        let lost = 1_000 - first(&arrived).len();
        let twice = arrived.iter().filter(|[_, again]| again.is_some()).count();
        assert!((70..130).contains(&lost), "{lost} of 1,000 lost");
        assert!((140..220).contains(&twice), "{twice} of 1,000 twice");
        assert_eq!(lane.traffic.delivered.datagrams as usize, 1_000 - lost + twice);
    }

    #[test]
    fn jitter_delays_and_keeps_the_order() {
        let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(20));
        let (_, arrived) = arrivals(Conditions { delay, jitter, ..Conditions::default() });
        let arrived = first(&arrived);
        assert!(arrived.is_sorted());
        assert!(arrived.iter().zip(0..).all(|(at, sent)| (sent + 50..=sent + 70).contains(at)));
    }

    #[test]
    fn reordered_datagrams_are_overtaken() {
        let held = Duration::from_millis(5);
        let (_, arrived) = arrivals(Conditions { reordering: 0.1, held, ..Conditions::default() });
        let overtaken = first(&arrived).windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((60..130).contains(&overtaken), "{overtaken} of 1,000 overtaken");
    }

    #[test]
    fn a_bottleneck_queues_and_then_loses() {
        // A hundred bytes a millisecond are offered, half of that passes, and fifty datagrams may wait.
        let bottleneck = Bottleneck { bytes_per_s: 50_000, queue_bytes: 5_000 };
        let (_, arrived) = arrivals(Conditions { bottleneck: Some(bottleneck), ..Conditions::default() });
        let arrived = first(&arrived);
        assert!((525..=575).contains(&arrived.len()), "{} passed", arrived.len());
        assert!(arrived.windows(2).all(|pair| pair[1] - pair[0] >= 1), "two milliseconds apart");
    }

    #[test]
    fn corruption_flips_one_bit() {
        let mut lane = Lane::new(7);
        lane.conditions.corruption = 1.0;
        let mut datagram = [0xA5; 72];
        assert!(lane.pass(Instant::now(), &mut datagram, false)[0].is_some());
        assert_eq!(datagram.iter().map(|byte| (byte ^ 0xA5).count_ones()).sum::<u32>(), 1);
    }

    #[test]
    fn a_black_hole_takes_everything() {
        let mut lane = Lane::new(7);
        assert_eq!(lane.pass(Instant::now(), &mut [0; 72], true), [None; 2]);
        assert_eq!(lane.traffic.sent.datagrams, 1);
        assert_eq!(lane.traffic.delivered, Volume::default());
    }

    #[test]
    fn the_same_seed_has_the_same_fate() {
        let conditions = Conditions { loss: 0.3, duplication: 0.3, ..Conditions::default() };
        assert_eq!(arrivals(conditions).1, arrivals(conditions).1);
    }
}
