//! Writing a sealed segment.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_wire::{
    Batch, BatchHeader, BytesValues, ColumnType, ColumnView, Payload, Schema, SchemaId, Values, fits_plain,
};

use super::cells::{Cells, Growing, width};
use super::column;
use super::footer::{self, Contents, directory};
use super::group::{self, GroupEntry, Shape};
use super::limits::{
    GROUP_BYTES, MAX_BATCHES, MAX_GROUP_NUMBERS, MAX_GROUP_ROWS, MAX_SECTION_BYTES, ROWS_OF_A_DEVICE,
};
use super::trailer::{self, Trailer};
use super::{Decoded, SealedRun, SealedSummary, cover, cover_inclusive, section};
use crate::error::LogError;
use crate::record::{Source, StoredBatch};

/// What the values of a batch may take in memory without asking whether they fit into a payload.
const CERTAINLY_FITS: usize = icecore_wire::limits::MAX_BATCH_BYTES / 4;

/// Gathers batches of one retention class and writes them as one sealed segment.
///
/// Payloads are kept as they are until [`SealedWriter::finish`], which decodes one row group at a time: memory is what
/// the payloads take, and about 200 MiB while a row group is encoded.
pub struct SealedWriter {
    log: [u8; 16],
    batches: Vec<StoredBatch>,
    bytes: u64,
    schemas: HashMap<SchemaId, Arc<Schema>>,
}

impl SealedWriter {
    /// A writer for a segment of the log with this id.
    #[must_use]
    pub fn new(log: [u8; 16]) -> Self {
        Self { log, batches: Vec::new(), bytes: 0, schemas: HashMap::new() }
    }

    /// Adds a batch; they may come in any order, and must not overlap. At [`MAX_BATCHES`](super::MAX_BATCHES) the segment
    /// must be finished.
    ///
    /// # Panics
    /// There are that many already.
    pub fn push(&mut self, mut batch: StoredBatch) {
        assert!(self.batches.len() < MAX_BATCHES, "a sealed segment has at most {MAX_BATCHES} batches");
        self.bytes += batch.payload.len() as u64;
        batch.schema = Arc::clone(self.schemas.entry(batch.schema.id()).or_insert(batch.schema));
        self.batches.push(batch);
    }

    /// How many batches were added.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// How many bytes their payloads take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the file to `out`, front to back, with one call of `write_all` per row group: a throttle or a cancellation
    /// belongs there, its error ends the writing. `name` stands for the file in errors.
    ///
    /// # Errors
    /// `out` fails, a batch is not what its log says, or there was no batch at all.
    pub fn finish(mut self, out: &mut dyn Write, name: PathBuf) -> Result<SealedSummary, LogError> {
        self.batches.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut file = Output { out, name, len: 0 };
        file.write(&trailer::header())?;
        let mut runs = Vec::new();
        let mut tables: Vec<Vec<GroupEntry>> = Vec::new();
        let mut listed = Vec::new();
        for batches in self.batches.chunk_by(|a, b| Arc::ptr_eq(&a.schema, &b.schema)) {
            let mut table = Rows::new(&batches[0].schema);
            for batch in batches {
                if table.should_end_before(batch) {
                    table.end_group(&mut file)?;
                }
                listed.push(table.add(batch)?);
                add_to_run(&mut runs, batch, table.last_times())?;
            }
            table.end_group(&mut file)?;
            tables.push(table.groups);
        }
        if listed.is_empty() {
            let what = "a sealed segment without batches was asked for".to_owned();
            return Err(LogError::Foreign { file: file.name, what });
        }
        let directory = write_directory(&mut file, &self.batches, &listed)?;
        let contents = Contents { log: self.log, runs: &runs, tables: &tables, directory: &directory };
        let footer = footer::write(&contents);
        if footer.len() > MAX_SECTION_BYTES {
            let what = format!("its footer would take {} bytes; seal fewer batches at once", footer.len());
            return Err(LogError::Foreign { file: file.name, what });
        }
        let stored = section::pack(&footer);
        file.write(&stored)?;
        let root = trailer::root(&stored);
        let len = file.len + trailer::TRAILER_BYTES as u64;
        let (footer_stored, footer_len) = (stored.len() as u64, footer.len() as u64);
        let trailer = Trailer { footer_stored, footer_len, len, root, version: trailer::VERSION };
        file.write(&trailer.to_bytes())?;
        let mut footer = footer::read(&footer, trailer::HEADER_BYTES as u64, len - trailer.tail_bytes())
            .expect("a footer that was just written can be read");
        footer.share_bytes();
        Ok(SealedSummary::new(footer.log, footer.runs, &trailer))
    }
}

