//! The sums of a rehearsal.

use std::collections::BTreeMap;

use crate::store::upload_requests;

use super::action::Destination;
use super::books::{Books, Item, day};
use super::copies::Kept;
use super::decide::{Step, Task};
use super::execute::Done;
use super::prices::{Prices, Rates};
use super::rehearsal::{Day, Event, Rehearsal};

const DAY: i64 = 24 * 3_600 * 1_000_000_000;

/// Adds up what happens, by policy and day.
pub(super) struct Tally {
    /// By place.
    rates: Vec<Rates>,
    /// By policy.
    standing: Vec<Standing>,
    /// By policy and day.
    days: Vec<Vec<Day>>,
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
    pub(super) fn new(books: &Books<'_>, prices: &BTreeMap<String, Prices>) -> Self {
        let rates = |place: &Destination| {
            prices.get(&place.store).map(|prices| prices.rates(place.class.as_deref())).unwrap_or_default()
        };
        let rates: Vec<Rates> = books.places.all().map(rates).collect();
        let policies = books.policies.policies().len();
        let standing = Standing { stored: vec![0; rates.len()], ..Standing::default() };
        let mut tally = Self { rates, standing: vec![standing; policies], days: vec![Vec::new(); policies] };
        books.items.iter().for_each(|item| tally.count(books, item, u64::wrapping_add));
        tally
    }

    /// Begins this day, if it has not begun.
    pub(super) fn begin(&mut self, number: u32) {
        for days in &mut self.days {
            days.resize(number as usize + 1, Day::default());
        }
    }

    fn today(&mut self, policy: u16) -> &mut Day {
        self.days[usize::from(policy)].last_mut().expect("a day has begun")
    }

    pub(super) fn take(&mut self, books: &Books<'_>, event: Event<'_>) {
        match event {
            Event::Came(item) => self.count(books, item, u64::wrapping_add),
            Event::Before(step) => self.count(books, &books.items[step.item as usize], u64::wrapping_sub),
            Event::After(step, done, now) => {
                let item = &books.items[step.item as usize];
                self.count(books, item, u64::wrapping_add);
                self.step(books, item, step, now);
                self.cost(item, step, &done, now);
            }
        }
    }

    /// Counts an item in, or out of what there is.
    fn count(&mut self, books: &Books<'_>, item: &Item, with: fn(u64, u64) -> u64) {
        if item.gone {
            return;
        }
        for (number, part) in books.parts_of(item).iter().enumerate() {
            let standing = &mut self.standing[usize::from(part.policy)];
            let change = |sum: &mut u64, by: u64| *sum = with(*sum, by);
            change(&mut standing.bytes, part.bytes);
            change(&mut standing.local, if item.local { part.bytes } else { 0 });
            for copy in item.copies.iter() {
                change(&mut standing.stored[copy.place.index()], part.bytes);
            }
            if number == 0 {
                change(&mut standing.segments, 1);
                change(&mut standing.objects, item.copies.iter().count() as u64);
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
                Task::DropCopy(_) | Task::Unmark | Task::Split => {}
            }
        }
    }

    /// Counts the requests of a step, and what it costs.
    fn cost(&mut self, item: &Item, step: &Step, done: &Done, now: i64) {
        let mut sum = Day::default();
        let read = |rates: Rates, sum: &mut Day| {
            sum.requests.get += 1;
            sum.costs.requests += rates.get_1000 / 1_000.0;
            sum.costs.retrieval += rates.retrieval(item.bytes);
        };
        if let Some(Kept { place, .. }) = done.from {
            read(self.rates[place.index()], &mut sum);
        }
        if let Task::Upload(place) = step.task {
            let (rates, puts) = (self.rates[place.index()], upload_requests(item.bytes));
            sum.requests.put += puts;
            sum.costs.requests += rates.put_1000 * puts as f64 / 1_000.0;
            read(rates, &mut sum); // it is read back
        }
        for Kept { place, day: stored } in &done.removed {
            let rates = self.rates[place.index()];
            sum.costs.early += rates.early(item.bytes, day(now) - stored);
            // What an upload replaces needs no request of its own.
            if !matches!(step.task, Task::Upload(_)) {
                sum.requests.delete += 1;
                sum.costs.requests += rates.delete_1000 / 1_000.0;
            }
        }
        let today = self.today(step.policy);
        today.requests.put += sum.requests.put;
        today.requests.get += sum.requests.get;
        today.requests.delete += sum.requests.delete;
        today.costs.requests += sum.costs.requests;
        today.costs.retrieval += sum.costs.retrieval;
        today.costs.early += sum.costs.early;
    }

    /// Counts what is stored for an hour; the last hour of a day leaves what there is at its end.
    pub(super) fn store_for_an_hour(&mut self) {
        for (standing, days) in self.standing.iter().zip(&mut self.days) {
            let today = days.last_mut().expect("a day has begun");
            let storage =
                standing.stored.iter().zip(&self.rates).map(|(bytes, rates)| rates.storage(*bytes, 1.0));
            today.costs.storage += storage.sum::<f64>();
            today.segments = standing.segments;
            today.bytes = standing.bytes;
            today.local = standing.local;
            today.objects = standing.objects;
            today.stored = standing.stored.iter().sum();
        }
    }

    pub(super) fn finish(self, books: &Books<'_>, start: i64) -> Rehearsal {
        let names = books.policies.policies().iter().map(|policy| policy.name.clone());
        Rehearsal { start, policies: names.zip(self.days).collect() }
    }
}
