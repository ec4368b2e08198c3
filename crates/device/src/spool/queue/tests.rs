//! The queue against a model that knows each batch by its number only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{ColumnType, Field, Schema};
use proptest::prelude::*;

use super::ending::PLACEHOLDERS;
use super::*;

/// Events in every batch of these tests.
const COUNT: u64 = 10;
const LENGTH: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Unsynced,
    Waiting,
    Sent,
    Deferred,
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Sync,
    Take { class: Class, batches: usize },
    Settle { from: u64, batches: u64 },
    Defer { batch: u64 },
    GiveUp { batch: u64 },
    Trim(Class),
    Load(Class),
    Reconnect { backlog: bool },
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Live), Just(Class::Backlog)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        3 => Just(Step::Sync),
        3 => (class(), 1..5usize).prop_map(|(class, batches)| Step::Take { class, batches }),
        3 => (0..40u64, 1..6u64).prop_map(|(from, batches)| Step::Settle { from, batches }),
        1 => (0..40u64).prop_map(|batch| Step::Defer { batch }),
        1 => (0..40u64).prop_map(|batch| Step::GiveUp { batch }),
        1 => class().prop_map(Step::Trim),
        2 => class().prop_map(Step::Load),
        1 => any::<bool>().prop_map(|backlog| Step::Reconnect { backlog }),
    ]
}

struct Pair {
    queue: EpochQueue,
    model: BTreeMap<u64, Model>,
    in_flight: ByClass,
    pushed: u64,
    /// Batches before this one are backlog.
    live_from: u64,
    schema: Arc<Schema>,
    now: Instant,
}

fn range(batch: u64) -> Range<u64> {
    batch * COUNT..(batch + 1) * COUNT
}

impl Pair {
    fn new() -> Self {
        let schema = Schema::new("s", 1, vec![Field::new("n", ColumnType::I64)]).unwrap();
        let mut queue = EpochQueue::new(Epoch::from_bytes([1; 16]), 0);
        queue.attachment = Attachment::Attached(1);
        let (model, now) = (BTreeMap::new(), Instant::now());
        Self {
            queue,
            model,
            in_flight: ByClass::default(),
            pushed: 0,
            live_from: 0,
            schema: Arc::new(schema),
            now,
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Push => self.push(),
            Step::Sync => {
                self.queue.synced(self.pushed * COUNT);
                self.every(Model::Unsynced, Model::Waiting);
            }
            Step::Take { class, batches } => drop(self.take(class, batches)),
            Step::Settle { from, batches } => {
                let all = range(from).start..range(from + batches - 1).end;
                let mut settled = Vec::new();
                let freed = self.queue.settle(&all, |batch| settled.push(batch.first / COUNT));
                self.subtract(freed);
                let expected: Vec<u64> =
                    self.model.range(from..from + batches).map(|(batch, _)| *batch).collect();
                assert_eq!(settled, expected);
                self.model.retain(|batch, _| !(from..from + batches).contains(batch));
            }
            Step::Defer { batch } => {
                let freed = self.queue.defer(&range(batch), self.now + Duration::from_secs(1));
                self.subtract(freed);
                if self.model.get(&batch) == Some(&Model::Sent) {
                    self.model.insert(batch, Model::Deferred);
                }
            }
            Step::GiveUp { batch } => {
                if self.model.remove(&batch).is_some() {
                    let freed = self.queue.give_up(&range(batch), |_| {});
                    self.subtract(freed);
                    assert!(self.queue.dropped.covers(&range(batch)));
                }
            }
            Step::Trim(class) => {
                self.queue.trim(class, 2 * LENGTH);
                let ahead = self.queue.entries.range(self.queue.ahead_of_cursor(class));
                let waiting = ahead.filter(|batch| batch.state == State::Waiting);
                assert!(waiting.map(Queued::held).is_sorted_by(|older, newer| older >= newer));
            }
            Step::Load(class) => self.load(class),
            Step::Reconnect { backlog } => {
                let freed = self.queue.rewind();
                self.subtract(freed);
                self.queue.attachment = Attachment::Attached(1);
                self.every(Model::Sent, Model::Waiting);
                self.every(Model::Deferred, Model::Waiting);
                self.live_from = 0;
                if backlog {
                    self.queue.set_backlog();
                    self.live_from = self.pushed;
                }
            }
        }
    }

