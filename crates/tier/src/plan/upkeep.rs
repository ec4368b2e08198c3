//! What it takes to keep the catalog and the stores in step: journal, manifests, snapshots, terms, and listings.
//!
//! These are the requests that the [worker](crate::worker) makes beside those for the segments themselves, by the rules that
//! it follows:
//!
//! - A pass writes the journal before it does anything, before decisions that have to be on record, before bytes go, and at
//!   its end: an object for what was decided since, if anything was. Decisions that have to be on record have objects of their own.
//! - A new manifest is put into every store, and read back.
//! - A snapshot that is kept is uploaded to the store of the journal, and read back.
//! - The term is checked before each upload, before each object goes, before each lot of decisions that have to be on record,
//!   and before manifests are put into a store.
//! - Once an hour the segments in every store are listed, and the snapshots in that of the journal.
//!
//! A server that starts lists the manifests of every store, too. What the objects of journal and manifests take up is left
//! out: some 300 bytes for a decision.

use std::collections::BTreeMap;

use crate::journal::{MAX_LINES, TOGETHER};

use super::prices::{Prices, Rates};
use super::rehearsal::Requests;
use crate::snapshot::KeptSnapshot;
use crate::store::upload_requests;

/// Objects in one answer to a listing, at most.
const PAGE: u64 = 1_000;

/// The stores of a configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stores {
    /// What each of them costs.
    pub prices: BTreeMap<String, Prices>,
    /// The one with the journal.
    pub journal: Option<String>,
}

/// What upkeep takes on a day.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Upkeep {
    /// Manifests that come; there is an object of each in every store.
    pub manifests: u64,
    /// Objects of the journal that are written.
    pub journal: u64,
    /// Snapshots that are uploaded.
    pub snapshots: u64,
    /// Bytes of them.
    pub snapshot_bytes: u64,
    /// Requests to all stores.
    pub requests: Requests,
    /// What the requests cost, and to store and read back the snapshots.
    pub costs: f64,
}

/// What a pass of the worker does that the journal or the term has to do with.
#[derive(Debug, Default)]
pub(super) struct PassDone {
    /// Decisions that take effect at once.
    pub(super) decided: u64,
    /// Segments that are marked.
    pub(super) marked: u64,
    /// Segments that are deleted.
    pub(super) deleted: u64,
    /// Whether there are bytes that are to go, now or when it is their time.
    pub(super) littered: bool,
    /// Objects that go.
    pub(super) removed: u64,
    /// Decisions that say so.
    pub(super) told: u64,
    /// Copies that are made, of segments or of the state.
    pub(super) uploaded: u64,
    /// Segments that are split, each with a manifest.
    pub(super) split: u64,
}

impl PassDone {
    pub(super) fn is_nothing(&self) -> bool {
        let Self { decided, marked, deleted, removed, told, uploaded, split, littered: _ } = self;
        decided + marked + deleted + removed + told + uploaded + split == 0
    }
}

/// Follows the worker through its passes.
pub(super) struct Ledger {
    /// By name, in order.
    stores: Vec<(String, Rates)>,
    journal: Option<Rates>,
    /// Decisions that the journal does not have.
    undone: u64,
    /// Manifests that no store has.
    unshelved: u64,
    /// Bytes of the snapshots that are kept.
    kept: u64,
    days: Vec<Upkeep>,
}

impl Ledger {
    pub(super) fn new(stores: &Stores, kept: &[KeptSnapshot]) -> Self {
        let rates = |prices: &Prices| prices.rates(None);
        let journal = stores.journal.as_ref();
        let journal = journal.map(|store| stores.prices.get(store).map(rates).unwrap_or_default());
        let stores = stores.prices.iter().map(|(name, prices)| (name.clone(), rates(prices))).collect();
        let kept = kept.iter().map(|snapshot| snapshot.bytes).sum();
        Self { stores, journal, undone: 0, unshelved: 0, kept, days: Vec::new() }
    }

    pub(super) fn begin(&mut self, number: u32) {
        self.days.resize(number as usize + 1, Upkeep::default());
    }

    pub(super) fn finish(self) -> Vec<Upkeep> {
        self.days
    }

    /// The worker compares every store with the catalog. `objects` tells how many segments a store has.
    pub(super) fn sweep(&mut self, objects: impl Fn(&str) -> u64) {
        let pages: Vec<(u64, f64)> = self
            .stores
            .iter()
            .map(|(name, rates)| (objects(name).div_ceil(PAGE).max(1), rates.list_1000))
            .collect();
        let snapshots = self.journal.map(|rates| (1, rates.list_1000));
        for (pages, price) in pages.into_iter().chain(snapshots) {
            self.today().requests.list += pages;
            self.pay(pages, price);
        }
    }

    /// A snapshot of so many bytes is uploaded and read back.
    pub(super) fn keep(&mut self, bytes: u64) {
        self.kept += bytes;
        let Some(rates) = self.journal else { return };
        let puts = upload_requests(bytes);
        let today = self.today();
        (today.snapshots, today.snapshot_bytes) = (today.snapshots + 1, today.snapshot_bytes + bytes);
        (today.requests.put, today.requests.get) = (today.requests.put + puts, today.requests.get + 1);
        today.costs += rates.retrieval(bytes);
        self.pay(puts, rates.put_1000);
        self.pay(1, rates.get_1000);
    }

