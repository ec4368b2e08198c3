//! The worker: does what the plan says, and nothing else moves data.
//!
//! A [`Worker`] makes one [pass](Worker::pass) after the other: it takes in new manifests, plans, and carries the plan out. It
//! waits for what stores answer, so it is for a thread of its own.
//!
//! What makes it safe to be killed anywhere is the order of things, and that every step may be done twice:
//!
//! - A copy is uploaded, read back and compared, and only then recorded. The manifest is there before it.
//! - A local file, or a copy, goes after the decision that it may, and that is made only where another copy is on record. What a
//!   crash leaves in between is found by what the catalog says, or by the sweep.
//! - A deletion is on record before it takes effect, and objects go after that. They go only while all decisions are in the
//!   journal, deletions are on, the clock is trusted, and the term is still ours.
//! - A snapshot of the state is written here, uploaded, read back and compared, and only then recorded; what is deleted needs one that
//!   is recorded and goes past it.
//! - The sweep compares the listings of stores and of the data directory with the catalog, and removes only what belongs to
//!   segments that the catalog knows.

mod copies;
mod decisions;
mod intake;
mod metrics;
mod outlook;
mod pass;
mod patience;
mod removal;
mod snapshots;
mod split;
mod sweep;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::Sealer;

pub use self::intake::contents;
use self::metrics::Metrics;
pub use self::outlook::Outlook;
use self::pass::Round;
pub use self::pass::{Failure, Pass};
use self::patience::Patience;
use self::snapshots::Keeping;
pub use self::snapshots::{SavedFile, State};
use self::trouble::Trouble;
use crate::catalog::{Applied, Catalog, Deletions, View};
use crate::elsewhere::Elsewhere;
use crate::plan::{Books, Moment, Plan};
use crate::policy::{Labels, PolicySet};
use crate::segment::SegmentId;
use crate::store::{Store, Waiting};

/// Tells the labels that a device had at a time, in nanoseconds since the Unix epoch.
pub type LabelsAt<'l> = dyn Fn(&str, i64) -> &'l Labels + 'l;

/// What a pass is told of the world.
#[derive(Clone)]
pub struct Circumstances<'a> {
    /// Clock, disk and the time for deletions. Which stores are unreachable, the worker adds itself.
    pub moment: Moment,
    /// Bytes of the disk that ingestion leaves free: when no more than these are, it stops.
    pub reserve: u64,
    /// Bytes that ingestion has written to the disk so far, since whenever.
    pub written: u64,
    /// The labels of devices, at receipt.
    pub labels: &'a LabelsAt<'a>,
}

/// The policies that apply at the beginning of a pass. An operator may replace them in the midst of it.
struct InForce {
    version: u64,
    policies: PolicySet,
}

/// Carries out plans. It keeps nothing that it could not find again after a crash, except its patience.
pub struct Worker {
    catalog: Arc<Catalog>,
    stores: BTreeMap<String, Store>,
    sealer: Sealer,
    data: PathBuf,
    waiting: Waiting,
    patience: Patience,
    outlook: Outlook,
    metrics: Metrics,
    /// By store, the manifests below this number are there.
    shelved: BTreeMap<String, u64>,
    /// Stores, and the data directory, that were compared with the catalog lately, and when.
    swept: BTreeMap<Option<String>, i64>,
    /// What another copy in the same store has replaced: segment, store, and object.
    replaced: BTreeSet<(SegmentId, String, String)>,
    /// There may be bytes of what is gone.
    littered: bool,
    /// Snapshots of the state that are kept, if any are.
    keeping: Option<Keeping>,
    /// The position behind everything that was deleted, where that is known.
    deleted_to: Option<u64>,
    /// For how many hours the disk lasts, as it was told last since a store is left alone.
    told: Option<Option<f64>>,
}

