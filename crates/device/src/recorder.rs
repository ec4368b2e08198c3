//! Recording events of one schema.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use icecore_wire::{BatchBuilder, BatchError, Column, ColumnData, EncodeOptions, Schema, Value, limits};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::clock::Stamp;
use crate::device::Device;
use crate::error::RecordError;
use crate::spool::outbox::Admission;
use crate::spool::priority::Priority;
use crate::spool::queue::Mark;

/// How long batches are cut at a stretch. Encoding is work without waiting: on a runtime of one thread, who records without
/// end would keep the connection, and the other devices of a gateway, from their turn until the spool is full. Shorter
/// turns would send batches one by one that now share a packet.
const TURN: Duration = Duration::from_millis(1);

/// Records events of one schema for one device, and cuts them into batches.
///
/// What a dropped recorder has not cut yet goes with the next [`Device::flush`] or [`Device::close`], or when it gets
/// as old as the policy allows.
pub struct Recorder {
    device: Device,
    open: Arc<OpenBatch>,
    /// When it last let others run.
    turn_began: Instant,
}

impl Recorder {
    pub(crate) fn new(device: Device, schema: Arc<Schema>) -> Self {
        let open = OpenBatch::new(Arc::clone(device.channel()), schema);
        device.register(&open);
        Self { device, open, turn_began: Instant::now() }
    }

