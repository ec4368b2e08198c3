//! Batches in log order: what every replay begins with.

use std::io::ErrorKind;
use std::sync::Arc;

use icecore_log::{Damage, LogError, OnDamage, Record, Records, StoredBatch};
use icecore_schema::{Evolution, Upcast};
use icecore_wire::{Batch, ColumnView};

use crate::coverage::Lacking;
use crate::event::Cells;
use crate::query::EventTimes;
use crate::{Coverage, Event, Follow, Query, Replay, ReplayError, Unstored};

/// The stored batches that may hold events of a query, in position order.
#[derive(Debug)]
pub struct Batches<'a> {
    replay: &'a Replay,
    records: Records<'a>,
    query: &'a Query,
    /// What batches read as; made when the first is read.
    evolution: Option<Evolution>,
    deleted: Vec<Lacking>,
    absent: Vec<Lacking>,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(replay: &'a Replay, records: Records<'a>, query: &'a Query) -> Self {
        Self { replay, records, query, evolution: None, deleted: Vec::new(), absent: Vec::new() }
    }

    /// The damage passed over so far.
    pub fn damage(&self) -> &[Damage] {
        self.records.damage()
    }

    /// What was deleted by policy and what else is absent, as far as it was passed over since this was called last.
    pub fn take_lacking(&mut self) -> Vec<Lacking> {
        self.deleted.drain(..).chain(self.absent.drain(..)).collect()
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
        let unstored = match self.replay.ledger(self.query) {
            Ok(ledger) => Some(Unstored::of(&ledger)),
            Err(ReplayError::Log(LogError::Damaged(_))) => None,
            Err(error) => return Err(error),
        };
        let damage = self.records.damage().to_vec();
        Ok(Coverage { present, unstored, deleted: self.deleted, absent: self.absent, damage })
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

    /// Tells apart what was passed over: that it was deleted by policy is no error.
    fn account(&mut self) -> Result<(), ReplayError> {
        for segment in self.records.take_absent() {
            let elsewhere = self.replay.elsewhere();
            let deleted = elsewhere.map(|elsewhere| elsewhere.deleted(segment.id)).transpose()?;
            let never_came = elsewhere.is_some_and(|elsewhere| elsewhere.never_came(segment.id));
            if let Some(deleted) = deleted.flatten() {
                self.deleted.extend(Lacking::deleted(self.query, &segment, deleted));
            } else if never_came {
                self.absent.push(Lacking::not_archived(self.query, &segment));
            } else if self.query.on_damage == OnDamage::Skip {
                self.absent.push(Lacking::absent(self.query, &segment));
            } else {
                return Err(segment.why.into());
            }
        }
        Ok(())
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Selection, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.replay.is_stopped() {
                return Some(Err(ReplayError::Output(ErrorKind::BrokenPipe.into())));
            }
            let next = self.records.next();
            if let Err(error) = self.account() {
                return Some(Err(error));
            }
            match next? {
                Ok(Record::Batch(stored)) => return Some(self.select(stored)),
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
    from_position: u64,
    upcast: Option<Arc<Upcast>>,
}

impl Selection {
    pub(crate) fn decode(
        stored: StoredBatch,
        query: &Query,
        upcast: Option<Arc<Upcast>>,
    ) -> Result<Self, ReplayError> {
        let Query { times, from_position, .. } = *query;
        match Batch::validate(stored.payload.clone(), stored.schema.clone()) {
            Ok(batch) => Ok(Self { stored, batch, times, from_position, upcast }),
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

    /// How many of its events are selected.
    pub fn count(&self) -> u64 {
        let times = &self.batch.times()[self.passed()..];
        if self.times.is_all() {
            return times.len() as u64;
        }
        times.iter().filter(|time| self.times.contains(**time)).count() as u64
    }

    /// How many of its events stand before the first position that is asked for.
    fn passed(&self) -> usize {
        let passed = self.from_position.saturating_sub(self.stored.position);
        passed.min(u64::from(self.stored.count)) as usize
    }

    /// Hands over the selected events in sequence order, as the version that the query reads them as.
    pub fn for_each<E>(&self, mut take: impl FnMut(&Event<'_>) -> Result<(), E>) -> Result<(), E> {
        let columns: Vec<ColumnView<'_>> =
            (0..self.stored.schema.fields().len()).map(|field| self.batch.column(field)).collect();
        for (row, &event_time) in self.batch.times().iter().enumerate().skip(self.passed()) {
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