impl Worker {
    /// A worker for the data directory `data`, whose log `sealer` is of. `waiting` has to be that of the catalog's bucket: a
    /// store's connections belong to one of them.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        stores: impl IntoIterator<Item = Store>,
        sealer: &Sealer,
        data: &Path,
        waiting: Waiting,
    ) -> Self {
        let stores: BTreeMap<String, Store> =
            stores.into_iter().map(|store| (store.name().to_owned(), store)).collect();
        let elsewhere = {
            let catalog = Arc::clone(&catalog);
            Elsewhere::new(move || catalog.view(), stores.values().cloned(), waiting.clone())
        };
        Self {
            sealer: sealer.clone().with_elsewhere(Arc::new(elsewhere).resolver()),
            catalog,
            stores,
            data: data.to_owned(),
            waiting,
            patience: Patience::default(),
            outlook: Outlook::default(),
            metrics: Metrics::new(),
            shelved: BTreeMap::new(),
            swept: BTreeMap::new(),
            replaced: BTreeSet::new(),
            littered: true,
            keeping: None,
            deleted_to: None,
            told: None,
        }
    }

    /// Does what is to be done now, as far as one pass goes: a gigabyte of uploads at most, so that what is urgent does not
    /// wait for them. [`Pass::is_quiet`] says whether there is more.
    pub fn pass(&mut self, circumstances: &Circumstances<'_>) -> Pass {
        let Circumstances { moment, written, reserve, .. } = circumstances;
        self.outlook.note(moment.now, *written);
        let requests = |stores: &BTreeMap<String, Store>| stores.values().map(Store::requests).sum::<u64>();
        let before = requests(&self.stores);
        let mut round = Round::new(circumstances);
        match self.try_pass(&mut round) {
            Ok(()) => self.patience.succeeded_at("go on"),
            Err(trouble) => self.fail(&mut round, None, "go on", &trouble),
        }
        let mut pass = round.pass;
        pass.requests = requests(&self.stores) - before;
        pass.resting = self.resting();
        pass.hours_left = self.outlook.hours_left(moment.free.saturating_sub(*reserve));
        self.metrics.tell(&pass, &self.stores);
        self.tell_of_stores(&pass);
        pass
    }

    /// Tells when stores begin to be left alone, for how long the disk can wait for them, and again whenever that has halved.
    fn tell_of_stores(&mut self, pass: &Pass) {
        let Pass { resting, hours_left, .. } = pass;
        if resting.is_empty() {
            if self.told.take().is_some() {
                // What failed meanwhile did not do so by its own fault.
                self.patience.forgive();
            }
            return;
        }
        let is_news = match (self.told, *hours_left) {
            (None, _) | (Some(None), Some(_)) => true,
            (Some(Some(told)), Some(hours)) => hours < told / 2.0,
            (Some(_), None) => false,
        };
        if !is_news {
            return;
        }
        self.told = Some(*hours_left);
        let stores = resting.join(", ");
        match hours_left {
            Some(hours) => {
                let hours_left = format!("{hours:.1}");
                tracing::warn!(stores, hours_left, "data stays on this disk for now, which fills");
            }
            None => tracing::warn!(stores, "data stays on this disk for now"),
        }
    }

    fn try_pass(&mut self, round: &mut Round<'_>) -> Result<(), Trouble> {
        let Some(in_force) = self.in_force()? else {
            round.pass.waits.push("no policies apply yet".to_owned());
            return Ok(());
        };
        let policies = &in_force.policies;
        self.take_in(round, &in_force)?;
        self.mirror(round);
        self.shelve(round);
        let plan = self.plan(round, policies)?;
        self.sweep(round, &plan)?;
        self.decide(round, &plan)?;
        self.clear_away(round)?;
        self.keep_snapshot(round, &plan);
        self.copy(round, &plan)?;
        if self.split(round, &plan, policies)? {
            self.take_in(round, &in_force)?;
        }
        self.mirror(round);
        Ok(())
    }

    /// The policies that apply, by the catalog.
    fn in_force(&self) -> Result<Option<InForce>, Trouble> {
        let Some(Applied { version, text, .. }) = self.catalog.view()?.policies()? else { return Ok(None) };
        let policies = PolicySet::parse(&format!("policies {version}"), &text)?;
        Ok(Some(InForce { version, policies }))
    }

    fn plan(&mut self, round: &mut Round<'_>, policies: &PolicySet) -> Result<Plan, Trouble> {
        let view = self.catalog.view()?;
        let mut books =
            Books::new(policies).rolled_up_to(view.rolled_up()?.map_or(0, |rolled_up| rolled_up.position));
        for entry in view.segments()? {
            let entry = entry?;
            if let Err(unknown) = books.add(&entry.segment, !entry.holds.is_empty()) {
                self.fail(round, Some(entry.segment.id), "plan", &unknown.into());
            }
        }
        books.keep_snapshots(view.snapshots()?, self.deleted_to(&view)?);
        let mut moment = round.moment.clone();
        moment.unreachable.extend(self.resting());
        moment.saved = self.saved(round);
        let plan = books.plan(&moment);
        for (segment, _) in &plan.unrolled {
            round.wait(format!("segment {segment}: to mark for deletion waits: it is not rolled up yet"));
        }
        Ok(plan)
    }

    /// Writes the journal on. Without it nothing is deleted, but everything else goes on.
    fn mirror(&mut self, round: &mut Round<'_>) {
        match self.catalog.mirror("worker", round.moment.now) {
            Ok(()) => self.patience.succeeded_at("write the journal"),
            Err(error) => self.fail(round, None, "write the journal", &error.into()),
        }
    }

    /// The stores that are left alone for now.
    fn resting(&self) -> Vec<String> {
        let resting = self.stores.values().filter(|store| !store.is_healthy());
        resting.map(|store| store.name().to_owned()).collect()
    }

    fn store(&self, name: &str) -> Result<&Store, Trouble> {
        self.stores.get(name).ok_or_else(|| Trouble::NoStore { store: name.to_owned() })
    }

    /// Why no bytes may be removed now, if they may not. What is still to be removed waits.
    fn keeps_bytes(round: &Round<'_>, view: &View) -> Result<Option<String>, Trouble> {
        if let Deletions::Off { reason } = view.deletions() {
            return Ok(Some(format!("deletions are off: {reason}")));
        }
        Ok(round.moment.suspended.clone())
    }

    fn fail(&mut self, round: &mut Round<'_>, segment: Option<SegmentId>, doing: &str, trouble: &Trouble) {
        let first = match segment {
            Some(segment) => self.patience.failed(segment, round.moment.now),
            None => self.patience.failed_at(doing),
        };
        self.metrics.failed(trouble.kind());
        round.fail(segment, doing, trouble, first);
    }
}

/// It may be given to a thread.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Worker>();
};

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("data", &self.data)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}
