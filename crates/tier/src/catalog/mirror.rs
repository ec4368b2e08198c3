//! Decisions on their way into the journal, and those that wait for it.
//!
//! The history is the queue: what has a number from `mirrored` on is not in the journal yet. A decision that takes something
//! away is appended to the history first, as pending; then it goes to the journal; then it takes effect. After a crash in
//! between it is written again under the same name, which comes to the same. If a hold or an undo came in between, it is voided
//! instead of taking effect, and the journal says that too.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::decision::{Decision, What, Why};
use super::effect::Beside;
use super::error::CatalogError;
use super::rows::Tables;
use super::{Catalog, carry_out, next};
use crate::journal::{self, Bucket, BucketError, JournalError, Line, MAX_LINES, Term};
use crate::mutants::{Mutant, planted};

/// A decision that got on record but never took effect, and why.
type Voided = (u64, String);

impl Catalog {
    /// Writes decisions that are not in the journal yet to it, and lets those take effect that waited for it. `by` and `time`
    /// (nanoseconds since the Unix epoch) go on record when the bucket is written to for the first time. Without a bucket there is
    /// nothing to do.
    ///
    /// # Errors
    /// When the bucket does not answer, then what is left is written the next time; or when it belongs to another catalog.
    pub fn mirror(&self, by: &str, time: i64) -> Result<(), CatalogError> {
        let Some(bucket) = self.bucket.as_deref() else { return Ok(()) };
        let _alone = self.journalling();
        self.mirror_all(bucket, by, time).map(drop)
    }

    /// Checks that no other machine took the bucket over: before every upload, and before the bytes of a segment go whose deletion
    /// was decided. Without a bucket there is nothing to check.
    ///
    /// # Errors
    /// When one did, or the bucket does not answer; then nothing may be written to it.
    pub fn check_term(&self) -> Result<(), CatalogError> {
        let Some(bucket) = self.bucket.as_deref() else { return Ok(()) };
        match self.view()?.state().term {
            Some(number) => Ok(Term { number }.check(bucket)?),
            None => Err(CatalogError::Refused {
                about: "bucket".to_owned(),
                what: "this catalog has no term in it yet; mirror the journal first".to_owned(),
            }),
        }
    }

    fn journalling(&self) -> MutexGuard<'_, ()> {
        // It guards an order of steps; whoever panicked left a state that the next one goes on from.
        self.journalling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decisions that are in the journal before they take effect: all of them or none.
    pub(super) fn decide_on_record(&self, decisions: Vec<(Why, What)>) -> Result<(), CatalogError> {
        let Some((Why { time, by, .. }, _)) = decisions.first().cloned() else { return Ok(()) };
        if decisions.len() > MAX_LINES {
            let what = format!("{} at once are more than {MAX_LINES}", decisions.len());
            return Err(CatalogError::Refused { about: "decisions".to_owned(), what });
        }
        let Some(bucket) = self.bucket.as_deref().filter(|_| !planted(Mutant::EffectBeforeJournal)) else {
            return self.transact(|tables| try_out(tables, decisions));
        };
        let _alone = self.journalling();
        self.mirror_all(bucket, &by, time)?;
        self.check_term()?;
        self.rehearse(decisions.clone())?;
        let waiting = self.transact(|tables| {
            let first = tables.next_decision()?;
            for (why, what) in decisions {
                let decision = next(tables, &why, what)?;
                tables.append(&decision)?;
            }
            tables.state.pending = first..tables.next_decision()?;
            Ok(tables.state.pending.clone())
        })?;
        let voided = self.mirror_all(bucket, &by, time).map_err(|error| match error {
            CatalogError::Journal(source) => CatalogError::InDoubt { decision: waiting.start, source },
            error => error,
        })?;
        match voided.into_iter().find(|(decision, _)| waiting.contains(decision)) {
            Some((decision, reason)) => Err(CatalogError::Voided { decision, reason }),
            None => Ok(()),
        }
    }

    /// Whether these decisions would be allowed; nothing comes of it.
    fn rehearse(&self, decisions: Vec<(Why, What)>) -> Result<(), CatalogError> {
        let txn = self.begin()?;
        let mut tables = Tables::open(&txn, self.fresh)?;
        try_out(&mut tables, decisions)?;
        drop(tables);
        Ok(txn.abort()?)
    }

    fn mirror_all(&self, bucket: &dyn Bucket, by: &str, time: i64) -> Result<Vec<Voided>, CatalogError> {
        let term = self.term(bucket, by, time)?;
        let mut voided = self.take_effect(time)?;
        loop {
            let view = self.view()?;
            let (mirrored, head) = (view.state().mirrored, view.state().head);
            let batch = next_batch(mirrored, &view.state().pending);
            let batch: Vec<Decision> = view.history(batch)?.take(MAX_LINES).collect::<Result<_, _>>()?;
            drop(view);
            if batch.is_empty() {
                return Ok(voided);
            }
            let name = journal::object(term.number, mirrored);
            let lines = put(bucket, &name, head, &batch)?;
            self.transact(|tables| {
                tables.state.mirrored += lines.len() as u64;
                tables.state.head = lines.last().map_or(head, |(_, hash)| *hash);
                Ok(())
            })?;
            voided.extend(self.take_effect(time)?);
        }
    }

