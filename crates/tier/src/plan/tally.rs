//! The sums of a rehearsal.

use std::collections::BTreeMap;

use crate::store::upload_requests;

use super::action::Destination;
use super::books::{Books, Item, day};
use super::copies::Kept;
use super::decide::{Step, Task};
use super::execute::Done;
use super::prices::Rates;
use super::rehearsal::{Day, Event, Rehearsal};
use super::upkeep::{Ledger, Stores};

const DAY: i64 = 24 * 3_600 * 1_000_000_000;

/// Adds up what happens, by policy and day.
pub(super) struct Tally {
    /// By place.
    rates: Vec<Rates>,
    /// By policy.
    standing: Vec<Standing>,
    /// By policy and day.
    days: Vec<Vec<Day>>,
    /// Objects by place.
    objects: Vec<u64>,
    ledger: Ledger,
}

/// What there is of a policy's data.
#[derive(Debug, Clone, Default)]
struct Standing {
    segments: u64,
    bytes: u64,
    local: u64,
    objects: u64,
    /// By place.
    stored: Vec<u64>,
}

impl Tally {
    pub(super) fn new(books: &Books<'_>, stores: &Stores) -> Self {
        let rates = |place: &Destination| {
            let prices = stores.prices.get(&place.store);
            prices.map(|prices| prices.rates(place.class.as_deref())).unwrap_or_default()
        };
        let rates: Vec<Rates> = books.places.all().map(rates).collect();
        let policies = books.policies.policies().len();
        let standing = Standing { stored: vec![0; rates.len()], ..Standing::default() };
        let mut tally = Self {
            objects: vec![0; rates.len()],
            rates,
            standing: vec![standing; policies],
            days: vec![Vec::new(); policies],
            ledger: Ledger::new(stores, &books.kept),
        };
        books.items.iter().for_each(|item| tally.count(books, item, u64::wrapping_add));
        tally
    }

    /// Begins this day, if it has not begun.
    pub(super) fn begin(&mut self, number: u32) {
        for days in &mut self.days {
            days.resize(number as usize + 1, Day::default());
        }
        self.ledger.begin(number);
    }

