//! Random histories, with crashes and a bucket that comes and goes: the invariants hold, and a rebuild comes to the same.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use icecore_tier::catalog::{
    Applied, Catalog, Decision, Deletions, Entry, Found, Gone, NewManifest, Rebuild, Rebuilt, View, What, Why,
};
use icecore_tier::hold::{Hold, Scope};
use icecore_tier::journal::Bucket;
use icecore_tier::mutants::{Mutant, plant};
use icecore_tier::segment::SegmentId;

use crate::support::{DAY, Fault, Site, by_schema, id};

const SCHEMAS: [&str; 3] = ["heat", "flow", "vibration"];
const DEVICES: [&str; 3] = ["oslo/1", "oslo/2", "bergen/1"];

/// Everything that a rebuild has to come to again.
#[derive(Debug, PartialEq)]
struct Picture {
    live: Vec<Entry>,
    gone: Vec<Gone>,
    holds: Vec<Hold>,
    policies: Vec<Applied>,
    deletions: Deletions,
    dropped: Vec<(SegmentId, String)>,
}

fn picture(view: &View) -> Picture {
    Picture {
        live: view.segments().unwrap().collect::<Result<_, _>>().unwrap(),
        gone: view.gone().unwrap().collect::<Result<_, _>>().unwrap(),
        holds: view.holds().unwrap(),
        policies: view.all_policies().unwrap(),
        deletions: view.deletions().clone(),
        dropped: view.dropped_copies().unwrap(),
    }
}

/// A site and what it was told.
struct History {
    site: Site,
    rng: Rng,
    manifests: BTreeMap<u64, NewManifest>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self { site: Site::new(), rng: Rng::with_seed(seed), manifests: BTreeMap::new() }
    }

    fn any(&mut self) -> Option<Entry> {
        let live = picture(&self.site.catalog().view().unwrap()).live;
        (!live.is_empty()).then(|| live[self.rng.usize(..live.len())].clone())
    }

    fn content(&mut self) -> (&'static str, &'static str, u64) {
        (SCHEMAS[self.rng.usize(..3)], DEVICES[self.rng.usize(..3)], self.rng.u64(1..50))
    }

    fn seal(&mut self) {
        let segments: Vec<Vec<_>> = (0..self.rng.usize(1..4))
            .map(|_| (0..self.rng.usize(1..4)).map(|_| self.content()).collect())
            .collect();
        let segments: Vec<_> = segments.iter().map(Vec::as_slice).collect();
        let sealing = self.site.sealing(&segments);
        self.site.register(&sealing).unwrap();
        self.manifests.insert(sealing.number, sealing);
    }

    fn split(&mut self, of: SegmentId) {
        let contents = self.site.catalog().view().unwrap().contents(of).unwrap();
        let parts: Vec<_> = contents.iter().map(|part| [(&*part.schema, &*part.device, part.rows)]).collect();
        let parts: Vec<_> = parts.iter().map(<[_; 1]>::as_slice).collect();
        let sealing = self.site.splitting(of, &parts);
        self.site.register(&sealing).unwrap();
        self.manifests.insert(sealing.number, sealing);
    }

    /// One step, whatever comes of it: a refusal is an answer too.
    fn step(&mut self) {
        self.site.pass(self.rng.i64(1..DAY));
        let Some(entry) = self.any() else { return self.seal() };
        let segment = entry.segment.id;
        let site = &self.site;
        let (catalog, why) = (site.catalog(), site.why("by chance"));
        match self.rng.u8(..16) {
            0 | 1 => self.seal(),
            2 | 3 => site.copy(segment),
            4 if entry.segment.local => {
                let _ = catalog.drop_copy(segment, "archive", &why);
            }
            4 | 5 => drop(catalog.drop_local(segment, &why)),
            6 | 7 => drop(site.mark(segment, self.rng.i64(0..2 * DAY))),
            8 => drop(catalog.unmark(segment, &why)),
            9 | 10 => {
                for entry in picture(&catalog.view().unwrap()).live {
                    let _ = site.delete(entry.segment.id);
                }
            }
            11 => {
                let (schema, device, _) = self.content();
                let (schema, device) = (Some(schema.to_owned()), Some(device.to_owned()));
                let scope = Scope { schema, device, ..Scope::default() };
                self.site.catalog().hold_add(&scope, &why).unwrap();
            }
            12 => {
                let held = self.rng.u64(1..5);
                let _ = catalog.hold_remove(held, &why);
                catalog.apply_policies(&format!("# {held}"), &by_schema, &why).unwrap();
            }
            13 if entry.segment.local => self.split(segment),
            14 => {
                let faults = [Fault::Down, Fault::AnswerLost, Fault::CreateFails, Fault::None, Fault::None];
                site.bucket.set(faults[self.rng.usize(..5)]);
            }
            _ => {
                let _ = site.mirror();
                self.site.restart();
            }
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.site.bucket.set(Fault::None);
        self.site.mirror().unwrap();
    }

    /// What the data directory and the stores have: exactly what the catalog says.
    fn found(&self) -> Found {
        let picture = picture(&self.site.catalog().view().unwrap());
        let mut local = BTreeSet::new();
        let mut objects = BTreeMap::new();
        let live = picture.live.iter().map(|entry| {
            let segment = &entry.segment;
            (segment.id, segment.bytes, segment.local, &segment.copies)
        });
        let gone = picture.gone.iter().map(|gone| (gone.id, gone.bytes, gone.local, &gone.copies));
        for (id, bytes, is_local, copies) in live.chain(gone) {
            local.extend(is_local.then_some(id));
            objects.extend(copies.first().map(|_| (id, bytes)));
        }
        objects.extend(picture.dropped.iter().map(|(id, _)| (*id, 0)));
        let stores = BTreeMap::from([("archive".to_owned(), objects)]);
        Found { manifests: self.manifests.clone(), local, stores, ..Found::default() }
    }

    fn rebuild(&mut self, found: &Found) -> (Catalog, Rebuilt) {
        self.site.close();
        let why = Why { time: self.site.now(), ..self.site.why("the disk was lost") };
        let rebuild = Rebuild::begin(self.site.bucket(), [9; 16], why).unwrap();
        rebuild.build(self.site.data.path(), found, &by_schema).unwrap()
    }
}