impl std::fmt::Debug for SealedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedWriter")
            .field("batches", &self.batches.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What batches are ordered by in a segment.
fn order(batch: &StoredBatch) -> impl Ord + '_ {
    let schema = &batch.schema;
    let source = footer::order(&batch.source);
    (schema.name(), schema.version(), schema.id(), source, batch.first_sequence)
}

/// What is being written, and how far it is.
struct Output<'a> {
    out: &'a mut dyn Write,
    name: PathBuf,
    len: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        self.out.write_all(bytes).map_err(LogError::io("write", &self.name))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// What the directory keeps of a batch beside what its record says.
struct Listed {
    time_uncertain: bool,
    /// The payload, if it cannot be made anew from the columns.
    payload: Option<Payload>,
}

/// The row group that is being gathered of one schema, and those before it.
struct Rows {
    shape: Shape,
    columns: Vec<Growing>,
    rows: usize,
    bytes: usize,
    /// Of the last batch.
    source: Option<Arc<Source>>,
    last_rows: usize,
    groups: Vec<GroupEntry>,
    /// Numbers of a row's widest column.
    widest: usize,
}

impl Rows {
    fn new(schema: &Schema) -> Self {
        let shape = Shape::of(schema);
        let widest = shape.columns.iter().map(|(_, ty)| width(*ty)).max();
        Self {
            columns: shape.empty_columns(),
            shape,
            rows: 0,
            bytes: 0,
            source: None,
            last_rows: 0,
            groups: Vec::new(),
            widest: widest.unwrap_or(1),
        }
    }

    fn should_end_before(&self, batch: &StoredBatch) -> bool {
        let rows = self.rows + batch.count as usize;
        let other_device = self.source.as_ref().is_some_and(|source| source.device != batch.source.device);
        self.rows > 0
            && (rows > MAX_GROUP_ROWS
                || rows * self.widest > MAX_GROUP_NUMBERS
                || self.bytes >= GROUP_BYTES
                || other_device && self.rows >= ROWS_OF_A_DEVICE)
    }

    fn add(&mut self, batch: &StoredBatch) -> Result<Listed, LogError> {
        let decoded = decode(batch)?;
        let rows = decoded.count() as usize;
        let before = self.bytes;
        let times = Values::Timestamp(decoded.times());
        let times = ColumnView { ty: ColumnType::Timestamp, validity: None, values: times };
        let views =
            std::iter::once(times).chain((0..self.columns.len() - 1).map(|field| decoded.column(field)));
        for (column, view) in self.columns.iter_mut().zip(views) {
            column.extend(&view, rows).map_err(|what| unsealable(batch, what))?;
        }
        self.bytes = self.columns.iter().map(|column| column.cells.bytes()).sum();
        self.rows += rows;
        self.last_rows = rows;
        self.source = Some(Arc::clone(&batch.source));
        let added = self.bytes - before;
        let fits = added <= CERTAINLY_FITS || fits_plain(&batch.schema, rows, text_bytes(&decoded));
        Ok(Listed {
            time_uncertain: decoded.header().time_uncertain(),
            payload: (!fits).then(|| batch.payload.clone()),
        })
    }

    /// The event times of the batch that was added last.
    fn last_times(&self) -> &[i64] {
        match &self.columns[0].cells {
            Cells::I64(times) => &times[times.len() - self.last_rows..],
            _ => unreachable!("the first column is that of the event times"),
        }
    }

    fn end_group(&mut self, file: &mut Output<'_>) -> Result<(), LogError> {
        let columns = std::mem::replace(&mut self.columns, self.shape.empty_columns());
        let (bytes, entry) = group::encode(&self.shape, &columns);
        self.groups.push(entry);
        (self.rows, self.bytes, self.source) = (0, 0, None);
        file.write(&bytes)
    }
}

/// Decodes a batch, and checks that it is what its record says.
fn decode(batch: &StoredBatch) -> Result<Batch, LogError> {
    let decoded = Batch::validate(batch.payload.clone(), Arc::clone(&batch.schema))
        .map_err(|error| unsealable(batch, error.to_string()))?;
    let BatchHeader { first_sequence, count, .. } = *decoded.header();
    if (first_sequence, count) == (batch.first_sequence, batch.count) {
        Ok(decoded)
    } else {
        Err(unsealable(batch, format!("its payload holds {count} events from sequence {first_sequence} on")))
    }
}