    /// The stores are compared with the catalog.
    pub(super) fn sweep(&mut self, books: &Books<'_>) {
        let mut objects: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, count) in books.places.all().zip(&self.objects) {
            *objects.entry(&place.store).or_default() += count;
        }
        self.ledger.sweep(|store| objects.get(store).copied().unwrap_or_default());
    }

    fn today(&mut self, policy: u16) -> &mut Day {
        self.days[usize::from(policy)].last_mut().expect("a day has begun")
    }

    pub(super) fn take(&mut self, books: &Books<'_>, event: Event<'_>) {
        match event {
            Event::Came(item) => self.count(books, item, u64::wrapping_add),
            Event::Registered(manifests) => self.ledger.register(manifests),
            Event::Before(step) => self.count(books, &books.items[step.item as usize], u64::wrapping_sub),
            Event::After(step, done, now) => {
                let item = &books.items[step.item as usize];
                self.count(books, item, u64::wrapping_add);
                self.step(books, item, step, now);
                self.cost(item, step, &done);
            }
            Event::Littered(litter) => {
                let item = &books.items[litter.item as usize];
                self.count_copies(books, item, &litter.copies, u64::wrapping_add);
            }
            Event::Cleared(litter, now) => {
                let item = &books.items[litter.item as usize];
                self.count_copies(books, item, &litter.copies, u64::wrapping_sub);
                self.removed(books, item, &litter.copies, now);
            }
            Event::Kept(bytes) => self.ledger.keep(bytes),
            Event::LetGo(bytes) => self.ledger.let_go(bytes),
            Event::Passed(done) => {
                if !done.is_nothing() || self.ledger.is_behind() {
                    self.ledger.pass(done);
                }
            }
        }
    }

    /// Counts an item in, or out of what there is.
    fn count(&mut self, books: &Books<'_>, item: &Item, with: fn(u64, u64) -> u64) {
        if item.gone {
            return;
        }
        let change = |sum: &mut u64, by: u64| *sum = with(*sum, by);
        for (number, part) in books.parts_of(item).iter().enumerate() {
            let standing = &mut self.standing[usize::from(part.policy)];
            change(&mut standing.segments, u64::from(number == 0));
            change(&mut standing.bytes, part.bytes);
            change(&mut standing.local, if item.local { part.bytes } else { 0 });
        }
        self.count_copies(books, item, &item.copies.iter().collect::<Vec<_>>(), with);
    }

    /// Counts objects of an item in, or out of what there is.
    fn count_copies(&mut self, books: &Books<'_>, item: &Item, copies: &[Kept], with: fn(u64, u64) -> u64) {
        let change = |sum: &mut u64, by: u64| *sum = with(*sum, by);
        for copy in copies {
            change(&mut self.objects[copy.place.index()], 1);
            for (number, part) in books.parts_of(item).iter().enumerate() {
                let standing = &mut self.standing[usize::from(part.policy)];
                change(&mut standing.objects, u64::from(number == 0));
                change(&mut standing.stored[copy.place.index()], part.bytes);
            }
        }
    }

    /// Counts the bytes of each part of an item with which something was done.
    fn step(&mut self, books: &Books<'_>, item: &Item, step: &Step, now: i64) {
        let is_young = now.saturating_sub(item.received) < DAY;
        for part in books.parts_of(item) {
            let today = self.today(part.policy);
            match step.task {
                Task::Upload(_) => today.uploaded += part.bytes,
                Task::DropLocal => today.dropped += part.bytes,
                Task::Mark { .. } => {
                    today.marked += part.bytes;
                    today.marked_young += if is_young { part.bytes } else { 0 };
                }
                Task::Delete => today.deleted += part.bytes,
                Task::DropCopy(_) | Task::Unmark | Task::Split | Task::Await => {}
            }
        }
    }

    /// Counts the requests of a step, and what it costs.
    fn cost(&mut self, item: &Item, step: &Step, done: &Done) {
        if let Some(Kept { place, .. }) = done.from {
            self.read(step.policy, self.rates[place.index()], item.bytes);
        }
        if let Task::Upload(place) = step.task {
            let (rates, puts) = (self.rates[place.index()], upload_requests(item.bytes));
            let today = self.today(step.policy);
            today.requests.put += puts;
            today.costs.requests += rates.put_1000 * puts as f64 / 1_000.0;
            self.read(step.policy, rates, item.bytes); // it is read back
        }
    }

    fn read(&mut self, policy: u16, rates: Rates, bytes: u64) {
        let today = self.today(policy);
        today.requests.get += 1;
        today.costs.requests += rates.get_1000 / 1_000.0;
        today.costs.retrieval += rates.retrieval(bytes);
    }

    /// Counts the requests that remove objects of an item, and what is to be paid for having them removed so soon.
    fn removed(&mut self, books: &Books<'_>, item: &Item, copies: &[Kept], now: i64) {
        let Some(first) = books.parts_of(item).first() else { return };
        for Kept { place, day: stored } in copies {
            let rates = self.rates[place.index()];
            let today = self.today(first.policy);
            today.requests.delete += 1;
            today.costs.requests += rates.delete_1000 / 1_000.0;
            today.costs.early += rates.early(item.bytes, day(now) - stored);
        }
    }

    /// Counts what is stored for so many hours; the last of a day leave what there is at its end.
    pub(super) fn store_for(&mut self, hours: f64) {
        for (standing, days) in self.standing.iter().zip(&mut self.days) {
            let today = days.last_mut().expect("a day has begun");
            let storage =
                standing.stored.iter().zip(&self.rates).map(|(bytes, rates)| rates.storage(*bytes, hours));
            today.costs.storage += storage.sum::<f64>();
            today.segments = standing.segments;
            today.bytes = standing.bytes;
            today.local = standing.local;
            today.objects = standing.objects;
            today.stored = standing.stored.iter().sum();
        }
        self.ledger.store_for(hours);
    }

    pub(super) fn finish(self, books: &Books<'_>, start: i64) -> Rehearsal {
        let names = books.policies.policies().iter().map(|policy| policy.name.clone());
        Rehearsal { start, policies: names.zip(self.days).collect(), upkeep: self.ledger.finish() }
    }
}