    /// Says how important the events are when a full spool drops the least important ones
    /// ([`WhenFull::DropLeastImportant`](crate::WhenFull::DropLeastImportant)). It counts from the next batch on, and stays
    /// with a batch in a spool on disk.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        self.open.gathering().priority = priority;
        self
    }

    /// The device that the events are of.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Records one event: its time in nanoseconds since the Unix epoch, and one value per field.
    ///
    /// Waits only while the spool is full, and only under [`WhenFull::Wait`](crate::WhenFull::Wait).
    ///
    /// # Errors
    /// The values do not fit the schema (nothing was recorded), or the device is closed.
    pub async fn row(&mut self, time: i64, values: &[Value<'_>]) -> Result<(), RecordError> {
        self.add(Stamp::Time(time), values).await
    }

    /// Records one event that happens now, by the device's [`Clock`](crate::Clock). Waits like [`Recorder::row`].
    ///
    /// # Errors
    /// As for [`Recorder::row`].
    pub async fn record(&mut self, values: &[Value<'_>]) -> Result<(), RecordError> {
        self.add(self.open.channel.link.clock.stamp(), values).await
    }

    async fn add(&mut self, stamp: Stamp, values: &[Value<'_>]) -> Result<(), RecordError> {
        if !self.open.takes(stamp.is_uptime()) {
            self.cut().await?;
        }
        let full = match self.open.add_row(stamp, values) {
            Err(error) if self.open.is_too_full(&error) => {
                self.cut().await?;
                self.open.add_row(stamp, values)?
            }
            added => added?,
        };
        if full { self.cut().await } else { Ok(()) }
    }

    /// Records many events: their times, and one column per field. The fast way.
    ///
    /// # Errors
    /// The columns do not fit the schema or each other, or the device is closed. Batches that were cut before the error
    /// are recorded.
    pub async fn columns(&mut self, times: &[i64], columns: &[Column<'_>]) -> Result<(), RecordError> {
        let mut rows = self.open.rows_per_batch(times.len(), columns);
        let mut start = 0;
        while start < times.len() {
            let gathered = self.open.gathered();
            if gathered > 0 && (gathered >= rows || !self.open.takes(false)) {
                self.cut().await?;
                continue;
            }
            let end = times.len().min(start + rows - gathered);
            let part: Vec<_> = columns.iter().map(|column| part(column, times.len(), start..end)).collect();
            match self.gather(&times[start..end], &part).await {
                // Texts of very different length: the average said that more rows would fit.
                Err(RecordError::Batch(BatchError::TooLarge(_))) if rows > 1 => rows /= 2,
                recorded => {
                    recorded?;
                    start = end;
                }
            }
        }
        Ok(())
    }

    async fn gather(&mut self, times: &[i64], columns: &[Column<'_>]) -> Result<(), RecordError> {
        if self.open.add_columns(times, columns)? { self.cut().await } else { Ok(()) }
    }

    /// Makes a batch of what was recorded since the last one, however small. Waits like [`Recorder::row`].
    ///
    /// # Errors
    /// The device is closed, or its spool's disk failed.
    pub async fn cut(&mut self) -> Result<(), RecordError> {
        self.open.cut().await?;
        if self.turn_began.elapsed() >= TURN {
            tokio::task::yield_now().await;
            self.turn_began = Instant::now();
        }
        Ok(())
    }
}

/// The batch that a recorder gathers. Shared with the device, which cuts it when it is old, or at a flush.
pub(crate) struct OpenBatch {
    channel: Arc<Channel>,
    schema: Arc<Schema>,
    gathering: Mutex<Gathering>,
}

struct Gathering {
    builder: BatchBuilder,
    /// Whether the events' times are uptimes.
    uptime: bool,
    priority: Priority,
    /// When the first event came.
    since: Option<Instant>,
    /// Whether a task waits to cut what gets old.
    ageing: bool,
}

impl OpenBatch {
    fn new(channel: Arc<Channel>, schema: Arc<Schema>) -> Arc<Self> {
        let builder = BatchBuilder::new(Arc::clone(&schema));
        let priority = Priority::default();
        let gathering = Gathering { builder, uptime: false, priority, since: None, ageing: false };
        Arc::new(Self { channel, schema, gathering: Mutex::new(gathering) })
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().expect("a batch is never left half gathered")
    }

    /// Times that are to be rebased stay plain, and are uncertain until they were.
    fn options(&self, uptime: bool) -> EncodeOptions {
        let options = self.channel.link.config.compression.options();
        EncodeOptions { plain_times: uptime, time_uncertain: uptime, ..options }
    }

    /// Whether uptimes, or times, may be added to what was gathered.
    fn takes(&self, uptime: bool) -> bool {
        let gathering = self.gathering();
        gathering.builder.is_empty() || gathering.uptime == uptime
    }

    fn max_rows(&self) -> usize {
        self.channel.link.config.batch.max_rows.clamp(1, limits::MAX_ROWS)
    }

    fn max_bytes(&self) -> usize {
        self.channel.link.config.batch.max_bytes.min(limits::MAX_BATCH_BYTES)
    }

    /// How many rows like these make a batch.
    fn rows_per_batch(&self, rows: usize, columns: &[Column<'_>]) -> usize {
        let bytes: usize = columns.iter().map(column_bytes).sum();
        let bytes_per_row = size_of::<i64>() + bytes / rows.max(1);
        self.max_rows().min(self.max_bytes() / bytes_per_row).max(1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gathering().builder.is_empty()
    }

    fn gathered(&self) -> usize {
        self.gathering().builder.len()
    }

    /// Adds an event; returns whether the batch is to be cut.
    fn add_row(self: &Arc<Self>, stamp: Stamp, values: &[Value<'_>]) -> Result<bool, BatchError> {
        let mut gathering = self.gathering();
        gathering.builder.row(stamp.nanoseconds(), values)?;
        gathering.uptime = stamp.is_uptime();
        Ok(self.added(&mut gathering))
    }

    /// Adds events; returns whether the batch is to be cut.
    fn add_columns(self: &Arc<Self>, times: &[i64], columns: &[Column<'_>]) -> Result<bool, BatchError> {
        let mut gathering = self.gathering();
        gathering.builder.columns(times, columns)?;
        gathering.uptime = false;
        Ok(self.added(&mut gathering))
    }

    /// Whether an event was refused only because of those before it.
    fn is_too_full(&self, error: &BatchError) -> bool {
        matches!(error, BatchError::TooLarge(_) | BatchError::RowCount(_)) && !self.is_empty()
    }

    /// Events were added: starts their ageing, and tells whether the batch is to be cut.
    fn added(self: &Arc<Self>, gathering: &mut Gathering) -> bool {
        if gathering.since.is_none() {
            gathering.since = Some(Instant::now());
            if self.channel.link.config.batch.max_age.is_some() && !gathering.ageing {
                gathering.ageing = true;
                tokio::spawn(age(Arc::downgrade(self)));
            }
        }
        gathering.builder.len() >= self.max_rows() || gathering.builder.bytes() >= self.max_bytes()
    }

    /// Cuts what was gathered, if anything was, waiting for room.
    pub(crate) async fn cut(&self) -> Result<(), RecordError> {
        while self.try_cut()? == Admission::Full {
            let progress = self.channel.progress.notified();
            // Room may have come up in between.
            if self.try_cut()? != Admission::Full {
                return Ok(());
            }
            progress.await;
        }
        Ok(())
    }

    fn try_cut(&self) -> Result<Admission, RecordError> {
        let mut gathering = self.gathering();
        let Gathering { builder, uptime, priority, since, .. } = &mut *gathering;
        if builder.is_empty() {
            return Ok(Admission::Room);
        }
        let count = u32::try_from(builder.len()).expect("a batch has at most MAX_ROWS rows");
        let (mark, options) = (Mark { uptime: *uptime, priority: *priority }, self.options(*uptime));
        let cut = self.channel.cut(&self.schema, mark, count, |first| builder.finish(first, options));
        if matches!(cut, Ok(Admission::Dropped)) {
            builder.clear();
        }
        if !matches!(cut, Ok(Admission::Full)) {
            *since = None;
        }
        cut
    }
}

/// Cuts a batch when its first event is as old as the policy allows, for as long as events keep coming.
async fn age(open: Weak<OpenBatch>) {
    loop {
        let due = {
            let Some(open) = open.upgrade() else { return };
            let mut gathering = open.gathering();
            let Some((since, max_age)) = gathering.since.zip(open.channel.link.config.batch.max_age) else {
                gathering.ageing = false;
                return;
            };
            since + max_age
        };
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
            continue;
        }
        let Some(open) = open.upgrade() else { return };
        // A failure here is the next caller's too: recording reports it.
        if open.cut().await.is_err() {
            open.gathering().since = None;
        }
    }
}

/// The rows `range` of a column for `rows` rows; all of it when it has others, so that encoding says so.
fn part<'a>(column: &Column<'a>, rows: usize, range: Range<usize>) -> Column<'a> {
    let data = match column.data {
        ColumnData::F64(values) => ColumnData::F64(slice(values, &range)),
        ColumnData::F32(values) => ColumnData::F32(slice(values, &range)),
        ColumnData::I64(values) => ColumnData::I64(slice(values, &range)),
        ColumnData::U64(values) => ColumnData::U64(slice(values, &range)),
        ColumnData::Bool(values) => ColumnData::Bool(slice(values, &range)),
        ColumnData::Text(values) => ColumnData::Text(slice(values, &range)),
        ColumnData::Bytes(values) => ColumnData::Bytes(slice(values, &range)),
        ColumnData::Timestamp(values) => ColumnData::Timestamp(slice(values, &range)),
        ColumnData::F32List(values) => {
            ColumnData::F32List(slice(values, &elements(values.len(), rows, &range)))
        }
        ColumnData::I16List(values) => {
            ColumnData::I16List(slice(values, &elements(values.len(), rows, &range)))
        }
    };
    Column { data, validity: column.validity.map(|validity| slice(validity, &range)) }
}

fn slice<'a, T>(values: &'a [T], range: &Range<usize>) -> &'a [T] {
    values.get(range.clone()).unwrap_or(values)
}

/// Where the lists of the rows `range` lie, of `rows` lists of one length with `total` elements together.
fn elements(total: usize, rows: usize, range: &Range<usize>) -> Range<usize> {
    let length = total / rows.max(1);
    range.start * length..range.end * length
}

fn column_bytes(column: &Column<'_>) -> usize {
    match column.data {
        ColumnData::F64(values) => size_of_val(values),
        ColumnData::F32(values) | ColumnData::F32List(values) => size_of_val(values),
        ColumnData::I64(values) | ColumnData::Timestamp(values) => size_of_val(values),
        ColumnData::U64(values) => size_of_val(values),
        ColumnData::Bool(values) => values.len().div_ceil(8),
        ColumnData::Text(values) => values.iter().map(|text| size_of::<u32>() + text.len()).sum(),
        ColumnData::Bytes(values) => values.iter().map(|bytes| size_of::<u32>() + bytes.len()).sum(),
        ColumnData::I16List(values) => size_of_val(values),
    }
}