fn unsealable(batch: &StoredBatch, what: String) -> LogError {
    let source = &batch.source;
    LogError::Unsealable {
        device: source.device.clone(),
        epoch: source.epoch,
        first_sequence: batch.first_sequence,
        what,
    }
}

/// Bytes of all texts and byte strings of a batch.
fn text_bytes(batch: &Batch) -> usize {
    let rows = batch.count() as usize;
    let fields = 0..batch.schema().fields().len();
    let bytes_of = |field| match batch.column(field).values {
        Values::Text(texts) => (0..rows).map(|row| texts.get(row).len()).sum(),
        Values::Bytes(strings) => (0..rows).map(|row| strings.get(row).len()).sum(),
        _ => 0,
    };
    fields.map(bytes_of).sum()
}

/// Extends the last run by a batch, or begins the next one.
fn add_to_run(runs: &mut Vec<SealedRun>, batch: &StoredBatch, times: &[i64]) -> Result<(), LogError> {
    let rows = u64::from(batch.count);
    let sequences = batch.first_sequence..batch.first_sequence + rows;
    let positions = batch.position..batch.position + rows;
    let (min, max) = column::range_of(times);
    let (times, received) = (min..=max, batch.received..=batch.received);
    let last = runs.last_mut();
    let same = |run: &&mut SealedRun| Arc::ptr_eq(&run.schema, &batch.schema) && run.source == batch.source;
    let Some(run) = last.filter(same) else {
        let (schema, source) = (Arc::clone(&batch.schema), Arc::clone(&batch.source));
        let batches = 1;
        runs.push(SealedRun {
            schema,
            source,
            rows,
            batches,
            sequences,
            positions,
            times,
            received,
            bytes: 0,
        });
        return Ok(());
    };
    if sequences.start < run.sequences.end {
        return Err(unsealable(batch, format!("sequences up to {} are there already", run.sequences.end)));
    }
    run.rows += rows;
    run.batches += 1;
    run.sequences.end = sequences.end;
    run.positions = cover(&run.positions, &positions);
    run.times = cover_inclusive(&run.times, &times);
    run.received = cover_inclusive(&run.received, &received);
    Ok(())
}

/// Writes the batch directory, in row groups of its own.
fn write_directory(
    file: &mut Output<'_>,
    batches: &[StoredBatch],
    listed: &[Listed],
) -> Result<Vec<GroupEntry>, LogError> {
    let shape = footer::directory_shape();
    let mut groups = Vec::new();
    let mut columns = shape.empty_columns();
    let mut payloads = 0;
    for (index, (batch, listed)) in batches.iter().zip(listed).enumerate() {
        list(&mut columns, batch, listed).map_err(|what| unsealable(batch, what))?;
        payloads += listed.payload.as_ref().map_or(0, |payload| payload.len());
        let is_full = columns[0].valid.len() == MAX_GROUP_ROWS || payloads >= GROUP_BYTES;
        if is_full || index + 1 == batches.len() {
            let (bytes, entry) = group::encode(&shape, &columns);
            file.write(&bytes)?;
            groups.push(entry);
            (columns, payloads) = (shape.empty_columns(), 0);
        }
    }
    Ok(groups)
}

/// Adds a batch to the columns of the directory.
fn list(columns: &mut [Growing], batch: &StoredBatch, listed: &Listed) -> Decoded<()> {
    let flags = if listed.time_uncertain { directory::TIME_UNCERTAIN } else { 0 };
    for (index, number) in [
        (directory::FIRST_SEQUENCE, batch.first_sequence),
        (directory::EVENTS, u64::from(batch.count)),
        (directory::POSITION, batch.position),
        (directory::FLAGS, flags),
    ] {
        columns[index].push(Values::U64(&[number]))?;
    }
    columns[directory::RECEIVED].push(Values::Timestamp(&[batch.received]))?;
    columns[directory::DIGEST].push(Values::Bytes(BytesValues::new(&[0, 16], batch.digest.as_bytes())))?;
    match &listed.payload {
        Some(payload) => {
            let offsets = [0, payload.len() as u32];
            columns[directory::PAYLOAD].push(Values::Bytes(BytesValues::new(&offsets, payload)))
        }
        None => {
            columns[directory::PAYLOAD].push_null();
            Ok(())
        }
    }
}
