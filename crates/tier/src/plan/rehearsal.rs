//! The planner with the clock moved ahead.

use std::collections::BTreeMap;

use crate::segment::SegmentId;

use super::MAX_DAYS;
use super::action::Moment;
use super::books::{Books, Item};
use super::decide::Step;
use super::execute::Done;
use super::prices::Prices;
use super::tally::Tally;

const HOUR: i64 = 3_600 * 1_000_000_000;
const DAY: i64 = 24 * HOUR;
/// Plans of one instant, each with the one before done: split, upload, remove what is replaced, drop the local copy.
const ROUNDS: usize = 8;
/// Segments that arrive on paper are numbered as if of manifests from here on.
const ARRIVED: u64 = 1 << 63;

/// New data that a rehearsal reckons with, in segments of equal size spread over the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrivals {
    /// The policy it belongs to.
    pub policy: String,
    /// Bytes a day, sealed.
    pub bytes: u64,
    /// Segments a day; at most one a minute.
    pub segments: u32,
}

/// What happens to the data of each policy on each day ahead. Prints itself for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// Where it begins, in nanoseconds since the Unix epoch; day 0 is the 24 hours from there on.
    pub start: i64,
    /// By policy, in the order of the set, and day.
    pub policies: Vec<(String, Vec<Day>)>,
}

/// A day of a policy's data.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Day {
    /// Segments at the end of the day, those included that are marked for deletion. One that several policies share counts
    /// with the one that has most of it.
    pub segments: u64,
    /// Their bytes, each once.
    pub bytes: u64,
    /// Bytes of local copies at the end of the day.
    pub local: u64,
    /// Objects at the end of the day.
    pub objects: u64,
    /// Their bytes.
    pub stored: u64,
    /// Bytes uploaded.
    pub uploaded: u64,
    /// Bytes of local copies removed.
    pub dropped: u64,
    /// Bytes whose deletion was decided.
    pub marked: u64,
    /// Of those, the bytes that had arrived within a day before.
    pub marked_young: u64,
    /// Bytes deleted.
    pub deleted: u64,
    /// Requests to object storage, for the segments themselves; the catalog's journal and manifests come on top.
    pub requests: Requests,
    /// What it costs.
    pub costs: Costs,
}

/// Requests by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// That write.
    pub put: u64,
    /// That read.
    pub get: u64,
    /// That delete.
    pub delete: u64,
}

/// Money, in the currency of the price tables.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Costs {
    /// For what is stored.
    pub storage: f64,
    /// For requests.
    pub requests: f64,
    /// For bytes that are read.
    pub retrieval: f64,
    /// For what is deleted or moved before the least time of its class.
    pub early: f64,
}

impl Requests {
    /// All together.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.put + self.get + self.delete
    }
}

impl Costs {
    /// All together.
    #[must_use]
    pub fn all(&self) -> f64 {
        self.storage + self.requests + self.retrieval + self.early
    }
}

/// A rehearsal is about data of a policy that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no policy is called {0}, so no data can arrive for it")]
pub struct NoSuchPolicy(String);