    fn subtract(&mut self, freed: ByClass) {
        Class::ALL.into_iter().for_each(|class| self.in_flight[class] -= freed[class]);
    }

    fn class_of(&self, batch: u64) -> Class {
        if batch < self.live_from { Class::Backlog } else { Class::Live }
    }

    fn push(&mut self) {
        let place = Place { segment: 0, offset: self.pushed };
        self.queue.push(Queued {
            first: self.pushed * COUNT,
            count: COUNT as u32,
            length: LENGTH as u32,
            schema: Arc::clone(&self.schema),
            payload: Some(Payload::copy_from(&[0; LENGTH])),
            place,
            mark: Mark::default(),
            state: State::Unsynced,
            sent_before: false,
        });
        self.model.insert(self.pushed, Model::Unsynced);
        self.pushed += 1;
    }

    fn take(&mut self, class: Class, batches: usize) -> usize {
        let mut out = Vec::new();
        let taken = self.queue.take(class, self.now, batches * LENGTH, &mut out);
        assert_eq!(taken, out.len() * LENGTH);
        self.in_flight[class] += taken;
        let sent: Vec<_> = self.queue.iter().filter(|batch| matches!(batch.state, State::Sent(_))).collect();
        for batch in sent.into_iter().map(|batch| batch.first / COUNT) {
            let of_class = self.class_of(batch) == class;
            let before = self.model.insert(batch, Model::Sent);
            let waited = matches!(before, Some(Model::Waiting | Model::Deferred));
            assert!(before == Some(Model::Sent) || waited && of_class, "{class:?}: {batch} {before:?}");
        }
        out.len()
    }

    fn load(&mut self, class: Class) {
        for (first, place, length) in self.queue.to_load(class, 3 * LENGTH) {
            assert_eq!((first, length as usize), (place.offset * COUNT, LENGTH));
            assert_eq!(self.class_of(first / COUNT), class);
            self.queue.loaded(first, Payload::copy_from(&[0; LENGTH]));
        }
    }

    fn every(&mut self, from: Model, to: Model) {
        self.model.values_mut().filter(|state| **state == from).for_each(|state| *state = to);
    }

    fn check(&self) {
        let states: Vec<_> = self.queue.iter().map(|batch| (batch.first / COUNT, batch.state)).collect();
        assert_eq!(self.queue.unsettled(), self.model.len());
        assert_eq!(states.len(), self.model.len());
        for ((batch, state), (expected, model)) in states.into_iter().zip(&self.model) {
            let same = match state {
                State::Unsynced => *model == Model::Unsynced,
                State::Waiting => *model == Model::Waiting,
                State::Sent(_) => *model == Model::Sent,
                State::Deferred(_) => *model == Model::Deferred,
                State::Kept | State::Settled => false,
            };
            assert!(same && batch == *expected, "batch {batch}: {state:?}, expected {model:?}");
        }
        for class in Class::ALL {
            let of_class = |batch: &u64| self.class_of(*batch) == class;
            let sent = self.model.iter().filter(|(batch, state)| of_class(batch) && **state == Model::Sent);
            assert_eq!(self.in_flight[class], sent.count() * LENGTH);
            let held = self.queue.iter().filter(|batch| of_class(&(batch.first / COUNT)));
            assert_eq!(self.queue.held()[class], held.map(Queued::held).sum::<usize>());
        }
        assert!(self.queue.entries.len() <= 2 * self.queue.unsettled() + PLACEHOLDERS);
    }
}

proptest! {
    #[test]
    fn the_queue_follows_its_model_and_loses_no_batch(steps in prop::collection::vec(step(), 0..200)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.apply(step);
            pair.check();
        }
        // Whatever happened, a new connection gets everything that is left, each batch once.
        pair.apply(&Step::Sync);
        pair.apply(&Step::Reconnect { backlog: true });
        let left = pair.model.len();
        let mut sent = 0;
        for _ in 0..=2 * left {
            pair.load(Class::Backlog);
            sent += pair.take(Class::Backlog, 1);
        }
        prop_assert_eq!(sent, left);
        pair.check();
    }
}

#[test]
fn sequences_that_nobody_has_are_absent() {
    let mut pair = Pair::new();
    (0..4).for_each(|_| pair.push());
    pair.queue.settle(&range(1), |_| {});
    pair.queue.give_up(&range(2), |_| {});
    assert_eq!(pair.queue.find_absent(), range(1).into());
    assert_eq!(pair.queue.unarchived(40).count(), 30);
}
