//! The files of one schema that are being written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampNanosecondType};
use arrow_array::{DictionaryArray, RecordBatch};
use arrow_schema::SchemaRef;
use icecore_wire::DeviceName;

use super::HiveExport;
use super::state::unfinished;
use crate::{ReplayError, Table, TableFile, format_instant};

/// Bytes of rows in memory, of all files together; then the row group of the file with most of them is ended.
const BUFFERED: usize = 128 << 20;

/// Files open at once; then the one that was written to longest ago is ended, and its partition gets another.
const OPEN: usize = 256;

/// Nanoseconds of a day.
const DAY: i64 = 86_400_000_000_000;

/// Where rows go: the day since 1970, and the device where each has partitions of its own.
type Key = (i64, Option<DeviceName>);

/// Sorts rows into files.
pub(super) struct Partitions<'e> {
    export: &'e HiveExport,
    table: Arc<Table>,
    positions: Range<u64>,
    open: BTreeMap<Key, Open>,
    /// How many files of a partition were begun.
    begun: BTreeMap<Key, u32>,
    finished: Vec<PathBuf>,
    /// Counts what is written, so that it is known which file was written to longest ago.
    turn: u64,
}

/// A file that is being written.
struct Open {
    file: TableFile<BufWriter<File>>,
    /// Its name within the directory, once it counts.
    name: PathBuf,
    turn: u64,
}

impl<'e> Partitions<'e> {
    pub(super) fn new(export: &'e HiveExport, table: Arc<Table>, positions: Range<u64>) -> Self {
        let (open, begun) = (BTreeMap::new(), BTreeMap::new());
        Self { export, table, positions, open, begun, finished: Vec::new(), turn: 0 }
    }

    /// Takes rows with all columns of the table.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ReplayError> {
        let times = self.table.column("event_time")?;
        let times = batch.column(times).as_primitive::<TimestampNanosecondType>().values();
        let devices = self.export.by_device.then(|| self.table.column("device")).transpose()?;
        let devices: Option<&DictionaryArray<Int32Type>> = devices.map(|at| batch.column(at).as_dictionary());
        let place =
            |row: usize| (times[row].div_euclid(DAY), devices.map(|devices| devices.keys().value(row)));
        let mut start = 0;
        while start < batch.num_rows() {
            let at = place(start);
            let end = (start + 1..batch.num_rows()).find(|row| place(*row) != at).unwrap_or(batch.num_rows());
            let name =
                |key: i32| devices.map(|devices| devices.values().as_string::<i32>().value(key as usize));
            let device = at.1.and_then(name).map(|name| {
                DeviceName::try_from(name).map_err(|error| ReplayError::Output(io::Error::other(error)))
            });
            self.write_to(&(at.0, device.transpose()?), &batch.slice(start, end - start))?;
            start = end;
        }
        Ok(())
    }

    fn write_to(&mut self, key: &Key, rows: &RecordBatch) -> Result<(), ReplayError> {
        if !self.open.contains_key(key) {
            if self.open.len() >= OPEN {
                let oldest = self.open.iter().min_by_key(|(_, open)| open.turn).map(|(key, _)| key.clone());
                oldest.map_or(Ok(()), |oldest| self.end(&oldest))?;
            }
            let begun = self.begin(key)?;
            self.open.insert(key.clone(), begun);
        }
        let rows = match self.export.by_device {
            true => rows.project(&self.stored_columns())?,
            false => rows.clone(),
        };
        self.turn += 1;
        if let Some(open) = self.open.get_mut(key) {
            open.turn = self.turn;
            open.file.write(&rows)?;
        }
        if self.open.values().map(|open| open.file.buffered()).sum::<usize>() > BUFFERED {
            let largest = self.open.values_mut().max_by_key(|open| open.file.buffered());
            largest.map_or(Ok(()), |open| open.file.end_group())?;
        }
        Ok(())
    }

    /// The columns that files have: what stands in the path does not stand in them.
    fn stored_columns(&self) -> Vec<usize> {
        let fields = self.table.schema().fields().iter().enumerate();
        let is_stored = |name: &str| !(self.export.by_device && name == "device");
        fields.filter(|(_, field)| is_stored(field.name())).map(|(number, _)| number).collect()
    }

    fn begin(&mut self, key: &Key) -> Result<Open, ReplayError> {
        let begun = self.begun.entry(key.clone()).or_default();
        let (number, Range { start, end }) = (*begun, self.positions.clone());
        *begun += 1;
        let name = self.partition(key).join(format!("events-{start}-{end}-{number}.parquet"));
        let path = self.export.directory.join(&name);
        let make = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create(unfinished(&path))
        };
        let file = make().map_err(|source| ReplayError::Export {
            what: "write",
            directory: path.clone(),
            source,
        })?;
        let schema: SchemaRef = Arc::new(self.table.schema().project(&self.stored_columns())?);
        let file = TableFile::parquet(BufWriter::new(file), &schema)?;
        Ok(Open { file, name, turn: self.turn })
    }

    /// `schema=weather/date=2013-01-31/device=hall%2F7`
    fn partition(&self, (day, device): &Key) -> PathBuf {
        let date = format_instant(day.saturating_mul(DAY));
        let value = |text: &str| match DeviceName::try_from(text) {
            Ok(name) => name.percent_encoded(),
            // The names of schemas are as those of devices are.
            Err(_) => text.to_owned(),
        };
        let mut partition = PathBuf::from(format!("schema={}", value(self.table.name())));
        partition.push(format!("{}={}", self.key_name("date"), &date[..10]));
        if let Some(device) = device {
            partition.push(format!("device={}", device.percent_encoded()));
        }
        partition
    }

    /// What a part of the path is called: a name that no field has.
    fn key_name(&self, wanted: &str) -> String {
        let is_field = |name: &str| {
            self.table.schema().fields().iter().any(|field| field.name().eq_ignore_ascii_case(name))
        };
        let mut name = wanted.to_owned();
        while is_field(&name) {
            name.push('_');
        }
        name
    }

    /// Ends a file, and sees to it that it is on the disk.
    fn end(&mut self, key: &Key) -> Result<(), ReplayError> {
        let Some(Open { file, name, .. }) = self.open.remove(key) else { return Ok(()) };
        let out = file.finish()?;
        let file = out.into_inner().map_err(|error| ReplayError::Output(error.into_error()))?;
        file.sync_all().map_err(ReplayError::Output)?;
        self.finished.push(name);
        Ok(())
    }

    /// Ends all files; gives the names they are to have.
    pub(super) fn finish(mut self) -> Result<Vec<PathBuf>, ReplayError> {
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        keys.iter().try_for_each(|key| self.end(key))?;
        Ok(self.finished)
    }
}
