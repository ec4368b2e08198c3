//! Batches in log order: what every replay begins with.

use std::ops::Range;
use std::sync::Arc;

use icecore_log::{AbsentSegment, Damage, OnDamage, Record, Records, StoredBatch};
use icecore_schema::{Evolution, Upcast};
use icecore_wire::{Batch, ColumnView};

use crate::coverage::Lacking;
use crate::event::Cells;
use crate::query::EventTimes;
use crate::{Coverage, Event, Follow, Query, Replay, ReplayError};

/// The stored batches that may hold events of a query, in position order.
#[derive(Debug)]
pub struct Batches<'a> {
    replay: &'a Replay,
    records: Records<'a>,
    query: &'a Query,
    /// What batches read as; made when the first is read.
    evolution: Option<Evolution>,
    passed: Passed,
}

/// Sealed segments that were passed over, told apart.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) deleted: Vec<Lacking>,
    pub(crate) absent: Vec<Lacking>,
}

impl Passed {
    /// Tells apart what was passed over: that it was deleted by policy is no error.
    pub(crate) fn take_in(
        &mut self,
        replay: &Replay,
        query: &Query,
        segments: Vec<AbsentSegment>,
    ) -> Result<(), ReplayError> {
        for segment in segments {
            let elsewhere = replay.elsewhere();
            let deleted = elsewhere.map(|elsewhere| elsewhere.deleted(segment.id)).transpose()?;
            let never_came = elsewhere.is_some_and(|elsewhere| elsewhere.never_came(segment.id));
            if let Some(deleted) = deleted.flatten() {
                self.deleted.extend(Lacking::deleted(query, &segment, deleted));
            } else if never_came {
                self.absent.push(Lacking::not_archived(query, &segment));
            } else if query.on_damage == OnDamage::Skip {
                self.absent.push(Lacking::absent(query, &segment));
            } else {
                return Err(segment.why.into());
            }
        }
        Ok(())
    }
}

impl<'a> Batches<'a> {
    pub(crate) fn new(replay: &'a Replay, records: Records<'a>, query: &'a Query) -> Self {
        Self { replay, records, query, evolution: None, passed: Passed::default() }
    }

    /// The damage passed over so far.
    pub fn damage(&self) -> &[Damage] {
        self.records.damage()
    }

    /// What was deleted by policy and what else is absent, as far as it was passed over since this was called last.
    pub fn take_lacking(&mut self) -> Vec<Lacking> {
        self.passed.deleted.drain(..).chain(self.passed.absent.drain(..)).collect()
    }

    /// Goes on with what the log's writer adds, once everything was read: events of the version that is stored.
    #[must_use]
    pub fn follow(self) -> Follow {
        Follow::new(self.records.follow(), self.query.clone())
    }

    /// What is missing, once everything was read; `present` events were.
    ///
    /// # Errors
    /// When the log's facts cannot be read.
    pub fn coverage(self, present: u64) -> Result<Coverage, ReplayError> {
        let unstored = self.replay.unstored(|device| self.query.wants_device(device))?;
        let mut coverage = Coverage { present, unstored, ..Coverage::default() };
        self.tell(&mut coverage);
        Ok(coverage)
    }

    /// Adds what was passed over.
    pub(crate) fn tell(self, coverage: &mut Coverage) {
        coverage.add(self.passed, self.records.damage().to_vec());
    }

    /// The batch with what its events read as.
    fn select(&mut self, stored: StoredBatch) -> Result<Selection, ReplayError> {
        let evolution = match &mut self.evolution {
            Some(evolution) => evolution,
            none if self.query.as_written => none.insert(Evolution::default()),
            none => none.insert(self.replay.evolution(self.query)?),
        };
        let upcast = evolution.upcast(stored.schema.id()).cloned();
        Selection::decode(stored, self.query, upcast)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Selection, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(error) = self.replay.check_stop() {
                return Some(Err(error));
            }
            let next = self.records.next();
            if let Err(error) = self.passed.take_in(self.replay, self.query, self.records.take_absent()) {
                return Some(Err(error));
            }
            match next? {
                Ok(Record::Batch(stored)) => {
                    self.replay.looked_at(stored.count.into());
                    return Some(self.select(stored));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// A stored batch and which of its events are selected.
#[derive(Debug)]
pub struct Selection {
    stored: StoredBatch,
    batch: Batch,
    times: EventTimes,
    positions: Range<u64>,
    upcast: Option<Arc<Upcast>>,
}

impl Selection {
    pub(crate) fn decode(
        stored: StoredBatch,
        query: &Query,
        upcast: Option<Arc<Upcast>>,
    ) -> Result<Self, ReplayError> {
        let (times, positions) = (query.times, query.positions());
        match Batch::validate(stored.payload.clone(), stored.schema.clone()) {
            Ok(batch) => Ok(Self { stored, batch, times, positions, upcast }),
            Err(source) => Err(ReplayError::Batch {
                position: stored.position,
                device: stored.source.device.clone(),
                first_sequence: stored.first_sequence,
                source,
            }),
        }
    }

    /// The batch as it is stored.
    pub fn stored(&self) -> &StoredBatch {
        &self.stored
    }

    /// The same batch with all its events, as they were written.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { times: EventTimes::default(), positions: 0..u64::MAX, upcast: None, ..self }
    }

    /// How many of its events are selected.
    pub fn count(&self) -> u64 {
        let times = &self.batch.times()[self.rows()];
        if self.times.is_all() {
            return times.len() as u64;
        }
        times.iter().filter(|time| self.times.contains(**time)).count() as u64
    }

    /// Its events at positions that are asked for.
    fn rows(&self) -> Range<usize> {
        let count = u64::from(self.stored.count);
        let row = |position: u64| position.saturating_sub(self.stored.position).min(count) as usize;
        let end = row(self.positions.end);
        row(self.positions.start).min(end)..end
    }

    /// Hands over the selected events in sequence order, as the version that the query reads them as.
    pub fn for_each<E>(&self, mut take: impl FnMut(&Event<'_>) -> Result<(), E>) -> Result<(), E> {
        let columns: Vec<ColumnView<'_>> =
            (0..self.stored.schema.fields().len()).map(|field| self.batch.column(field)).collect();
        let rows = self.rows();
        for (row, &event_time) in self.batch.times().iter().enumerate().take(rows.end).skip(rows.start) {
            if !self.times.contains(event_time) {
                continue;
            }
            let event = Event {
                source: &self.stored.source,
                schema: &self.stored.schema,
                sequence: self.stored.first_sequence + row as u64,
                position: self.stored.position + row as u64,
                event_time,
                received_time: self.stored.received,
                time_uncertain: self.batch.header().time_uncertain(),
                cells: Cells::Columns { columns: &columns, row },
            };
            match &self.upcast {
                None => take(&event)?,
                Some(upcast) => {
                    let cells = upcast.apply(event.values());
                    take(&Event {
                        schema: upcast.to(),
                        cells: Cells::Upcast { upcast, cells: &cells },
                        ..event
                    })?;
                }
            }
        }
        Ok(())
    }
}
