//! What is decided before bytes move: marks, deletions, and that a local file or a copy may go.

use super::trouble::Trouble;
use super::{Round, Worker};
use crate::catalog::{CatalogError, Why};
use crate::journal::TOGETHER;
use crate::mutants::{Mutant, planted};
use crate::plan::{Action, Kind, Plan};
use crate::segment::SegmentId;

impl Worker {
    /// Carries out what the plan decides, and drops local files.
    pub(super) fn decide(&mut self, round: &mut Round<'_>, plan: &Plan) -> Result<(), Trouble> {
        let keeps = Self::keeps_bytes(round, &self.catalog.view()?)?;
        let now = round.moment.now;
        let actions = plan.actions.iter().filter(|action| self.patience.may_try(action.segment, now));
        let actions: Vec<&Action> = actions.collect();
        let (mut marks, mut deletions) = (Vec::new(), Vec::new());
        for action in actions {
            match (&action.kind, &keeps) {
                (Kind::Mark { .. } | Kind::Delete, Some(reason)) => {
                    round.wait(format!("segment {}: to {} waits: {reason}", action.segment, action.kind));
                }
                (Kind::Mark { due }, None) => marks.push((action, *due)),
                (Kind::Delete, None) => deletions.push(action),
                (Kind::Unmark, _) => {
                    let unmarked = self.catalog.unmark(action.segment, &round.why(action));
                    round.pass.unmarked += u64::from(unmarked.is_ok());
                    self.settle(round, action.segment, "take the mark from", unmarked.map_err(Into::into));
                }
                (Kind::DropLocal, _) => {
                    let dropped = self.drop_local(round, action);
                    self.settle(round, action.segment, "drop the local file of", dropped);
                }
                (Kind::DropCopy(from), _) => {
                    let dropped = self.catalog.drop_copy(action.segment, &from.store, &round.why(action));
                    round.pass.dropped_copies += u64::from(dropped.is_ok());
                    self.littered |= dropped.is_ok();
                    self.settle(round, action.segment, "drop a copy of", dropped.map_err(Into::into));
                }
                (Kind::Upload(_) | Kind::Split, _) => {}
            }
        }
        self.mark(round, &marks);
        self.delete(round, &deletions);
        if keeps.is_none() {
            self.let_go_of_snapshots(round, plan)?;
        }
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        round: &mut Round<'_>,
        segment: SegmentId,
        doing: &str,
        result: Result<(), Trouble>,
    ) {
        match result {
            Ok(()) => self.patience.succeeded(segment),
            Err(trouble) => self.fail(round, Some(segment), doing, &trouble),
        }
    }

    /// First the decision, which the catalog takes only with a copy on record; then the file.
    fn drop_local(&mut self, round: &mut Round<'_>, action: &Action) -> Result<(), Trouble> {
        let id = action.segment;
        if planted(Mutant::FileBeforeDecision) {
            self.sealer.drop_pages(id)?;
        }
        self.catalog.drop_local(id, &round.why(action))?;
        round.pass.dropped_bytes += self.sealer.drop_pages(id)?;
        round.pass.dropped += 1;
        Ok(())
    }

    fn mark(&mut self, round: &mut Round<'_>, marks: &[(&Action, i64)]) {
        let mark = |(action, due): &(&Action, i64)| (action.segment, *due, round.why(action));
        let marks: Vec<_> = marks.iter().map(mark).collect();
        let marked = self.together(
            round,
            "mark",
            &marks,
            |mark| mark.0,
            |worker, marks| {
                worker.catalog.mark(marks)?;
                if planted(Mutant::DeleteAtMark) {
                    for (id, ..) in marks {
                        worker.erase(*id);
                    }
                }
                Ok(())
            },
        );
        round.pass.marked += marked.len() as u64;
    }

    fn delete(&mut self, round: &mut Round<'_>, deletions: &[&Action]) {
        let deletion = |action: &&Action| (action.segment, round.why(action), action.bytes);
        let deletions: Vec<(SegmentId, Why, u64)> = deletions.iter().map(deletion).collect();
        let deleted = self.together(
            round,
            "delete",
            &deletions,
            |deletion| deletion.0,
            |worker, deletions| {
                let segments: Vec<_> = deletions.iter().map(|(id, why, _)| (*id, why.clone())).collect();
                worker.catalog.delete(&segments)
            },
        );
        round.pass.deleted += deleted.len() as u64;
        round.pass.deleted_bytes += deleted.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        // Also where it is not known to be on record: it takes effect when it is.
        self.littered |= !deletions.is_empty();
        if !deletions.is_empty() {
            self.deleted_to = None;
        }
    }

    /// Decides many things at once, or each on its own where one of them is not allowed. Returns what was decided.
    fn together<D: Clone>(
        &mut self,
        round: &mut Round<'_>,
        doing: &str,
        all: &[D],
        of: impl Fn(&D) -> SegmentId,
        decide: impl Fn(&Self, &[D]) -> Result<(), CatalogError>,
    ) -> Vec<D> {
        let all_at_once = format!("{doing} segments");
        let mut decided = Vec::new();
        for some in all.chunks(TOGETHER) {
            let trouble = match decide(self, some) {
                Ok(()) => {
                    self.patience.succeeded_at(&all_at_once);
                    some.iter().for_each(|one| self.patience.succeeded(of(one)));
                    decided.extend_from_slice(some);
                    continue;
                }
                Err(error) => Trouble::from(error),
            };
            if trouble.is_journal() {
                self.fail(round, None, &all_at_once, &trouble);
                return decided;
            }
            for one in some {
                match decide(self, std::slice::from_ref(one)) {
                    Ok(()) => decided.push(one.clone()),
                    Err(error) => self.fail(round, Some(of(one)), doing, &error.into()),
                }
            }
        }
        decided
    }
}