    /// The term of this catalog, taken if it has none. What is mounted where the bucket was may be another one: this is looked at
    /// once.
    fn term(&self, bucket: &dyn Bucket, by: &str, time: i64) -> Result<Term, CatalogError> {
        let state = self.view()?.state().clone();
        if let Some(number) = state.term {
            let term = Term { number };
            if !self.recognised.load(Ordering::Relaxed) {
                term.recognise(bucket, state.catalog)?;
                self.recognised.store(true, Ordering::Relaxed);
            }
            return Ok(term);
        }
        let term = Term::first(bucket, state.catalog, by, time)?;
        let reason = "the journal in the bucket begins".to_owned();
        let why = Why { time, by: by.to_owned(), policy: None, reason };
        self.decide(&why, What::TermTaken { term: term.number }, Beside::default())?;
        Ok(term)
    }

    /// Lets what the journal has take effect, or voids it if that is not allowed any more.
    fn take_effect(&self, time: i64) -> Result<Vec<Voided>, CatalogError> {
        let mut voided = Vec::new();
        loop {
            let state = self.view()?.state().clone();
            let number = state.pending.start;
            if state.pending.is_empty() || number >= state.mirrored {
                return Ok(voided);
            }
            let taken = self.transact(|tables| {
                let decision = recorded(tables, number)?;
                carry_out(tables, &decision, Beside::default())?;
                tables.state.pending.start += 1;
                Ok(())
            });
            match taken {
                Ok(()) => {}
                Err(error) if error.is_refusal() => {
                    self.void(number, &error, time)?;
                    voided.push((number, error.reason()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn void(&self, number: u64, error: &CatalogError, time: i64) -> Result<(), CatalogError> {
        self.transact(|tables| {
            let segment = recorded(tables, number)?.what.segments().first().copied();
            let why = Why { time, by: "catalog".to_owned(), policy: None, reason: error.reason() };
            let decision = next(tables, &why, What::Void { decision: number, segment })?;
            tables.append(&decision)?;
            tables.state.pending.start += 1;
            Ok(())
        })
    }
}

/// The decisions that go into the next object. What waits for the journal has one to itself, so that it is either all on record or
/// not at all.
fn next_batch(mirrored: u64, pending: &Range<u64>) -> Range<u64> {
    match mirrored {
        _ if pending.is_empty() || mirrored >= pending.end => mirrored..u64::MAX,
        _ if mirrored < pending.start => mirrored..pending.start,
        _ => mirrored..pending.end,
    }
}

fn recorded(tables: &Tables<'_>, number: u64) -> Result<Decision, CatalogError> {
    let what = "it is not there".to_owned();
    tables.decision(number)?.ok_or(CatalogError::Row { table: "history", key: number.to_string(), what })
}

fn try_out(tables: &mut Tables<'_>, decisions: Vec<(Why, What)>) -> Result<(), CatalogError> {
    for (why, what) in decisions {
        let decision = next(tables, &why, what)?;
        carry_out(tables, &decision, Beside::default())?;
        tables.append(&decision)?;
    }
    Ok(())
}

/// Creates an object of the journal; returns the lines it has. If it exists, an earlier try of ours got through of which we never
/// heard, perhaps with fewer lines.
fn put(
    bucket: &dyn Bucket,
    name: &str,
    head: [u8; 32],
    batch: &[Decision],
) -> Result<Vec<(Line, [u8; 32])>, JournalError> {
    let text = journal::encode(head, batch);
    let diverged = |what: String| JournalError::Diverged { object: name.to_owned(), what };
    let stored = match bucket.create(name, &text) {
        Ok(()) => text,
        Err(BucketError::Exists) => bucket.get(name).map_err(JournalError::bucket(name))?,
        Err(error) => return Err(JournalError::bucket(name)(error)),
    };
    let lines = journal::decode(&stored).map_err(diverged)?;
    // Which version of the program wrote them does not matter, as long as it said the same.
    let heads = [head].into_iter().chain(lines.iter().map(|(_, hash)| *hash));
    let follow = lines.iter().zip(heads).all(|((line, _), head)| line.before == head);
    let same = lines.iter().zip(batch).all(|((line, _), decision)| line.decision == *decision);
    if follow && same && !lines.is_empty() && lines.len() <= batch.len() {
        return Ok(lines);
    }
    Err(diverged("it has other decisions than this catalog".to_owned()))
}
