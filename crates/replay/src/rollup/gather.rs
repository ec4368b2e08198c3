//! The events of some windows, in the order of event time.

use std::mem::take;
use std::ops::{Range, RangeInclusive};

use icecore_log::sealed::{RowQuery, SealedSegment};
use icecore_log::{Damage, LogError, StoredBatch};
use icecore_state::rollup::{Rollup, Window};
use icecore_wire::Batch;

use super::Series;
use crate::ReplayError;

/// Events that are sorted at once.
const EVENTS_AT_ONCE: usize = 1 << 19;
/// Bytes of batches that are in memory at once.
const BYTES_AT_ONCE: usize = 64 << 20;

/// Reads events of a series at some positions.
pub(super) struct Gather<'a> {
    series: &'a Series,
    segments: &'a [SealedSegment],
    positions: Range<u64>,
    /// What could not be read.
    pub(super) damage: Vec<Damage>,
}

/// A batch, and the number of its epoch.
struct Piece {
    batch: Batch,
    epoch: u32,
}

/// Where an event stands in the order of its device's, and where it is: piece and row.
type Key = (i64, u32, u64, u32, u32);

/// Events at some times, as they were found.
#[derive(Default)]
struct Found {
    pieces: Vec<Piece>,
    keys: Vec<Key>,
    bytes: usize,
    /// Others could not be read.
    damaged: bool,
}

/// The window that is being folded, and whether some of it could not be read.
struct Folding<'a, T> {
    rollup: &'a Rollup,
    window: Option<(Window, bool)>,
    take: &'a mut T,
}

impl<'a> Gather<'a> {
    pub(super) fn new(series: &'a Series, segments: &'a [SealedSegment], positions: Range<u64>) -> Self {
        Self { series, segments, positions, damage: Vec::new() }
    }

    /// Folds the windows with events at these `times`, in order, and hands each over, with whether some of it could not be read.
    pub(super) fn windows<E: From<ReplayError>>(
        &mut self,
        rollup: &Rollup,
        times: RangeInclusive<i64>,
        take: &mut impl FnMut(&Window, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut folding = Folding { rollup, window: None, take };
        let (mut from, last) = times.into_inner();
        let mut to = last;
        loop {
            let mut found = Found::default();
            if !self.find(from..=to, &mut found, &mut folding)? {
                to = from.saturating_add_unsigned(to.abs_diff(from) / 2);
                continue;
            }
            folding.fold(found)?;
            if to == last {
                return folding.finish();
            }
            // What was enough for so long a time may be for twice that.
            let width = to.abs_diff(from).saturating_mul(2).max(1);
            from = to + 1;
            to = from.saturating_add_unsigned(width).min(last);
        }
    }

    /// Finds the events at these times; `false` if they are more than fit. Of a single instant all fit: those that are too many are
    /// folded as they are found, which within an instant is the order of their arrival.
    fn find<E: From<ReplayError>>(
        &mut self,
        times: RangeInclusive<i64>,
        found: &mut Found,
        folding: &mut Folding<'_, impl FnMut(&Window, bool) -> Result<(), E>>,
    ) -> Result<bool, E> {
        for segment in self.segments {
            let (positions, wanted) = (Some(self.positions.clone()), Some(times.clone()));
            let query = RowQuery { positions, times: wanted, ..self.series.query() };
            for batch in segment.in_log_order(&query).map_err(ReplayError::from)? {
                match batch {
                    Ok(batch) => found.add(batch, &times)?,
                    Err(LogError::Damaged(damage)) => {
                        found.damaged = true;
                        self.damage.push(*damage);
                    }
                    Err(error) => return Err(ReplayError::from(error).into()),
                }
                if found.keys.len() > EVENTS_AT_ONCE || found.bytes > BYTES_AT_ONCE {
                    if times.start() < times.end() {
                        return Ok(false);
                    }
                    folding.fold(take(found))?;
                }
            }
        }
        Ok(true)
    }
}

impl Found {
    fn add(&mut self, stored: StoredBatch, times: &RangeInclusive<i64>) -> Result<(), ReplayError> {
        let StoredBatch { source, schema, first_sequence, position, payload, .. } = stored;
        let batch = Batch::validate(payload, schema).map_err(|error| ReplayError::Batch {
            position,
            device: source.device.clone(),
            first_sequence,
            source: error,
        })?;
        let piece = self.pieces.len() as u32;
        let rows = batch.times().iter().enumerate().filter(|(_, time)| times.contains(time));
        let key = |(row, time): (usize, &i64)| {
            (*time, source.number, first_sequence + row as u64, piece, row as u32)
        };
        self.keys.extend(rows.map(key));
        self.bytes += batch.payload().len() + batch.decoded_bytes();
        self.pieces.push(Piece { batch, epoch: source.number });
        Ok(())
    }
}

impl<T> Folding<'_, T> {
    /// Folds what was found, all of it behind what was folded before.
    fn fold<E>(&mut self, mut found: Found) -> Result<(), E>
    where
        T: FnMut(&Window, bool) -> Result<(), E>,
    {
        if found.damaged
            && let Some((_, partial)) = &mut self.window
        {
            *partial = true;
        }
        found.keys.sort_unstable();
        let next_to = |a: &Key, b: &Key| (a.3, a.4 + 1) == (b.3, b.4);
        let rollup = self.rollup;
        let same_run = |a: &Key, b: &Key| next_to(a, b) && rollup.start_of(a.0) == rollup.start_of(b.0);
        for run in found.keys.chunk_by(same_run) {
            let (time, .., piece, row) = run[0];
            let start = rollup.start_of(time);
            if self.window.as_ref().is_none_or(|(window, _)| window.start() != start) {
                self.finish()?;
                self.window = Some((Window::new(rollup, start), found.damaged));
            }
            let Piece { batch, epoch } = &found.pieces[piece as usize];
            let row = row as usize;
            if let Some((window, _)) = &mut self.window {
                window.fold(batch, *epoch, row..row + run.len());
            }
        }
        Ok(())
    }

    fn finish<E>(&mut self) -> Result<(), E>
    where
        T: FnMut(&Window, bool) -> Result<(), E>,
    {
        self.window.take().map_or(Ok(()), |(window, partial)| (self.take)(&window, partial))
    }
}
