//! What rollups are made of: the events of the windows that a manifest touched.
//!
//! A manifest says for ever what was sealed when, so what is made of it is always the same: for every window of which it has events, a
//! row with the statistics of all events of that window up to there. Events that come late are in a later manifest, which gives the
//! window a row with a higher revision.
//!
//! - [`Touched`]: which devices and schemas a manifest has events of, and the windows of one of them
//! - `sources`: where else there are events of these windows
//! - `gather`: the events of some windows in the order of event time, as many at once as memory allows
//! - `stored`: the rows that there are already
//! - [`NewestRows`]: those of them that count, for readers

mod gather;
mod newest;
mod sources;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use icecore_log::sealed::{RowQuery, SealedRun, SealedSegment};
use icecore_log::{Damage, LogError, LogReader, Manifest};
use icecore_state::rollup::{Cell, Rollup, Window};
use icecore_wire::{DeviceName, Schema, SchemaId, Values};

use crate::ReplayError;
use gather::Gather;
pub use newest::NewestRows;
use sources::{Older, Sources};
pub use stored::{emitted, last_revision};

/// Windows of one device and schema that are known at once.
const WINDOWS_AT_ONCE: usize = 16_384;

/// The windows that a manifest touched.
#[derive(Debug)]
pub struct Touched<'a> {
    reader: &'a LogReader,
    series: Vec<Series>,
    /// The segments of the manifest, which may have been split since.
    new: Vec<SealedSegment>,
    older: Older<'a>,
    /// Positions before this one count.
    end: u64,
    damage: Vec<Damage>,
}

/// Events of a device, all of one schema.
#[derive(Debug, Clone)]
pub struct Series {
    /// The device.
    pub device: DeviceName,
    /// The schema as it was written.
    pub schema: Arc<Schema>,
    /// When the newest of them was received, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// The earliest and the latest event time, likewise.
    times: RangeInclusive<i64>,
}

impl<'a> Touched<'a> {
    /// The windows that this manifest touched; `reader` knows it.
    ///
    /// # Errors
    /// When one of its segments cannot be read for a time: its store does not answer, or it was split meanwhile.
    pub fn by(reader: &'a LogReader, manifest: &Manifest) -> Result<Self, ReplayError> {
        let (mut new, mut damage) = (Vec::new(), Vec::new());
        let positions = &manifest.positions;
        for (id, child) in reader.sealed() {
            if child.positions.end <= positions.start || positions.end <= child.positions.start {
                continue;
            }
            match reader.open_sealed(id) {
                Ok(segment) => new.push(segment),
                // Nobody waited for it, or it was lost.
                Err(LogError::Absent { .. }) if reader.still_counts(id)? => {}
                Err(LogError::Damaged(what)) => damage.push(*what),
                Err(error) => return Err(error.into()),
            }
        }
        let series = series(&new);
        let older = Older::of(reader, &series, positions.start)?;
        Ok(Self { reader, series, new, older, end: positions.end, damage })
    }

    /// What could not be read since this was called last: its windows are partial.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// What there are events of in the manifest, by device and schema; without what was derived.
    #[must_use]
    pub fn series(&self) -> Vec<Series> {
        self.series.clone()
    }

    /// Makes the rows of the windows of `series`, in the order of windows; only of those that begin behind `after`, if it is
    /// there. `take` is told where each window begins and what its row is.
    ///
    /// # Errors
    /// When events cannot be read for a time, because their store does not answer; or as `take` says.
    pub fn roll<E: From<ReplayError>>(
        &mut self,
        series: &Series,
        rollup: &Rollup,
        mut after: Option<i64>,
        take: &mut impl FnMut(i64, Vec<Cell>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let touched = self.windows(series, rollup, after)?;
            let Some(last) = touched.last().copied() else { return Ok(()) };
            for run in adjacent(rollup, &touched) {
                self.roll_run(series, rollup, run, take)?;
            }
            after = Some(last);
        }
    }

    /// The first windows behind `after` that the manifest has events of, so many at most as are known at once.
    fn windows(
        &self,
        series: &Series,
        rollup: &Rollup,
        after: Option<i64>,
    ) -> Result<BTreeSet<i64>, ReplayError> {
        let mut windows = BTreeSet::new();
        let from = match after {
            // Behind the last window of all nothing comes.
            Some(start) if rollup.last_of(start) == i64::MAX => return Ok(windows),
            Some(start) => rollup.last_of(start) + 1,
            None => i64::MIN,
        };
        for segment in &self.new {
            let times = Some(from..=i64::MAX);
            for group in segment.rows(RowQuery { times, ..series.query() }) {
                let mut known = None;
                let times = group?.open()?.times()?;
                let Values::Timestamp(times) = times.view().values else {
                    unreachable!("event times are timestamps");
                };
                for &time in times {
                    let start = rollup.start_of(time);
                    if time >= from && known.replace(start) != Some(start) {
                        windows.insert(start);
                        if windows.len() > WINDOWS_AT_ONCE {
                            windows.pop_last();
                        }
                    }
                }
            }
        }
        Ok(windows)
    }