impl Books<'_> {
    /// What happens on each of the `days` ahead of `moment`, [`MAX_DAYS`] at most, to the segments there are and to those
    /// that arrive. The planner runs every hour, and what it says is done within it: bandwidth has no limit here and stores do
    /// not fail. `prices` are by store; what has none is free.
    ///
    /// # Errors
    /// When arrivals are of a policy that there is not.
    pub fn rehearse(
        self,
        moment: &Moment,
        days: u32,
        prices: &BTreeMap<String, Prices>,
        arrivals: &[Arrivals],
    ) -> Result<Rehearsal, NoSuchPolicy> {
        let days = days.min(MAX_DAYS);
        let mut run = Run::new(self, moment.clone(), arrivals)?;
        let mut tally = Tally::new(&run.books, prices);
        for hour in 0..days * 24 {
            tally.begin(hour / 24);
            run.hour(&mut |books, event| tally.take(books, event));
            tally.store_for_an_hour();
        }
        Ok(tally.finish(&run.books, moment.now))
    }

    /// What arrives on a day, as the mean of the segments received within `days` days before `now`.
    #[must_use]
    pub fn recent_arrivals(&self, now: i64, days: u32) -> Vec<Arrivals> {
        let since = now.saturating_sub(i64::from(days.max(1)).saturating_mul(DAY));
        let mut amounts = vec![(0_u64, 0_u64); self.policies.policies().len()];
        for item in self.items.iter().filter(|item| item.received > since && item.received <= now) {
            for part in self.parts_of(item) {
                let (bytes, segments) = &mut amounts[usize::from(part.policy)];
                (*bytes, *segments) = (*bytes + part.bytes, *segments + 1);
            }
        }
        let days = u64::from(days.max(1));
        let arrivals = self.policies.policies().iter().zip(amounts).filter(|(_, (bytes, _))| *bytes > 0);
        let arrivals = arrivals.map(|(policy, (bytes, segments))| Arrivals {
            policy: policy.name.clone(),
            bytes: bytes / days,
            segments: u32::try_from(segments.div_ceil(days)).unwrap_or(u32::MAX),
        });
        arrivals.collect()
    }
}

/// What happens in a rehearsal.
pub(super) enum Event<'e> {
    /// An item came, from outside or by a split.
    Came(&'e Item),
    /// A step is about to be done.
    Before(&'e Step),
    /// It was done, at this instant.
    After(&'e Step, Done, i64),
}

/// Books that are kept as if everything was done in time.
pub(super) struct Run<'p> {
    pub(super) books: Books<'p>,
    moment: Moment,
    arrivals: Vec<(u16, Arrivals)>,
    hours: u64,
    arrived: u64,
}

impl<'p> Run<'p> {
    pub(super) fn new(books: Books<'p>, moment: Moment, arrivals: &[Arrivals]) -> Result<Self, NoSuchPolicy> {
        let numbered = |arrivals: &Arrivals| match books.policy(&arrivals.policy) {
            Some(number) => Ok((number, arrivals.clone())),
            None => Err(NoSuchPolicy(arrivals.policy.clone())),
        };
        let arrivals = arrivals.iter().map(numbered).collect::<Result<_, _>>()?;
        Ok(Self { books, moment, arrivals, hours: 0, arrived: 0 })
    }

    /// Does an hour: what arrives in it, then what is to be done at its beginning, until nothing is.
    pub(super) fn hour(&mut self, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        self.arrive(each);
        for _ in 0..ROUNDS {
            let steps = self.books.steps(&self.moment);
            if steps.is_empty() {
                break;
            }
            for step in steps {
                self.execute(&step, each);
            }
        }
        self.hours += 1;
        self.moment.now = self.moment.now.saturating_add(HOUR);
    }

    fn execute(&mut self, step: &Step, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        each(&self.books, Event::Before(step));
        let items = self.books.items.len();
        let done = self.books.execute(step, self.moment.now);
        self.moment.free = self.moment.free.saturating_add_signed(done.freed);
        each(&self.books, Event::After(step, done, self.moment.now));
        for item in &self.books.items[items..] {
            each(&self.books, Event::Came(item));
        }
    }

    fn arrive(&mut self, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        let hour = self.hours % 24;
        for (policy, arrivals) in &self.arrivals {
            let a_day = u64::from(arrivals.segments.clamp(1, 24 * 60));
            let by = |hour: u64| a_day * hour / 24;
            for _ in by(hour)..by(hour + 1) {
                let id = SegmentId { manifest: ARRIVED + self.arrived, child: 0 };
                let bytes = arrivals.bytes / a_day;
                self.books.arrive(id, *policy, bytes, self.moment.now);
                self.arrived += 1;
                self.moment.free = self.moment.free.saturating_sub(bytes);
                each(&self.books, Event::Came(self.books.items.last().expect("one just came")));
            }
        }
    }
}
