//! Rolls up what was sealed, where policies want it: one manifest after the other, beside ingestion and behind it.
//!
//! What is made of a manifest follows from the log alone, and is written in a certain order: devices and schemas by name, their windows
//! by time. Whatever a crash leaves of it is found behind the position that the catalog has, and the rest is written. Only then the
//! catalog has the next position, and only then the events may be deleted.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use icecore_ingest::{Derived, EmitError, Emitter, Writer};
use icecore_log::{Elsewhere, LogReader, Manifest, RealDisk, Sealer};
use icecore_replay::ReplayError;
use icecore_replay::rollup::{Series, Touched, emitted, last_revision};
use icecore_state::fold::Kept;
use icecore_state::rollup::{Cell as RowCell, Rollup};
use icecore_tier::catalog::{Catalog, RolledUp, What, Why};
use icecore_tier::policy;
use icecore_wire::{
    Batch, BatchBuilder, BatchError, DeviceName, EncodeOptions, Epoch, Schema, SchemaId, Value,
};
use tracing::{error, info, warn};

use super::background;
use super::classes::{ClassOf, Classes};
use crate::instant::now;

/// How often it looks for new manifests.
const LOOK: Duration = Duration::from_secs(1);
/// How long it waits when something failed.
const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// Bytes of rows that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// What the thread looks at and works with.
pub(super) struct Rolling {
    data: PathBuf,
    catalog: Arc<Catalog>,
    classes: Arc<Classes>,
    sealer: Sealer,
    emitter: Emitter,
    elsewhere: Arc<Elsewhere>,
    /// Whether a manifest may have been begun with and not ended: before a crash, or a failure.
    begun: Cell<bool>,
}

