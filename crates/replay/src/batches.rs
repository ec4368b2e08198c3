//! Batches in log order: what every replay begins with.

use icecore_log::{Damage, Record, Records, StoredBatch};
use icecore_wire::{Batch, ColumnView};

use crate::event::Cells;
use crate::query::EventTimes;
use crate::{Event, Query, ReplayError};

/// The stored batches that may hold events of a query, in position order.
#[derive(Debug)]
pub struct Batches<'a> {
    records: Records<'a>,
    query: &'a Query,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(records: Records<'a>, query: &'a Query) -> Self {
        Self { records, query }
    }

    /// The damage passed over so far.
    pub fn damage(&self) -> &[Damage] {
        self.records.damage()
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Selection, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next()? {
                Ok(Record::Batch(stored)) if self.query.schemas.matches(stored.schema.name()) => {
                    return Some(Selection::decode(stored, self.query.times));
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
}

impl Selection {
    pub(crate) fn decode(stored: StoredBatch, times: EventTimes) -> Result<Self, ReplayError> {
        match Batch::validate(stored.payload.clone(), stored.schema.clone()) {
            Ok(batch) => Ok(Self { stored, batch, times }),
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
        if self.times.is_all() {
            return u64::from(self.batch.count());
        }
        self.batch.times().iter().filter(|time| self.times.contains(**time)).count() as u64
    }

    /// Hands over the selected events in sequence order.
    pub fn for_each<E>(&self, mut take: impl FnMut(&Event<'_>) -> Result<(), E>) -> Result<(), E> {
        let columns: Vec<ColumnView<'_>> =
            (0..self.stored.schema.fields().len()).map(|field| self.batch.column(field)).collect();
        for (row, &event_time) in self.batch.times().iter().enumerate() {
            if !self.times.contains(event_time) {
                continue;
            }
            take(&Event {
                source: &self.stored.source,
                schema: &self.stored.schema,
                sequence: self.stored.first_sequence + row as u64,
                position: self.stored.position + row as u64,
                event_time,
                received_time: self.stored.received,
                time_uncertain: self.batch.header().time_uncertain(),
                cells: Cells::Columns { columns: &columns, row },
            })?;
        }
        Ok(())
    }
}
