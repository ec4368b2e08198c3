//! Bytes of what is gone: objects, and local files.

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
        let lets_go = self.keeping.as_ref().is_some_and(|keeping| !keeping.let_go.is_empty());
        if !self.littered && self.replaced.is_empty() && !lets_go {
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
                self.clear(round, gone.id, &copy.store, Some(&copy.object(gone.id)));
            }
        }
        for (id, store) in view.dropped_copies()? {
            let object = last_object(&view, id, &store)?;
            self.clear(round, id, &store, object.as_deref());
        }
        for (id, store, object) in std::mem::take(&mut self.replaced) {
            let removed = self.remove_replaced(round, &view, id, &store, &object);
            if removed.is_err() {
                self.replaced.insert((id, store, object));
            }
            self.settle(round, id, "remove what was replaced of", removed);
        }
        let cleared = self.clear_snapshots(round);
        match cleared {
            Ok(()) => self.patience.succeeded_at("remove snapshots"),
            Err(trouble) => self.fail(round, None, "remove snapshots", &trouble),
        }
        let view = self.catalog.view()?;
        let waits = view.gone()?.any(|gone| gone.is_ok_and(|gone| gone.local || !gone.copies.is_empty()));
        self.littered = round.pass.failed > failed || waits || !view.dropped_copies()?.is_empty();
        Ok(())
    }

    /// Removes the object of a copy that is none any more, and records that. Where nobody knows its name, or another one of the
    /// same segment is left from before a crash, the sweep finds it.
    fn clear(&mut self, round: &mut Round<'_>, id: SegmentId, store: &str, object: Option<&str>) {
        if !self.patience.may_try(id, round.moment.now) {
            self.littered = true;
            return;
        }
        let removed = self.store(store).and_then(|place| match object {
            Some(object) => self.remove_object(round, place, object),
            None => Ok(()),
        });
        let removed = removed.and_then(|()| {
            Ok(self.catalog.cleared(id, Some(store), &round.because("its objects were deleted"))?)
        });
        self.settle(round, id, "delete the objects of", removed);
    }

    /// Removes the object of a copy in whose place there is another one; unless it has become that of the copy again.
    fn remove_replaced(
        &self,
        round: &mut Round<'_>,
        view: &View,
        id: SegmentId,
        store: &str,
        object: &str,
    ) -> Result<(), Trouble> {
        let entry = view.segment(id)?;
        let mut copies = entry.iter().flat_map(|entry| &entry.segment.copies);
        if copies.any(|copy| copy.store == store && copy.object(id) == object) {
            return Ok(());
        }
        self.remove_object(round, self.store(store)?, object)
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

/// The object that a store was given last of a segment.
fn last_object(view: &View, id: SegmentId, store: &str) -> Result<Option<String>, Trouble> {
    let decisions = view.history_of(id)?.into_iter().rev();
    let mut objects = decisions.filter_map(|decision| match decision.what {
        What::Copied { store: to, class, .. } if to == store => Some(object_name(id, class.as_deref())),
        _ => None,
    });
    Ok(objects.next())
}