/// Whether a rebuild after the history of this seed comes to the same catalog; and that history's decisions.
fn comes_to_the_same(seed: u64) -> (bool, Vec<Decision>) {
    let mut history = History::new(seed);
    history.run(100);
    let found = history.found();
    let view = history.site.catalog().view().unwrap();
    let (before, decisions) = (picture(&view), decisions(&view));
    drop(view);
    let (catalog, rebuilt) = history.rebuild(&found);
    let view = catalog.view().unwrap();
    assert_eq!(self::decisions(&view)[..decisions.len()], decisions, "seed {seed}");
    (rebuilt == Rebuilt::default() && picture(&view) == before, decisions)
}

fn decisions(view: &View) -> Vec<Decision> {
    view.history(..).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_rebuild_comes_to_the_same() {
    let (mut deleted, mut dropped, mut voided, mut split) = (0, 0, 0, 0);
    for seed in 0..8 {
        let (same, decisions) = comes_to_the_same(seed);
        assert!(same, "seed {seed}");
        for decision in decisions {
            match decision.what {
                What::Deleted { .. } => deleted += 1,
                What::LocalDropped { .. } => dropped += 1,
                What::Void { .. } => voided += 1,
                What::Registered { from, .. } if !from.is_empty() => split += 1,
                _ => {}
            }
        }
    }
    let all = [deleted, dropped, voided, split];
    assert!(all.iter().all(|&count| count > 0), "the histories are about something: {all:?}");
}

#[test]
fn a_rebuild_that_ignores_holds_is_noticed() {
    plant(Some(Mutant::RebuildIgnoresHolds));
    let same: Vec<_> = (0..4).map(|seed| comes_to_the_same(seed).0).collect();
    plant(None);
    assert!(same.contains(&false), "{same:?}");
}

/// A history with a hold on what is to be deleted.
fn held() -> (History, SegmentId) {
    let mut history = History::new(1);
    history.seal();
    let segment = id(0, 0);
    let site = &history.site;
    site.copy(segment);
    site.mark(segment, DAY).unwrap();
    site.catalog().hold_add(&Scope::default(), &site.why("case 17")).unwrap();
    site.mirror().unwrap();
    (history, segment)
}

#[test]
fn after_the_disk_is_lost_what_was_held_is_there_and_stays() {
    let (mut history, segment) = held();
    let mut found = history.found();
    found.local.clear();
    let (catalog, rebuilt) = history.rebuild(&found);
    assert_eq!(rebuilt.faults, Vec::<String>::new());
    let entry = catalog.view().unwrap().segment(segment).unwrap().unwrap();
    assert!(!entry.segment.local && !entry.missing && entry.holds == [1]);
    history.site.pass(30 * DAY);
    let error = catalog.delete(&[(segment, history.site.why("due"))]).unwrap_err().to_string();
    assert!(error.contains("hold 1 stands on it"), "{error}");
    let others: Vec<_> =
        picture(&catalog.view().unwrap()).live.into_iter().filter(|entry| entry.missing).collect();
    assert_eq!(others.len(), rebuilt.missing.len(), "what had no copy is missing, and said to be");
    assert!(history.site.data.path().join("catalog.old.redb").exists());
}

#[test]
fn a_journal_with_a_hole_keeps_deletions_off_until_somebody_confirms() {
    let (mut history, segment) = held();
    let journal = history.site.bucket.list("journal/").unwrap();
    history.site.bucket.tamper(&journal[1], None);
    let found = history.found();
    let (catalog, rebuilt) = history.rebuild(&found);
    assert!(rebuilt.faults[0].contains("before it are not there"), "{rebuilt:?}");
    let why = history.site.why("checked by hand");
    let holds = catalog.view().unwrap().holds().unwrap();
    assert_eq!(holds.len(), 1, "what is behind the hole counts");
    let error = catalog.mark(&[(segment, i64::MAX, why.clone())]).unwrap_err().to_string();
    assert!(error.contains("the journal was not read whole"), "{error}");
    catalog.deletions_on(&why).unwrap();
    catalog.mark(&[(segment, i64::MAX, why)]).unwrap();
}

#[test]
fn a_listing_that_lags_behind_hides_nothing() {
    let (mut history, segment) = held();
    let found = history.found();
    history.site.bucket.set(Fault::ListsLate);
    let (catalog, rebuilt) = history.rebuild(&found);
    assert_eq!(rebuilt, Rebuilt::default());
    assert_eq!(catalog.view().unwrap().segment(segment).unwrap().unwrap().holds, [1]);
}

#[test]
fn an_edited_line_is_noticed_by_a_rebuild() {
    let (mut history, _) = held();
    let journal = history.site.bucket.list("journal/").unwrap();
    let text = String::from_utf8(history.site.bucket.get(&journal[0]).unwrap()).unwrap();
    let edited = text.replacen("by chance", "by design", 1).replacen("sealed\"", "placed\"", 1);
    assert_ne!(edited, text);
    history.site.bucket.tamper(&journal[0], Some(edited.into_bytes()));
    let found = history.found();
    let (_, rebuilt) = history.rebuild(&found);
    assert!(rebuilt.faults[0].contains("its checksum does not fit"), "{rebuilt:?}");
}

#[test]
fn what_a_superseded_machine_writes_does_not_count() {
    let (mut history, segment) = held();
    let found = history.found();
    // The machine before is only cut off; it does not know yet that another one took over.
    let elsewhere = tempfile::tempdir().unwrap();
    let why = history.site.why("takeover");
    let rebuild = Rebuild::begin(history.site.bucket(), [9; 16], why.clone()).unwrap();
    let (catalog, _) = rebuild.build(elsewhere.path(), &found, &by_schema).unwrap();
    catalog.mirror("new", history.site.now()).unwrap();
    history.seal();
    history.site.mirror().unwrap();
    assert!(history.site.catalog().hold_remove(1, &why).is_err(), "what is destructive is refused");
    drop(catalog);

    let rebuild = Rebuild::begin(history.site.bucket(), [10; 16], why).unwrap();
    assert_eq!(rebuild.faults(), Vec::<String>::new());
    let third = tempfile::tempdir().unwrap();
    let (catalog, rebuilt) = rebuild.build(third.path(), &found, &by_schema).unwrap();
    assert_eq!(rebuilt, Rebuilt::default());
    assert_eq!(catalog.view().unwrap().segment(segment).unwrap().unwrap().holds, [1]);
}

#[test]
fn without_a_bucket_what_is_local_is_rebuilt() {
    let mut history = History::new(3);
    history.seal();
    history.split(id(0, 0));
    history.site.catalog().identities("{}\n", &history.site.why("enrolled")).unwrap();
    let found = history.found();
    history.site.close();
    let rebuild = Rebuild::begin(None, [9; 16], history.site.why("lost")).unwrap();
    assert_eq!(rebuild.policies(), None);
    assert_eq!(rebuild.identities().count(), 0);
    let (catalog, rebuilt) = rebuild.build(history.site.data.path(), &found, &by_schema).unwrap();
    assert_eq!(rebuilt.faults, ["there is no bucket whose journal could be read"]);
    assert!(matches!(catalog.view().unwrap().deletions(), Deletions::Off { .. }));
    assert_eq!(rebuilt.missing, []);
}

#[test]
fn a_split_whose_manifest_was_lost_with_the_disk_never_happened() {
    let mut history = History::new(4);
    history.seal();
    history.site.copy(id(0, 0));
    history.split(id(0, 0));
    history.seal();
    history.site.mirror().unwrap();
    let mut found = history.found();
    found.local.clear();
    found.manifests.retain(|&number, _| number == 0);
    let (catalog, rebuilt) = history.rebuild(&found);
    let view = catalog.view().unwrap();
    assert!(view.segment(id(0, 0)).unwrap().is_some(), "its copy still stands");
    let lost = view.explain(id(2, 0)).unwrap().standing;
    assert!(lost.contains("was lost together with its manifest"), "{lost}");
    assert_eq!(rebuilt.skipped, []);
}
