//! Bytes of what is gone: objects, and local files.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::trouble::Trouble;
use super::{Round, Worker};
use crate::catalog::{End, Gone, View, What};
use crate::segment::{SegmentId, object_name};
use crate::store::Store;

impl Worker {
    /// Removes what decisions have left to be removed, of this pass or of one that was cut short.
    pub(super) fn clear_away(&mut self, round: &mut Round<'_>) -> Result<(), Trouble> {
        if !self.littered && self.replaced.is_empty() {
            return Ok(());
        }
        self.mirror(round);
        let view = self.catalog.view()?;
        let keeps = match Self::keeps_bytes(round, &view)? {
            None if !self.catalog.is_on_record()? => Some("the journal in the bucket is behind".to_owned()),
            keeps => keeps,
        };
        if let Some(reason) = keeps {
            round.wait(format!("bytes that may go wait: {reason}"));
            return Ok(());
        }
        let failed = round.pass.failed;
        self.littered = false;
        for gone in view.garbage()? {
            if gone.local {
                let removed = self.remove_local(round, &gone);
                self.settle(round, gone.id, "remove the local file of", removed);
            }
            for copy in &gone.copies {
                self.clear(round, &view, gone.id, &copy.store);
            }
        }
        for (id, store) in view.dropped_copies()? {
            self.clear(round, &view, id, &store);
        }
        for (id, store) in std::mem::take(&mut self.replaced) {
            let removed = self.remove_objects(round, &view, id, &store);
            if removed.is_err() {
                self.replaced.insert((id, store));
            }
            self.settle(round, id, "remove what was replaced of", removed);
        }
        let view = self.catalog.view()?;
        let waits = view.gone()?.any(|gone| gone.is_ok_and(|gone| gone.local || !gone.copies.is_empty()));
        self.littered = round.pass.failed > failed || waits || !view.dropped_copies()?.is_empty();
        Ok(())
    }

    /// Removes the objects of a segment from a store where it has none any more, and records that.
    fn clear(&mut self, round: &mut Round<'_>, view: &View, id: SegmentId, store: &str) {
        if !self.patience.may_try(id, round.moment.now) {
            self.littered = true;
            return;
        }
        let removed = self.remove_objects(round, view, id, store).and_then(|()| {
            Ok(self.catalog.cleared(id, Some(store), &round.because("its objects were deleted"))?)
        });
        self.settle(round, id, "delete the objects of", removed);
    }

    /// Removes every object that a store was ever given of a segment, but that of its copy there.
    fn remove_objects(
        &self,
        round: &mut Round<'_>,
        view: &View,
        id: SegmentId,
        store: &str,
    ) -> Result<(), Trouble> {
        let entry = view.segment(id)?;
        let copies = entry.iter().flat_map(|entry| &entry.segment.copies);
        let kept: Vec<String> =
            copies.filter(|copy| copy.store == store).map(|copy| copy.object(id)).collect();
        let mut objects = BTreeSet::new();
        for decision in view.history_of(id)? {
            match decision.what {
                What::Copied { store: to, class, .. } if to == store => {
                    objects.insert(object_name(id, class.as_deref()));
                }
                _ => {}
            }
        }
        let store = self.store(store)?;
        for object in objects.iter().filter(|object| !kept.contains(object)) {
            self.remove_object(round, store, object)?;
        }
        Ok(())
    }

    pub(super) fn remove_object(
        &self,
        round: &mut Round<'_>,
        store: &Store,
        object: &str,
    ) -> Result<(), Trouble> {
        self.catalog.check_term()?;
        self.waiting.wait(store.delete(object))?;
        round.pass.cleared += 1;
        Ok(())
    }

    /// Removes the rows of a segment that is gone from the disk. What is needed to know its batches again stays.
    fn remove_local(&mut self, round: &mut Round<'_>, gone: &Gone) -> Result<(), Trouble> {
        let path = self.file(gone.id);
        match gone.end {
            // The seal that split it has removed it, and knows it no more.
            End::Split { .. } => match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Trouble::File { path, source });
                }
                _ => {}
            },
            End::Deleted { .. } | End::Lost => {
                round.pass.dropped_bytes += self.sealer.drop_pages(gone.id)?;
            }
        }
        self.catalog.cleared(gone.id, None, &round.because("its local file was removed"))?;
        round.pass.cleared += 1;
        Ok(())
    }

    /// A bug that can be planted: the bytes go as soon as somebody wants it.
    pub(super) fn erase(&self, id: SegmentId) {
        for store in self.stores.values() {
            _ = self.waiting.wait(store.delete(&object_name(id, None)));
        }
        _ = self.sealer.drop_pages(id);
    }
}