    /// The object of a snapshot of so many bytes goes.
    pub(super) fn let_go(&mut self, bytes: u64) {
        self.kept -= bytes;
        let Some(rates) = self.journal else { return };
        self.today().requests.delete += 1;
        self.pay(1, rates.delete_1000);
    }

    /// The snapshots that are kept are stored for so many hours.
    pub(super) fn store_for(&mut self, hours: f64) {
        let Some(rates) = self.journal else { return };
        self.today().costs += rates.storage(self.kept, hours);
    }

    /// So many manifests are registered; the next pass takes them to the stores.
    pub(super) fn register(&mut self, manifests: u64) {
        self.undone += manifests;
        self.unshelved += manifests;
        self.today().manifests += manifests;
    }

    /// Whether a pass has something to do before it plans.
    pub(super) fn is_behind(&self) -> bool {
        self.undone + self.unshelved > 0
    }

    pub(super) fn pass(&mut self, done: &PassDone) {
        self.mirror();
        self.shelve();
        self.undone += done.decided;
        for lot in [done.marked, done.deleted] {
            for _ in 0..lot.div_ceil(TOGETHER as u64) {
                self.mirror();
                self.check_term(1);
                self.write_journal(1);
            }
        }
        if done.littered {
            self.mirror();
        }
        self.check_term(done.removed + done.uploaded);
        self.undone += done.told + done.uploaded;
        self.register(done.split);
        self.mirror();
    }

    fn mirror(&mut self) {
        let decisions = std::mem::take(&mut self.undone);
        self.write_journal(decisions.div_ceil(MAX_LINES as u64));
    }

    fn write_journal(&mut self, objects: u64) {
        let Some(rates) = self.journal else { return };
        self.today().journal += objects;
        self.today().requests.put += objects;
        self.pay(objects, rates.put_1000);
    }

    fn check_term(&mut self, times: u64) {
        let Some(rates) = self.journal else { return };
        self.today().requests.get += times;
        self.pay(times, rates.get_1000);
    }

    fn shelve(&mut self) {
        let manifests = std::mem::take(&mut self.unshelved);
        if manifests == 0 {
            return;
        }
        self.check_term(self.stores.len() as u64);
        let prices: Vec<f64> = self.stores.iter().map(|(_, rates)| rates.put_1000 + rates.get_1000).collect();
        for price in prices {
            self.today().requests.put += manifests;
            self.today().requests.get += manifests;
            self.pay(manifests, price);
        }
    }

    fn pay(&mut self, times: u64, price_of_1000: f64) {
        self.today().costs += price_of_1000 * times as f64 / 1_000.0;
    }

    fn today(&mut self) -> &mut Upkeep {
        self.days.last_mut().expect("a day has begun")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two stores, the first with the journal.
    fn ledger() -> Ledger {
        let rates = Rates { put_1000: 1_000.0, get_1000: 100.0, list_1000: 10.0, ..Rates::default() };
        let prices = Prices { usual: rates, ..Prices::default() };
        let prices = ["a", "b"].map(|name| (name.to_owned(), prices.clone()));
        let mut ledger = Ledger::new(&Stores { prices: prices.into(), journal: Some("a".to_owned()) }, &[]);
        ledger.begin(0);
        ledger
    }

    #[test]
    fn what_has_to_be_on_record_has_objects_of_its_own() {
        let mut ledger = ledger();
        ledger.register(2);
        assert!(ledger.is_behind());
        ledger.pass(&PassDone { decided: 3, marked: 300, uploaded: 1, ..PassDone::default() });
        assert!(!ledger.is_behind());
        let day = ledger.finish()[0];
        // The manifests, what was decided, two lots of marks, and the copy.
        assert_eq!((day.manifests, day.journal), (2, 5));
        // Two manifests in two stores, and read back; the term for each store, each lot, and the upload.
        assert_eq!(day.requests, Requests { put: 5 + 4, get: 4 + 2 + 2 + 1, ..Requests::default() });
        assert!((day.costs - 9.9).abs() < 1e-9, "{}", day.costs);
    }

    #[test]
    fn what_goes_is_on_record_before_and_after() {
        let mut ledger = ledger();
        ledger.pass(&PassDone {
            decided: 1,
            littered: true,
            removed: 2_000,
            told: 2_000,
            ..PassDone::default()
        });
        let day = ledger.finish()[0];
        assert_eq!((day.journal, day.requests.get), (1 + 2, 2_000), "a thousand decisions in an object");
    }

    #[test]
    fn long_listings_come_in_pages() {
        let mut ledger = ledger();
        ledger.sweep(|store| if store == "a" { 2_001 } else { 0 });
        let day = ledger.finish()[0];
        assert_eq!((day.requests.list, day.costs), (3 + 1 + 1, 0.05));
    }

    #[test]
    fn without_stores_there_is_nothing_to_keep_up() {
        let mut ledger = Ledger::new(&Stores::default(), &[]);
        ledger.begin(0);
        ledger.sweep(|_| 0);
        ledger.register(1);
        ledger.pass(&PassDone { decided: 1, marked: 1, ..PassDone::default() });
        assert_eq!(ledger.finish(), [Upkeep { manifests: 1, ..Upkeep::default() }]);
    }
}