/// Why a manifest could not be rolled up.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Read(#[from] ReplayError),
    #[error(transparent)]
    Write(#[from] EmitError),
    #[error("a row cannot be written: {0}")]
    Row(#[from] BatchError),
}

impl Rolling {
    /// For the log in `data`, whose sealed segments are also `elsewhere`.
    ///
    /// # Errors
    /// When the catalog cannot be read, or says what the log has lost since, and cannot be corrected.
    pub(super) fn new(
        data: PathBuf,
        catalog: Arc<Catalog>,
        classes: Arc<Classes>,
        writer: &Writer,
        elsewhere: Arc<Elsewhere>,
    ) -> anyhow::Result<Self> {
        let emitter = writer.emitter().context("cannot wait for the writer")?;
        let rolling = Self {
            data,
            catalog,
            classes,
            sealer: writer.sealer(),
            emitter,
            elsewhere,
            begun: Cell::new(true),
        };
        rolling.step_back(writer.durable_position())?;
        Ok(rolling)
    }

    /// Where the log ends before what was rolled up last was written, as on a machine that was made anew, that is done again.
    fn step_back(&self, end: u64) -> anyhow::Result<()> {
        let view = self.catalog.view()?;
        let Some(rolled_up) = view.rolled_up()?.filter(|rolled_up| rolled_up.written > end) else {
            return Ok(());
        };
        let before = view.rolled_up_by(end)?;
        warn!(
            written = rolled_up.written,
            end, "the log has lost rollups that were made; they are made again from what there is"
        );
        self.record(before, "the log has lost what was made since")
    }

    /// Rolls up for as long as the process lives: it may be cut off anywhere.
    pub(super) fn start(self) -> anyhow::Result<()> {
        let run = move || {
            background::behind_ingestion("rolling up");
            loop {
                let rest = match self.pass() {
                    Ok(true) => continue,
                    Ok(false) => LOOK,
                    Err(error) if matches!(error.downcast_ref(), Some(Failed::Write(EmitError::Closed))) => {
                        return;
                    }
                    Err(error) => {
                        error!(
                            error = format!("{error:#}"),
                            "cannot roll up; nothing that waits for it is deleted, and it is tried again"
                        );
                        AFTER_FAILURE
                    }
                };
                thread::sleep(rest);
            }
        };
        thread::Builder::new().name("rollup".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(())
    }

    /// Rolls up the next manifest; says whether there was one.
    fn pass(&self) -> anyhow::Result<bool> {
        let rolled_up = match (self.catalog.view()?.rolled_up()?, self.classes.now()?.rolls_up()) {
            (Some(rolled_up), true) => rolled_up,
            (None, true) => return self.begin().map(|()| false),
            (Some(_), false) => {
                return self.record(None, "no policy wants rollups any more").map(|()| false);
            }
            (None, false) => return Ok(false),
        };
        // A split brings nothing new.
        let next =
            self.sealer.manifests(rolled_up.manifests).into_iter().find(|next| !next.positions.is_empty());
        let Some(manifest) = next else { return Ok(false) };
        let begun = self.begun.replace(true);
        self.roll(&manifest, begun.then_some(rolled_up.written))?;
        self.begun.set(false);
        Ok(true)
    }

    /// From now on: what was sealed before is not rolled up.
    fn begin(&self) -> anyhow::Result<()> {
        let manifests = self.sealer.manifests(0);
        if let Some(rolled_up) = self.begun_before(&manifests)? {
            return self.record(Some(rolled_up), "the log has rollups of which the catalog does not know");
        }
        let last = manifests.last();
        let (manifests, position) = last.map_or((0, 0), |last| (last.number + 1, last.positions.end));
        let written = self.emitter.durable_position();
        self.record(Some(RolledUp { manifests, position, written }), "the policies want rollups from now on")
    }

    /// How far the log was rolled up by what it has of that, where the catalog's history is silent: it was made anew without a
    /// journal. The last manifest may have been left in the midst of it.
    fn begun_before(&self, manifests: &[Arc<Manifest>]) -> anyhow::Result<Option<RolledUp>> {
        for decision in self.catalog.view()?.history(..)? {
            if matches!(decision?.what, What::RollupsEnded) {
                return Ok(None);
            }
        }
        let revision = last_revision(&self.reader()?)?;
        let last = manifests.iter().find(|manifest| Some(manifest.positions.end) == revision);
        let rolled_up = |last: &Arc<Manifest>| RolledUp {
            manifests: last.number,
            position: last.positions.start,
            written: 0,
        };
        Ok(last.map(rolled_up))
    }

    /// The log as it is now.
    fn reader(&self) -> anyhow::Result<LogReader> {
        let reader = LogReader::open(Arc::new(RealDisk), &self.data)?;
        Ok(reader.with_elsewhere(Arc::clone(&self.elsewhere)))
    }

    fn record(&self, rolled_up: Option<RolledUp>, reason: &str) -> anyhow::Result<()> {
        let why = Why { time: now(), by: "rollup".to_owned(), policy: None, reason: reason.to_owned() };
        Ok(self.catalog.roll_up(rolled_up, &why)?)
    }

    /// Rolls up one manifest. If it was `begun` with, what is there of it stands at this position or behind it.
    fn roll(&self, manifest: &Manifest, begun: Option<u64>) -> anyhow::Result<()> {
        let reader = self.reader()?;
        let classes = self.classes.now()?;
        let mut touched = Touched::by(&reader, manifest)?;
        let there =
            begun.map(|from| emitted(&reader, from, manifest.positions.end)).transpose()?.unwrap_or_default();
        let mut rows = Rows {
            emitter: &self.emitter,
            log: manifest.log,
            next: HashMap::new(),
            ready: Vec::new(),
            bytes: 0,
            written: 0,
        };
        for series in touched.series() {
            for rollup in rollups(&classes, &series) {
                roll_series(&mut touched, &series, &rollup, &there, &mut rows)?;
            }
        }
        rows.flush()?;
        for damage in touched.take_damage() {
            warn!(%damage, "events cannot be read, and their windows are partial");
        }
        let number = manifest.number;
        let written = self.emitter.durable_position();
        let rolled_up = RolledUp { manifests: number + 1, position: manifest.positions.end, written };
        self.record(Some(rolled_up), &format!("manifest {number} gave {} rows", rows.written))?;
        if rows.written > 0 {
            info!(manifest = number, rows = rows.written, "rolled up");
        }
        Ok(())
    }
}

/// How a series is rolled up, by the policy that applies to it.
fn rollups(classes: &ClassOf, series: &Series) -> Vec<Rollup> {
    let Series { device, schema, received, .. } = series;
    let stages = classes.rollups(schema.name(), device.as_str(), *received);
    let rollup = |stage: &policy::Rollup| {
        let every = stage.every.to_string();
        match Rollup::new(schema, stage.every.nanoseconds(), &every, stage.quantiles) {
            Ok(rollup) => Some(rollup),
            Err(error) => {
                warn!(schema = schema.name(), every, %error, "a schema cannot be rolled up");
                None
            }
        }
    };
    stages.iter().filter_map(rollup).collect()
}

/// Writes the rows of a series that are not there yet.
fn roll_series(
    touched: &mut Touched<'_>,
    series: &Series,
    rollup: &Rollup,
    there: &HashMap<(DeviceName, SchemaId), i64>,
    rows: &mut Rows<'_>,
) -> Result<(), Failed> {
    let after = there.get(&(series.device.clone(), rollup.schema().id())).copied();
    let mut batch = BatchBuilder::new(Arc::clone(rollup.schema()));
    touched.roll(series, rollup, after, &mut |start, row| {
        match push(&mut batch, start, &row) {
            Err(BatchError::RowCount(_) | BatchError::TooLarge(_)) if !batch.is_empty() => {
                rows.add(&series.device, &mut batch)?;
                push(&mut batch, start, &row)?;
            }
            pushed => pushed?,
        }
        Ok::<(), Failed>(())
    })?;
    match batch.is_empty() {
        true => Ok(()),
        false => rows.add(&series.device, &mut batch),
    }
}

fn push(batch: &mut BatchBuilder, start: i64, row: &[RowCell]) -> Result<(), BatchError> {
    let values: Vec<Value<'_>> =
        row.iter().map(|cell| cell.as_ref().map_or(Value::Null, Kept::value)).collect();
    batch.row(start, &values)
}

/// Rows on their way into the log.
struct Rows<'a> {
    emitter: &'a Emitter,
    log: [u8; 16],
    /// The sequences that come next.
    next: HashMap<(DeviceName, Epoch), u64>,
    ready: Vec<Derived>,
    bytes: usize,
    /// How many rows there were.
    written: u64,
}

impl Rows<'_> {
    fn add(&mut self, device: &DeviceName, rows: &mut BatchBuilder) -> Result<(), Failed> {
        let schema: Arc<Schema> = Arc::clone(rows.schema());
        let epoch = Epoch::derived(&self.log, device, schema.name());
        let next = self.next.entry((device.clone(), epoch));
        let next = next.or_insert_with(|| self.emitter.next_sequence(device, &epoch));
        let count = rows.len() as u64;
        let payload = rows.finish(*next, EncodeOptions::PLAIN)?;
        *next += count;
        self.written += count;
        self.bytes += payload.len();
        let batch = Batch::validate(payload, schema)?;
        self.ready.push(Derived { device: device.clone(), epoch, batch });
        if self.bytes >= WRITTEN_AT_ONCE { self.flush() } else { Ok(()) }
    }

    /// Has everything written. When it returns, it is durable.
    fn flush(&mut self) -> Result<(), Failed> {
        self.bytes = 0;
        Ok(self.emitter.emit(std::mem::take(&mut self.ready))?)
    }
}
