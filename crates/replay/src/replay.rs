//! From a data directory to a sink.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use icecore_log::sealed::Footers;
use icecore_log::{ActiveDirectory, Fact, LogError, LogReader, OnAbsent, OnDamage, RealDisk, Scan};
use icecore_schema::{Declared, Evolution};
use icecore_state::Ledger;
use icecore_tier::elsewhere::Elsewhere;
use icecore_wire::{DeviceName, Glob, Schema, SchemaId};
use tempfile::TempDir;

use crate::sort::{Sort, Sorted};
use crate::{Batches, Count, Coverage, EventTimes, Order, Query, ReplayError, Sink, Unstored};

/// The log of a data directory, as it was when it was opened: what a server adds later is not seen. A clone is the same log,
/// which may be stopped and counted apart.
#[derive(Debug, Clone)]
pub struct Replay {
    reader: LogReader,
    elsewhere: Option<Arc<Elsewhere>>,
    declared: Declared,
    data: PathBuf,
    spill_directory: PathBuf,
    stop: Option<Arc<AtomicBool>>,
    looked_at: Option<Arc<AtomicU64>>,
    /// Goes with the last of those who read in it.
    _fetched: Option<Arc<TempDir>>,
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The events handed over, and what is missing. Of text that was cut short only the former, of record batches what was missing up to
    /// there.
    pub coverage: Coverage,
    /// Whether the reader of the output went away first (a broken pipe), which is no error.
    pub cut_short: bool,
}

impl Replay {
    /// Opens the log in `data`, with or without a running server.
    ///
    /// Sorting by time spills to `TMPDIR` where that is set, otherwise to `data`: the usual default, `/tmp`, is often
    /// held in memory, and its size has nothing to do with the log's.
    pub fn open(data: &Path) -> Result<Self, ReplayError> {
        let spill_directory = std::env::var_os("TMPDIR").map_or_else(|| data.to_owned(), PathBuf::from);
        Ok(Self {
            reader: LogReader::open(Arc::new(RealDisk), data)?,
            elsewhere: None,
            declared: Declared::default(),
            data: data.to_owned(),
            spill_directory,
            stop: None,
            looked_at: None,
            _fetched: None,
        })
    }

    /// Reads what is sealed and not here where `elsewhere` says, and knows what was deleted by policy.
    #[must_use]
    pub fn with_elsewhere(self, elsewhere: Elsewhere) -> Self {
        let elsewhere = Arc::new(elsewhere);
        let reader = self.reader.with_elsewhere(elsewhere.resolver());
        Self { reader, elsewhere: Some(elsewhere), ..self }
    }

    /// Keeps the footers of sealed segments in `footers`, and takes them from there.
    #[must_use]
    pub fn with_footers(self, footers: Arc<Footers>) -> Self {
        Self { reader: self.reader.with_footers(footers), ..self }
    }

    /// Of the segment that is being written, reads only what is needed, by what its writer in this process knows of it.
    #[must_use]
    pub fn with_active(self, active: ActiveDirectory) -> Self {
        Self { reader: self.reader.with_active(active), ..self }
    }

    /// Reads events of older versions as the newest that `declared` knows, by its upcasts. Without it they read as the newest
    /// version in the log, as far as that follows from theirs by itself.
    #[must_use]
    pub fn with_schemas(self, declared: Declared) -> Self {
        Self { declared, ..self }
    }

    /// Ends as if the reader of the output had gone away, once `stop` is set.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Adds to `looked_at` how many events were looked at, whether or not they were asked for.
    #[must_use]
    pub fn counting_in(self, looked_at: Arc<AtomicU64>) -> Self {
        Self { looked_at: Some(looked_at), ..self }
    }

    /// Keeps the temporary directory that is read.
    pub(crate) fn keeping(self, fetched: Arc<TempDir>) -> Self {
        Self { _fetched: Some(fetched), ..self }
    }

