//! The sweep: stores and data directory, compared with the catalog.
//!
//! It finds what a crash has left between two steps: objects that were uploaded and never recorded, uploads that nobody goes on
//! with, local files that were to go. What belongs to a segment that the catalog does not know is left alone and told.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::copies::verify;
use super::trouble::Trouble;
use super::{Round, Worker};
use crate::catalog::{End, View};
use crate::plan::{Kind, Plan};
use crate::segment::{SegmentId, object_name, parse_object};
use crate::store::Listed;

/// How often stores and data directory are compared with the catalog.
const EVERY: i64 = 3_600 * 1_000_000_000;

/// When a sweep that failed is tried again.
const AGAIN: i64 = 300 * 1_000_000_000;

/// Objects that one sweep removes at most from a store; the next one goes on.
const MAX_REMOVED: usize = 10_000;

impl Worker {
    /// Sweeps what is due to be swept; at the start that is everything.
    pub(super) fn sweep(&mut self, round: &mut Round<'_>, plan: &Plan) -> Result<(), Trouble> {
        let view = self.catalog.view()?;
        if self.is_due(None, round) {
            let swept = self.sweep_local(round, &view);
            self.have_swept(None, round, "sweep the data directory", swept);
        }
        for name in self.stores.keys().cloned().collect::<Vec<_>>() {
            let safe = Self::keeps_bytes(round, &view)?.is_none() && self.catalog.is_on_record()?;
            if safe && self.is_due(Some(&name), round) {
                let swept = self.sweep_store(round, &view, plan, &name);
                self.have_swept(Some(&name), round, &format!("sweep store `{name}`"), swept);
            }
        }
        Ok(())
    }

    fn is_due(&self, what: Option<&str>, round: &Round<'_>) -> bool {
        let swept = self.swept.get(&what.map(str::to_owned));
        swept.is_none_or(|&swept| !(swept..swept.saturating_add(EVERY)).contains(&round.moment.now))
    }

    fn have_swept(
        &mut self,
        what: Option<&str>,
        round: &mut Round<'_>,
        doing: &str,
        swept: Result<(), Trouble>,
    ) {
        let mut instant = round.moment.now;
        match swept {
            Ok(()) => self.patience.succeeded_at(doing),
            Err(trouble) => {
                self.fail(round, None, doing, &trouble);
                instant = instant.saturating_add(AGAIN - EVERY);
            }
        }
        self.swept.insert(what.map(str::to_owned), instant);
    }

    fn sweep_store(
        &mut self,
        round: &mut Round<'_>,
        view: &View,
        plan: &Plan,
        name: &str,
    ) -> Result<(), Trouble> {
        let store = self.store(name)?.clone();
        let wanted = plan.actions.iter().filter_map(|action| match &action.kind {
            Kind::Upload(to) if to.store == name => Some((action.segment, to.class.clone())),
            _ => None,
        });
        let wanted: BTreeSet<(SegmentId, Option<String>)> = wanted.collect();
        for upload in view.uploads()?.into_iter().filter(|upload| upload.store == name) {
            if !wanted.iter().any(|(id, class)| object_name(*id, class.as_deref()) == upload.parts.object) {
                self.waiting.wait(store.abort(&upload.parts))?;
                self.catalog.upload_ended(upload.segment, name)?;
                round.pass.cleared += 1;
            }
        }
        // Others than this worker write elsewhere.
        for under in ["segments", "manifests", "snapshots"] {
            round.pass.cleared += store.remove_unfinished(under)?;
        }
        let mut strays = Vec::new();
        let mut failed = None;
        self.waiting.wait(store.list("segments", |object| {
            let judged = judge(view, name, &object, &wanted);
            match judged {
                Ok(Some(_)) if strays.len() == MAX_REMOVED => {}
                Ok(Some(stray)) => strays.push((object.path, stray)),
                Ok(None) => {}
                Err(trouble) => failed = Some(trouble),
            }
        }))?;
        failed.map_or(Ok(()), Err)?;
        self.sweep_snapshots(round, view, name)?;
        let placing = format!("say what there is in store `{name}`");
        if strays.iter().all(|(_, stray)| matches!(stray, Stray::Garbage)) {
            self.patience.succeeded_at(&placing);
        }
        for (object, stray) in strays {
            match stray {
                Stray::Garbage => self.remove_object(round, &store, &object)?,
                Stray::Strange(what) => {
                    self.fail(round, None, &placing, &Trouble::Stray { object, what });
                }
            }
        }
        Ok(())
    }

    fn sweep_local(&mut self, round: &mut Round<'_>, view: &View) -> Result<(), Trouble> {
        match fs::remove_dir_all(self.transit()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Trouble::File { path: self.transit(), source });
            }
            _ => {}
        }
        self.sweep_local_snapshots(round, view)?;
        let directory = self.data.join("sealed");
        let failed = |source| Trouble::File { path: directory.clone(), source };
        for file in fs::read_dir(&directory).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".ice")?.parse::<SegmentId>().ok());
            let Some(id) = id else { continue };
            match (view.segment(id)?, view.tombstone(id)?) {
                (Some(entry), _) if entry.segment.local => {}
                (Some(entry), _) if entry.missing => match verify(&self.file(id), entry.segment.root) {
                    Ok(()) => {
                        let why = round.because("its file is in the data directory again");
                        self.catalog.local_found(id, &why)?;
                    }
                    Err(trouble) => self.fail(round, Some(id), "read", &trouble),
                },
                (Some(_), _) => {
                    round.pass.dropped_bytes += self.sealer.drop_pages(id)?;
                    round.pass.cleared += 1;
                }
                (None, Some(gone)) if !gone.local && !matches!(gone.end, End::Split { .. }) => {
                    self.sealer.drop_pages(id)?;
                    round.pass.cleared += 1;
                }
                // What has yet to be removed is, and what is new is registered in the next pass.
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// An object that is no copy.
enum Stray {
    Garbage,
    Strange(&'static str),
}

/// What an object is, if it is no copy and no upload that is gone on with.
fn judge(
    view: &View,
    store: &str,
    object: &Listed,
    wanted: &BTreeSet<(SegmentId, Option<String>)>,
) -> Result<Option<Stray>, Trouble> {
    let strange = |what| Ok(Some(Stray::Strange(what)));
    let Some((id, class)) = parse_object(&object.path) else {
        return strange("this is no name of a segment's object");
    };
    if let Some(entry) = view.segment(id)? {
        let is_copy = |copy: &&crate::segment::Copy| copy.store == store && copy.class.as_deref() == class;
        return match entry.segment.copies.iter().find(is_copy) {
            Some(_) if object.bytes == entry.segment.bytes => Ok(None),
            Some(_) => strange("this copy has another size than the segment"),
            None if wanted.contains(&(id, class.map(str::to_owned))) || entry.missing => Ok(None),
            None => Ok(Some(Stray::Garbage)),
        };
    }
    match view.tombstone(id)? {
        Some(gone) if gone.copies.iter().any(|copy| copy.store == store) => Ok(None), // removed in its turn
        Some(gone) if matches!(gone.end, End::Lost) => strange("this segment was lost with its manifest"),
        Some(_) => Ok(Some(Stray::Garbage)),
        None => strange("no manifest that is known names this segment"),
    }
}