    /// Makes the rows of windows that follow each other.
    fn roll_run<E: From<ReplayError>>(
        &mut self,
        series: &Series,
        rollup: &Rollup,
        windows: RangeInclusive<i64>,
        take: &mut impl FnMut(i64, Vec<Cell>) -> Result<(), E>,
    ) -> Result<(), E> {
        let times = *windows.start()..=rollup.last_of(*windows.end());
        let mut sources = self.older.sources(series, &times)?;
        sources.segments.extend(self.new.iter().cloned());
        if sources.lost.is_empty() {
            let mut gather = Gather::new(series, &sources.segments, 0..self.end);
            let mut row = |window: &Window, partial| take(window.start(), window.row(self.end, partial));
            let rolled = gather.windows(rollup, times, &mut row);
            self.damage.extend(gather.damage);
            return rolled;
        }
        let mut start = *windows.start();
        loop {
            let row = self.roll_one(series, rollup, &sources, start)?;
            take(start, row)?;
            if start >= *windows.end() {
                return Ok(());
            }
            start = rollup.last_of(start) + 1;
        }
    }

    /// Makes the row of a window some of whose events may be lost: what was stored of it stands for them.
    fn roll_one(
        &mut self,
        series: &Series,
        rollup: &Rollup,
        sources: &Sources,
        start: i64,
    ) -> Result<Vec<Cell>, ReplayError> {
        let times = start..=rollup.last_of(start);
        let is_lost = sources.lost.iter().any(|lost| overlap(lost, &times));
        let before = match is_lost {
            true => stored::newest(self.reader, &series.device, rollup.schema(), start)?,
            false => None,
        };
        let from = before.as_ref().map_or(0, |(revision, _)| *revision);
        let mut row = None;
        let mut gather = Gather::new(series, &sources.segments, from..self.end);
        gather.windows(rollup, times, &mut |window: &Window, partial| {
            row = Some(window.row(self.end, is_lost || partial));
            Ok::<(), ReplayError>(())
        })?;
        self.damage.extend(gather.damage);
        // Without damage the manifest has events of it, or it would not be here.
        let row = row.unwrap_or_else(|| Window::new(rollup, start).row(self.end, true));
        Ok(match before {
            Some((_, before)) => rollup.merge(&before, &row),
            None => row,
        })
    }
}

impl Series {
    /// All of it.
    fn query(&self) -> RowQuery<'_> {
        let id: SchemaId = self.schema.id();
        RowQuery {
            schemas: Some(Box::new(move |schema| schema.id() == id)),
            devices: Some(Box::new(|device| *device == self.device)),
            ..RowQuery::default()
        }
    }
}

/// What there are events of in these segments, by device and schema; without what was derived.
fn series(segments: &[SealedSegment]) -> Vec<Series> {
    let mut all: BTreeMap<(&DeviceName, &str, u32, [u8; 16]), Series> = BTreeMap::new();
    for run in segments.iter().flat_map(|segment| &segment.summary().runs) {
        let SealedRun { schema, source, received, times, .. } = run;
        if schema.is_derived() {
            continue;
        }
        let key = (&source.device, schema.name(), schema.version(), *schema.id().as_bytes());
        let series = all.entry(key).or_insert_with(|| Series {
            device: source.device.clone(),
            schema: Arc::clone(schema),
            received: *received.end(),
            times: times.clone(),
        });
        series.received = series.received.max(*received.end());
        series.times = *series.times.start().min(times.start())..=*series.times.end().max(times.end());
    }
    all.into_values().collect()
}

/// Windows that follow each other without a gap, by the first and the last of each run.
fn adjacent(rollup: &Rollup, windows: &BTreeSet<i64>) -> Vec<RangeInclusive<i64>> {
    let mut runs: Vec<RangeInclusive<i64>> = Vec::new();
    for start in windows {
        match runs.last_mut() {
            Some(run) if rollup.last_of(*run.end()).checked_add(1) == Some(*start) => {
                *run = *run.start()..=*start;
            }
            _ => runs.push(*start..=*start),
        }
    }
    runs
}

fn overlap(a: &RangeInclusive<i64>, b: &RangeInclusive<i64>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}
