//! The planner with the clock moved ahead.

use std::collections::HashSet;
use std::time::Duration;

use crate::segment::SegmentId;
use crate::snapshot::KeptSnapshot;

use super::MAX_DAYS;
use super::action::Moment;
use super::books::{Books, Item};
use super::decide::{Step, Task};
use super::execute::{Done, Litter};
use super::snapshots::{Saved, SnapshotPlan};
use super::tally::Tally;
use super::upkeep::{PassDone, Stores, Upkeep};

const HOUR: i64 = 3_600 * 1_000_000_000;
const DAY: i64 = 24 * HOUR;
/// Between passes, in a rehearsal: so that it takes no longer than it is worth, and shows every hour.
const SHORTEST: Duration = Duration::from_mins(10);
const LONGEST: Duration = Duration::from_hours(1);
/// Plans of one instant, each with the one before done: split, upload, remove what is replaced, drop the local copy.
const ROUNDS: usize = 8;
/// Segments, and manifests, that arrive on a day at most: one a minute.
const MOST_A_DAY: u32 = 24 * 60;
/// Segments that arrive on paper are numbered as if of manifests from here on.
const ARRIVED: u64 = 1 << 63;

/// New data that a rehearsal reckons with, every day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// Manifests that bring it, spread over the day; at most one a minute.
    pub manifests: u32,
    /// What comes for each policy.
    pub data: Vec<NewData>,
}

/// New data of a policy, in segments of equal size spread over the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewData {
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
    /// What it takes beside that to keep catalog and stores in step, by day.
    pub upkeep: Vec<Upkeep>,
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
    /// Requests to object storage, for the segments themselves; [`Upkeep`] comes on top.
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
    /// That list.
    pub list: u64,
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
        self.put + self.get + self.list + self.delete
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
    /// that arrive. The worker makes its passes at this `interval` (never more often than every ten minutes here, nor less
    /// often than every hour), and what they say is done within it: bandwidth has no limit here, stores do not fail, and everything
    /// is rolled up in time.
    ///
    /// # Errors
    /// When arrivals are of a policy that there is not.
    pub fn rehearse(
        mut self,
        moment: &Moment,
        days: u32,
        interval: Duration,
        stores: &Stores,
        arrivals: &Arrivals,
    ) -> Result<Rehearsal, NoSuchPolicy> {
        self.roll_up_all();
        let days = days.min(MAX_DAYS);
        let turns = interval.clamp(SHORTEST, LONGEST);
        let turns = (LONGEST.as_secs_f64() / turns.as_secs_f64()).round() as u32;
        let mut run = Run::new(self, moment.clone(), turns, arrivals)?;
        let mut tally = Tally::new(&run.books, stores);
        for turn in 0..days * 24 * turns {
            tally.begin(turn / (24 * turns));
            if turn.is_multiple_of(turns) {
                tally.sweep(&run.books);
            }
            run.turn(&mut |books, event| tally.take(books, event));
            tally.store_for(1.0 / f64::from(turns));
        }
        Ok(tally.finish(&run.books, moment.now))
    }

    /// What arrives on a day, as the mean of the segments received within `days` days before `now`.
    #[must_use]
    pub fn recent_arrivals(&self, now: i64, days: u32) -> Arrivals {
        let since = now.saturating_sub(i64::from(days.max(1)).saturating_mul(DAY));
        let mut amounts = vec![(0_u64, 0_u64); self.policies.policies().len()];
        let mut manifests = HashSet::new();
        for item in self.items.iter().filter(|item| item.received > since && item.received <= now) {
            manifests.insert(item.id.manifest);
            for part in self.parts_of(item) {
                let (bytes, segments) = &mut amounts[usize::from(part.policy)];
                (*bytes, *segments) = (*bytes + part.bytes, *segments + 1);
            }
        }
        let days = u64::from(days.max(1));
        let a_day = |count: u64| u32::try_from(count.div_ceil(days)).unwrap_or(u32::MAX);
        let arrived = self.policies.policies().iter().zip(amounts).filter(|(_, (bytes, _))| *bytes > 0);
        let data = arrived.map(|(policy, (bytes, segments))| NewData {
            policy: policy.name.clone(),
            bytes: bytes / days,
            segments: a_day(segments),
        });
        Arrivals { manifests: a_day(manifests.len() as u64), data: data.collect() }
    }
}

