//! Order of event time, or of devices, for any number of events: a merge sort whose runs are on disk.
//!
//! Events are copied row by row into a buffer of fixed size. When it is full it is sorted and written as a run; the
//! runs are merged at the end. Where runs become many, some are merged early, so that neither memory nor open files
//! grow with the number of events. What fits into one buffer never touches the disk.

mod merge;
mod row;
mod run;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_log::Source;
use icecore_wire::{DeviceName, Epoch, Schema, SchemaId};

use crate::{Event, Order, ReplayError};
use merge::Merge;
use row::Row;
pub(crate) use row::SpilledValues;
use run::{Run, RunBuffer};

/// Bytes of rows and of their sort keys in memory before they are written as a run.
const RUN_BYTES: usize = 64 << 20;

/// Runs of one size that are merged into one of the next size. A merge reads each through its own buffer
/// (`READ_BYTES`): 64 of them take 16 MiB, and three sizes, at 64 MiB for the smallest, are 16 TiB.
const FAN_IN: usize = 64;

/// Takes events in any order.
#[derive(Debug)]
pub(crate) struct Sort {
    by_time: bool,
    directory: PathBuf,
    run_bytes: usize,
    buffer: RunBuffer,
    names: Names,
    /// Runs by size: those at `n` were merged `n` times.
    runs: Vec<Vec<Run>>,
}

/// Events in order of ([event time,] device name, epoch number, sequence).
#[derive(Debug)]
pub(crate) struct Sorted {
    directory: PathBuf,
    merge: Merge,
    names: Names,
}

/// What comes first of two rows.
#[derive(Debug, Clone)]
struct Ranking {
    /// Whether rows are sorted by event time ahead of all else.
    by_time: bool,
    /// Per source its place in the order of device name and epoch number.
    sources: Arc<[u32]>,
}

impl Ranking {
    /// What rows are sorted by first.
    fn time(&self, event_time: i64) -> i64 {
        if self.by_time { event_time } else { 0 }
    }

    /// The place of the source with this number.
    fn source(&self, number: u32) -> u32 {
        self.sources[number as usize]
    }
}

/// What rows refer to by number. Grows with devices, epochs and schemas, not with events.
#[derive(Debug, Default)]
struct Names {
    sources: Vec<Arc<Source>>,
    source_numbers: HashMap<(DeviceName, Epoch), u32>,
    schemas: Vec<Arc<Schema>>,
    schema_numbers: HashMap<SchemaId, u32>,
    /// Source and schema of the last event with their numbers: the next mostly has the same.
    last: Option<(Arc<Source>, u32, SchemaId, u32)>,
}

impl Sort {
    /// A sort that puts its temporary files, if it needs any, into `directory`. They have no names there and vanish
    /// with the process.
    pub(crate) fn new(order: Order, directory: &Path) -> Self {
        Self::with_run_bytes(order, directory, RUN_BYTES)
    }

    fn with_run_bytes(order: Order, directory: &Path, run_bytes: usize) -> Self {
        Self {
            by_time: order == Order::Time,
            directory: directory.to_owned(),
            run_bytes,
            buffer: RunBuffer::default(),
            names: Names::default(),
            runs: Vec::new(),
        }
    }

    /// Takes one event.
    #[inline]
    pub(crate) fn push(&mut self, event: &Event<'_>) -> Result<(), ReplayError> {
        if self.buffer.bytes() >= self.run_bytes {
            self.spill()?;
        }
        let (source, schema) = self.names.numbers(event);
        self.buffer.push(event, source, schema);
        Ok(())
    }

    /// Ends the input.
    pub(crate) fn finish(mut self) -> Result<Sorted, ReplayError> {
        let ranking = self.ranking();
        self.buffer.sort(&ranking);
        let in_memory = Run::Memory(std::mem::take(&mut self.buffer));
        let runs = self.runs.drain(..).flatten().chain([in_memory]);
        let merge = Merge::new(runs, ranking).map_err(|source| self.failed(source))?;
        Ok(Sorted { directory: self.directory, merge, names: self.names })
    }

    /// Writes the buffer as a run, and merges runs where that makes too many of one size.
    fn spill(&mut self) -> Result<(), ReplayError> {
        let ranking = self.ranking();
        self.buffer.sort(&ranking);
        let mut run = self.buffer.spill(&self.directory).map_err(|source| self.failed(source))?;
        for size in 0.. {
            if self.runs.len() == size {
                self.runs.push(Vec::new());
            }
            self.runs[size].push(run);
            if self.runs[size].len() < FAN_IN {
                break;
            }
            let full = std::mem::take(&mut self.runs[size]);
            let merged = Merge::new(full, ranking.clone()).and_then(|merge| merge.spill(&self.directory));
            run = merged.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn ranking(&self) -> Ranking {
        Ranking { by_time: self.by_time, sources: self.names.ranks() }
    }

    fn failed(&self, source: std::io::Error) -> ReplayError {
        ReplayError::Spill { directory: self.directory.clone(), source }
    }
}

impl Sorted {
    /// The next event.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, ReplayError> {
        match self.merge.next() {
            Ok(row) => Ok(row.map(|row| self.names.event(row))),
            Err(source) => Err(ReplayError::Spill { directory: self.directory.clone(), source }),
        }
    }
}

impl Names {
    /// The numbers of the event's source and schema.
    fn numbers(&mut self, event: &Event<'_>) -> (u32, u32) {
        match &self.last {
            Some((source, source_number, schema, schema_number))
                if Arc::ptr_eq(source, event.source) && *schema == event.schema.id() =>
            {
                (*source_number, *schema_number)
            }
            _ => self.look_up(event),
        }
    }

    fn look_up(&mut self, event: &Event<'_>) -> (u32, u32) {
        let source_key = (event.source.device.clone(), event.source.epoch);
        let source = *self.source_numbers.entry(source_key).or_insert_with(|| {
            self.sources.push(Arc::clone(event.source));
            self.sources.len() as u32 - 1
        });
        let schema = *self.schema_numbers.entry(event.schema.id()).or_insert_with(|| {
            self.schemas.push(Arc::clone(event.schema));
            self.schemas.len() as u32 - 1
        });
        self.last = Some((Arc::clone(event.source), source, event.schema.id(), schema));
        (source, schema)
    }

    /// Per source its place in the order of device name and epoch number, so that rows of equal times compare by
    /// numbers. Sources met later change the places, but not which of two comes first.
    fn ranks(&self) -> Arc<[u32]> {
        let mut by_name: Vec<usize> = (0..self.sources.len()).collect();
        by_name.sort_by(|&a, &b| {
            let (a, b) = (&self.sources[a], &self.sources[b]);
            a.device.cmp(&b.device).then(a.number.cmp(&b.number))
        });
        let mut ranks = vec![0; by_name.len()];
        for (rank, source) in by_name.into_iter().enumerate() {
            ranks[source] = rank as u32;
        }
        ranks.into()
    }

    fn event<'a>(&'a self, row: Row<'a>) -> Event<'a> {
        let schema = &self.schemas[row.schema() as usize];
        row.event(&self.sources[row.source() as usize], schema)
    }
}

#[cfg(test)]
mod tests;