    pub(crate) fn check_stop(&self) -> Result<(), ReplayError> {
        match self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(ReplayError::Output(io::ErrorKind::BrokenPipe.into())),
            false => Ok(()),
        }
    }

    pub(crate) fn looked_at(&self, events: u64) {
        if let Some(looked_at) = &self.looked_at {
            looked_at.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The log that is read.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The schemas that events of the query's devices are of, by name and version: as they are read, or (if the query says so) as
    /// they were written. Event times are not looked at, and events are read only where damage is to be passed over.
    pub fn schemas(&self, query: &Query) -> Result<Vec<Arc<Schema>>, ReplayError> {
        let mut written = HashMap::new();
        self.written(query, &mut written)?;
        if query.as_written {
            return Ok(by_name(written));
        }
        let evolution = self.evolution(query)?;
        let read = written.into_values().map(|schema| match evolution.upcast(schema.id()) {
            Some(upcast) => Arc::clone(upcast.to()),
            None => schema,
        });
        Ok(by_name(read.map(|schema| (schema.id(), schema)).collect()))
    }

    /// Those of the schema called `name`.
    pub(crate) fn versions(&self, query: &Query, name: &str) -> Result<Vec<Arc<Schema>>, ReplayError> {
        let mut versions = self.schemas(query)?;
        versions.retain(|schema| schema.name() == name);
        Ok(versions)
    }

    /// What events of the query's schemas read as, whichever devices they are of.
    pub(crate) fn evolution(&self, query: &Query) -> Result<Evolution, ReplayError> {
        let mut written = HashMap::new();
        match self.written(
            &Query { devices: Glob::any(), only: None, from_position: 0, to_position: None, ..query.clone() },
            &mut written,
        ) {
            // The replay ends at the damage; what comes before it is read by what is known before it.
            Ok(()) | Err(ReplayError::Log(LogError::Damaged(_))) => {}
            Err(error) => return Err(error),
        }
        Ok(Evolution::new(&self.declared, &by_name(written))?)
    }

    /// Collects the schemas that the query's devices have stored events of.
    fn written(
        &self,
        query: &Query,
        schemas: &mut HashMap<SchemaId, Arc<Schema>>,
    ) -> Result<(), ReplayError> {
        let told = self.reader.facts(&mut |fact| {
            if let Fact::Batch { source, schema, .. } | Fact::Schema { source, schema } = fact
                && query.wants_device(source.device.as_str())
                && query.schemas.matches(schema.name())
            {
                schemas.entry(schema.id()).or_insert_with(|| Arc::clone(schema));
            }
        });
        match (told, query.on_damage) {
            (Err(LogError::Damaged(_)), OnDamage::Skip) => {
                let query = Query { times: EventTimes::default(), as_written: true, ..query.clone() };
                for selection in self.batches(&query) {
                    let selection = selection?;
                    let schema = &selection.stored().schema;
                    schemas.entry(schema.id()).or_insert_with(|| Arc::clone(schema));
                }
            }
            (told, _) => told?,
        }
        Ok(())
    }

    /// The batches with events of `query`, in log order whatever the query's order is.
    pub fn batches<'a>(&'a self, query: &'a Query) -> Batches<'a> {
        Batches::new(self, self.reader.scan(self.scan_of(query)), query)
    }

    /// The query as the log understands it.
    pub(crate) fn scan_of<'a>(&self, query: &'a Query) -> Scan<'a> {
        let device = |device: &DeviceName| query.wants_device(device.as_str());
        let schema = |schema: &Schema| query.schemas.matches(schema.name());
        Scan {
            positions: (query.positions() != (0..u64::MAX)).then(|| query.positions()),
            devices: (!query.wants_every_device()).then(|| Box::new(device) as _),
            schemas: (!query.schemas.is_any()).then(|| Box::new(schema) as _),
            times: query.times.inclusive(),
            known_at: query.known_at,
            batches_only: false,
            on_damage: query.on_damage,
            // What was deleted by policy is passed over in any case.
            on_absent: OnAbsent::Skip,
        }
    }

    /// What was never stored of the devices that are wanted; `None` if that cannot be told because the log is damaged.
    pub(crate) fn unstored(&self, wanted: impl Fn(&str) -> bool) -> Result<Option<Unstored>, ReplayError> {
        match self.ledger_of(wanted) {
            Ok(ledger) => Ok(Some(Unstored::of(&ledger))),
            Err(LogError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What the log has on record of the devices that are wanted.
    ///
    /// # Errors
    /// When the log's facts cannot be read.
    pub fn ledger_of(&self, wanted: impl Fn(&str) -> bool) -> Result<Ledger, LogError> {
        let mut ledger = Ledger::default();
        self.reader.facts(&mut |fact| {
            if wanted(fact.source().device.as_str()) {
                ledger.apply(fact);
            }
        })?;
        Ok(ledger)
    }

    /// Where what is not here is, if that is known.
    pub(crate) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_deref()
    }

    /// Counts the events of `query`, validating every batch.
    pub fn count(&self, query: &Query) -> Result<Count, ReplayError> {
        Count::of(self.batches(&Query { as_written: true, ..query.clone() }))
    }

    /// Hands the events of `query` to `sink`, in the query's order, and finishes it.
    pub fn run(&self, query: &Query, sink: &mut (impl Sink + ?Sized)) -> Result<Replayed, ReplayError> {
        let mut replayed = Replayed::default();
        let result = match query.order {
            Order::Log | Order::Stored => self.run_in_log_order(query, sink, &mut replayed),
            Order::Time | Order::Device => self.run_sorted(query, sink, &mut replayed),
        };
        // After an error too: what came before a damaged place is whole.
        let finished = sink.finish();
        match result.and(finished) {
            Err(error) if error.is_cut_short() => {
                replayed.cut_short = true;
                Ok(replayed)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(replayed),
        }
    }

    fn run_in_log_order(
        &self,
        query: &Query,
        sink: &mut (impl Sink + ?Sized),
        replayed: &mut Replayed,
    ) -> Result<(), ReplayError> {
        let mut batches = self.batches(query);
        for selection in &mut batches {
            selection?.for_each(|event| {
                replayed.coverage.present += 1;
                sink.event(event)
            })?;
        }
        replayed.coverage = batches.coverage(replayed.coverage.present)?;
        Ok(())
    }

    fn run_sorted(
        &self,
        query: &Query,
        sink: &mut (impl Sink + ?Sized),
        replayed: &mut Replayed,
    ) -> Result<(), ReplayError> {
        let (mut sorted, coverage) = self.sorted(query, |_| true)?;
        while let Some(event) = sorted.next()? {
            replayed.coverage.present += 1;
            sink.event(&event)?;
        }
        replayed.coverage = Coverage { present: replayed.coverage.present, ..coverage };
        Ok(())
    }

    /// The events of `query` and of `schemas`, sorted, and what is missing.
    pub(crate) fn sorted(
        &self,
        query: &Query,
        schemas: impl Fn(&str) -> bool,
    ) -> Result<(Sorted, Coverage), ReplayError> {
        let mut sort = Sort::new(query.order, &self.spill_directory);
        let mut batches = self.batches(query);
        for selection in &mut batches {
            let selection = selection?;
            if schemas(selection.stored().schema.name()) {
                selection.for_each(|event| sort.push(event))?;
            }
        }
        let coverage = batches.coverage(0)?;
        Ok((sort.finish()?, coverage))
    }
}

/// The schemas by name and version.
fn by_name(schemas: HashMap<SchemaId, Arc<Schema>>) -> Vec<Arc<Schema>> {
    let mut schemas: Vec<_> = schemas.into_values().collect();
    schemas.sort_by(|a, b| (a.name(), a.version(), a.id()).cmp(&(b.name(), b.version(), b.id())));
    schemas
}