/// What happens in a rehearsal.
pub(super) enum Event<'e> {
    /// An item came, from outside or by a split.
    Came(&'e Item),
    /// So many manifests brought items from outside.
    Registered(u64),
    /// A step is about to be done.
    Before(&'e Step),
    /// It was done, at this instant.
    After(&'e Step, Done, i64),
    /// Bytes are there that no item has any more.
    Littered(&'e Litter),
    /// They were removed, at this instant.
    Cleared(&'e Litter, i64),
    /// A snapshot of so many bytes is kept.
    Kept(u64),
    /// One of so many bytes was removed.
    LetGo(u64),
    /// A pass is over.
    Passed(&'e PassDone),
}

/// Books that are kept as if everything was done in time.
pub(super) struct Run<'p> {
    pub(super) books: Books<'p>,
    moment: Moment,
    manifests: u32,
    data: Vec<(u16, NewData)>,
    /// Turns in an hour, and those that are over.
    an_hour: u64,
    turns: u64,
    arrived: u64,
}

impl<'p> Run<'p> {
    pub(super) fn new(
        books: Books<'p>,
        moment: Moment,
        an_hour: u32,
        arrivals: &Arrivals,
    ) -> Result<Self, NoSuchPolicy> {
        let numbered = |data: &NewData| match books.policy(&data.policy) {
            Some(number) => Ok((number, data.clone())),
            None => Err(NoSuchPolicy(data.policy.clone())),
        };
        let data = arrivals.data.iter().map(numbered).collect::<Result<_, _>>()?;
        let (manifests, an_hour) = (arrivals.manifests, u64::from(an_hour));
        Ok(Self { books, moment, manifests, data, an_hour, turns: 0, arrived: 0 })
    }

    /// Does a turn: what arrives in it, then what is to be done at its beginning, until nothing is.
    pub(super) fn turn(&mut self, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        self.arrive(each);
        for _ in 0..ROUNDS {
            let done = self.pass(each);
            each(&self.books, Event::Passed(&done));
            if done.is_nothing() {
                break;
            }
        }
        self.turns += 1;
        self.moment.now = self.moment.now.saturating_add(HOUR / self.an_hour as i64);
    }

    /// Does what the worker does in a pass.
    fn pass(&mut self, each: &mut impl FnMut(&Books<'p>, Event<'_>)) -> PassDone {
        let mut done = PassDone::default();
        let mut litter = self.books.take_old_litter();
        done.littered = !self.books.litter.is_empty();
        for step in self.books.steps(&self.moment) {
            match step.task {
                Task::Unmark | Task::DropLocal | Task::DropCopy(_) => done.decided += 1,
                Task::Mark { .. } => done.marked += 1,
                Task::Delete => done.deleted += 1,
                Task::Upload(_) => done.uploaded += 1,
                Task::Split => done.split += 1,
                Task::Await => unreachable!("a wait is no step"),
            }
            self.execute(&step, each);
        }
        let snapshots = self.books.plan_snapshots(&self.moment);
        litter.extend(self.books.take_new_litter());
        done.littered |= !litter.is_empty();
        for litter in litter {
            done.removed += litter.copies.len() as u64;
            done.told += litter.told;
            each(&self.books, Event::Cleared(&litter, self.moment.now));
        }
        self.execute_snapshots(&snapshots, &mut done, each);
        done
    }

    /// Keeps the state as it is saved by now, and lets go of what may go.
    fn execute_snapshots(
        &mut self,
        plan: &SnapshotPlan,
        done: &mut PassDone,
        each: &mut impl FnMut(&Books<'p>, Event<'_>),
    ) {
        for kept in self.books.kept.extract_if(.., |kept| plan.drop.contains(&kept.block)).collect::<Vec<_>>()
        {
            (done.decided, done.removed, done.littered) = (done.decided + 1, done.removed + 1, true);
            each(&self.books, Event::LetGo(kept.bytes));
        }
        if let Some(saved) = self.moment.saved.filter(|_| plan.keep.is_some()) {
            done.uploaded += 1;
            let Saved { position, received, bytes, .. } = saved;
            // No block of the log has such a number.
            let (block, devices, hash, store) = (u64::MAX - self.turns, 0, [0; 32], None);
            self.books.kept.push(KeptSnapshot { block, position, received, devices, bytes, hash, store });
            each(&self.books, Event::Kept(bytes));
        }
    }

    fn execute(&mut self, step: &Step, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        each(&self.books, Event::Before(step));
        let (items, litter) = (self.books.items.len(), self.books.litter.len());
        let done = self.books.execute(step, self.moment.now);
        self.moment.free = self.moment.free.saturating_add_signed(done.freed);
        each(&self.books, Event::After(step, done, self.moment.now));
        for item in &self.books.items[items..] {
            each(&self.books, Event::Came(item));
        }
        for litter in &self.books.litter[litter..] {
            each(&self.books, Event::Littered(litter));
        }
    }

    fn arrive(&mut self, each: &mut impl FnMut(&Books<'p>, Event<'_>)) {
        for (policy, data) in &self.data {
            let a_day = u64::from(data.segments.clamp(1, MOST_A_DAY));
            for _ in 0..self.due(a_day) {
                let id = SegmentId { manifest: ARRIVED + self.arrived, child: 0 };
                let bytes = data.bytes / a_day;
                self.arrived += 1;
                // Behind all positions that there are, and counted in segments.
                let end = ARRIVED + self.arrived;
                self.books.arrive(id, *policy, bytes, (self.moment.now, end));
                if let Some(saved) = &mut self.moment.saved {
                    (saved.position, saved.received) = (end, self.moment.now);
                }
                self.moment.free = self.moment.free.saturating_sub(bytes);
                each(&self.books, Event::Came(self.books.items.last().expect("one just came")));
            }
        }
        let manifests = self.due(u64::from(self.manifests.min(MOST_A_DAY)));
        each(&self.books, Event::Registered(manifests));
    }

    /// How many of so many a day are due in this turn.
    fn due(&self, a_day: u64) -> u64 {
        let turns = 24 * self.an_hour;
        let turn = self.turns % turns;
        a_day * (turn + 1) / turns - a_day * turn / turns
    }
}
