//! Which columns of which events to read, and reading them.

use std::sync::Arc;
use std::thread;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow_array::{TimestampNanosecondArray, new_null_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use icecore_log::sealed::{OpenRowGroup, RowGroup, SealedColumn, Statistics};
use icecore_log::{Damage, LogError, OnDamage};
use icecore_schema::{Evolution, Upcast};
use icecore_wire::{ColumnType, ColumnView};

use super::arrays::{self, UTC};
use super::assembly::Assembly;
use super::comparison::Comparison;
use super::table::{Origin, Table};
use super::watch::ScanWatch;
use crate::batches::Passed;
use crate::event::Cells;
use crate::side_by_side::{SideBySide, side_by_side};
use crate::{Coverage, Event, Order, Query, Replay, ReplayError, Replayed};

/// Takes record batches.
type Take<'t> = &'t mut dyn FnMut(RecordBatch) -> Result<(), ReplayError>;

/// Which columns of which events of a table to read.
#[derive(Debug, Clone)]
pub struct TableScan {
    /// Which events, and in which order; of its schemas only the table's counts.
    pub query: Query,
    /// The table.
    pub table: Arc<Table>,
    /// The names of the columns, in the order in which they are wanted; `None`: all. Others are not read.
    pub columns: Option<Vec<String>>,
    /// What has to hold of every event.
    pub comparisons: Vec<Comparison>,
    /// What whoever takes the record batches asks of every event, if not more: row groups of which statistics tell that it holds of none
    /// are not read, and all others are handed over whole. NaN is as if it were every number.
    pub prunes: Vec<Comparison>,
    /// How many threads decode sealed segments ([`Order::Stored`] only).
    pub threads: usize,
    /// Sees how far it is, and can end it.
    pub watch: Arc<ScanWatch>,
}

/// A scan whose names were looked up.
struct Reading<'s> {
    replay: &'s Replay,
    query: &'s Query,
    table: &'s Arc<Table>,
    evolution: Evolution,
    /// The columns that are read: those that are wanted, then those that only decide which rows are.
    columns: Vec<usize>,
    /// How many of them are wanted.
    wanted: usize,
    /// Of all of them, and of the wanted ones.
    schema: SchemaRef,
    wanted_schema: SchemaRef,
    /// What is compared, and which of the columns it is.
    comparisons: Vec<(&'s Comparison, usize)>,
    /// What row groups are passed over by, and the numbers of the table's columns.
    prunes: Vec<(&'s Comparison, usize)>,
    /// Which of the columns holds the event times, if these have to be looked at.
    times: Option<usize>,
    watch: &'s ScanWatch,
}

/// What came of a row group.
#[derive(Default)]
struct Read {
    batches: Vec<RecordBatch>,
    damage: Vec<Damage>,
    /// Rows that were looked at.
    rows: u64,
}

impl TableScan {
    /// All columns of the events of `query`, decoded on as many threads as there are processors.
    #[must_use]
    pub fn new(query: Query, table: Arc<Table>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (columns, comparisons, prunes) = (None, Vec::new(), Vec::new());
        Self { query, table, columns, comparisons, prunes, threads, watch: Arc::default() }
    }

    /// The schema of its record batches.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn schema(&self) -> Result<SchemaRef, ReplayError> {
        Ok(Arc::new(self.table.schema().project(&self.wanted()?)?))
    }

    /// The numbers of the columns.
    fn wanted(&self) -> Result<Vec<usize>, ReplayError> {
        match &self.columns {
            None => Ok((0..self.table.schema().fields().len()).collect()),
            Some(names) => names.iter().map(|name| self.table.column(name)).collect(),
        }
    }
}

impl Replay {
    /// The table of the one schema whose events `query` asks for.
    ///
    /// # Errors
    /// When they are of several schemas, which are named, or of none.
    pub fn table(&self, query: &Query) -> Result<Table, ReplayError> {
        Table::new(&self.schemas(query)?)
    }

    /// Hands over the events of `scan` as record batches, in the query's order. See [`Cursor`](crate::Cursor) for an iterator.
    ///
    /// # Errors
    /// When the scan asks for what there is not, or something cannot be read.
    pub fn record_batches(&self, scan: &TableScan, take: Take<'_>) -> Result<Replayed, ReplayError> {
        let reading = Reading::new(self, scan)?;
        let (mut present, mut coverage) = (0, Coverage::default());
        let result = {
            let mut counted = |batch: RecordBatch| {
                present += batch.num_rows() as u64;
                if batch.num_rows() == 0 { Ok(()) } else { take(batch) }
            };
            match scan.query.order {
                Order::Stored => reading.stored(scan.threads, &mut counted, &mut coverage),
                Order::Log => reading.in_log_order(&mut counted, &mut coverage),
                Order::Time | Order::Device => reading.sorted(&mut counted, &mut coverage),
            }
        };
        let cut_short = match result {
            Ok(()) => false,
            Err(error) if error.is_cut_short() => true,
            Err(error) => return Err(error),
        };
        let unstored = self.unstored(|device| scan.query.wants_device(device))?;
        Ok(Replayed { coverage: Coverage { present, unstored, ..coverage }, cut_short })
    }
}

impl<'s> Reading<'s> {
    fn new(replay: &'s Replay, scan: &'s TableScan) -> Result<Self, ReplayError> {
        let table = &scan.table;
        let mut columns = scan.wanted()?;
        let wanted = columns.len();
        let wanted_schema = Arc::new(table.schema().project(&columns)?);
        let mut place_of = |column: usize| {
            columns.iter().position(|known| *known == column).unwrap_or_else(|| {
                columns.push(column);
                columns.len() - 1
            })
        };
        let mut comparisons = Vec::new();
        for comparison in &scan.comparisons {
            comparisons.push((comparison, place_of(table.column(&comparison.column)?)));
        }
        let prunes = scan.prunes.iter().map(|prune| Ok((prune, table.column(&prune.column)?)));
        let prunes = prunes.collect::<Result<_, ReplayError>>()?;
        let times = match scan.query.times.is_all() {
            true => None,
            false => Some(place_of(table.column("event_time")?)),
        };
        let schema = Arc::new(table.schema().project(&columns)?);
        let evolution = match scan.query.as_written {
            true => Evolution::default(),
            false => replay.evolution(&scan.query)?,
        };
        Ok(Self {
            replay,
            query: &scan.query,
            table,
            evolution,
            columns,
            wanted,
            schema,
            wanted_schema,
            comparisons,
            prunes,
            times,
            watch: &scan.watch,
        })
    }

    /// Sealed segments one after the other as they lie, then what is hot.
    fn stored(&self, threads: usize, take: Take<'_>, coverage: &mut Coverage) -> Result<(), ReplayError> {
        let (mut passed, mut damage) = (Passed::default(), Vec::new());
        let sealed = side_by_side(
            threads,
            |group: RowGroup| self.read(&group),
            |pieces| self.give_sealed(pieces, take, &mut passed, &mut damage),
        );
        coverage.add(passed, damage);
        sealed?;
        let from_position = self.query.from_position.max(self.replay.reader().sealed_to());
        self.give_batches(&Query { from_position, ..self.query.clone() }, take, coverage)
    }

    fn give_sealed(
        &self,
        pieces: &mut SideBySide<RowGroup, Result<Read, ReplayError>>,
        take: Take<'_>,
        passed: &mut Passed,
        damage: &mut Vec<Damage>,
    ) -> Result<(), ReplayError> {
        let mut lost = Vec::new();
        let mut hand_over = |read: Result<Read, ReplayError>| {
            let read = read?;
            self.looked_at(read.rows);
            lost.extend(read.damage);
            read.batches.into_iter().try_for_each(&mut *take)
        };
        let sealed_to = self.replay.reader().sealed_to();
        let mut scan = self.replay.scan_of(self.query);
        let positions = self.query.positions();
        scan.positions = Some(positions.start..positions.end.min(sealed_to));
        self.watch.plan(self.replay.reader().sealed().count());
        let mut segments = self.replay.reader().sealed_segments(&scan);
        while let Some(open) = segments.next() {
            let open = open?;
            self.watch.opened(&open, |schema| self.reads_as_table(schema.name()));
            for group in open.rows(&scan) {
                self.check_stop()?;
                let group = group?;
                if !self.reads_as_table(group.schema().name()) || !self.may_hold(&group) {
                    continue;
                }
                self.watch.reads_group();
                if let Some(read) = pieces.give(group) {
                    hand_over(read)?;
                }
            }
            passed.take_in(self.replay, self.query, segments.take_absent())?;
        }
        passed.take_in(self.replay, self.query, segments.take_absent())?;
        while let Some(read) = pieces.take() {
            hand_over(read)?;
        }
        damage.extend(segments.take_damage());
        damage.append(&mut lost);
        Ok(())
    }

    /// Hands over batches in the order of the log.
    fn give_batches(
        &self,
        query: &Query,
        take: Take<'_>,
        coverage: &mut Coverage,
    ) -> Result<(), ReplayError> {
        let mut batches = self.replay.batches(query);
        let given = self.assemble(take, |assembly, take| {
            for selection in &mut batches {
                self.check_stop()?;
                let selection = selection?;
                self.watch.looked_at(selection.stored().count.into());
                if self.reads_as_table(selection.stored().schema.name()) {
                    selection.for_each(|event| push(assembly, event, take))?;
                }
            }
            Ok(())
        });
        batches.tell(coverage);
        given
    }

    fn in_log_order(&self, take: Take<'_>, coverage: &mut Coverage) -> Result<(), ReplayError> {
        self.give_batches(self.query, take, coverage)
    }

    fn sorted(&self, take: Take<'_>, coverage: &mut Coverage) -> Result<(), ReplayError> {
        let (mut sorted, passed) = self.replay.sorted(self.query, |name| self.reads_as_table(name))?;
        *coverage = passed;
        self.assemble(take, |assembly, take| {
            while let Some(event) = sorted.next()? {
                push(assembly, &event, take)?;
            }
            Ok(())
        })
    }

    /// Lets `fill` put rows into record batches, and hands over what is wanted of them.
    fn assemble(
        &self,
        take: Take<'_>,
        fill: impl FnOnce(&mut Assembly, Take<'_>) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let mut assembly = Assembly::new(self.table, &self.columns, Arc::clone(&self.schema));
        let mut keep = |batch: RecordBatch| take(self.keep(batch)?);
        fill(&mut assembly, &mut keep)?;
        assembly.finish()?.map_or(Ok(()), keep)
    }

    fn check_stop(&self) -> Result<(), ReplayError> {
        match self.watch.is_stopped() {
            true => Err(ReplayError::Output(std::io::ErrorKind::BrokenPipe.into())),
            false => self.replay.check_stop(),
        }
    }

    fn looked_at(&self, events: u64) {
        self.watch.looked_at(events);
        self.replay.looked_at(events);
    }

    fn reads_as_table(&self, schema: &str) -> bool {
        schema == self.table.name()
    }

    /// Whether the statistics of a row group leave it open that something in it is wanted.
    fn may_hold(&self, group: &RowGroup) -> bool {
        if self.evolution.upcast(group.schema().id()).is_some() {
            return true;
        }
        let Some(layout) = self.table.layout(group.schema()) else { return true };
        let may_hold = |column, leaves_open: &dyn Fn(&Statistics) -> bool| match self.table.origin(column) {
            Origin::Field(field) => match layout[field] {
                Some(number) => leaves_open(&group.statistics()[number + 1]),
                // The version lacks the field: all rows are null.
                None => false,
            },
            _ => true,
        };
        self.comparisons.iter().all(|(comparison, at)| {
            may_hold(self.columns[*at], &|statistics| comparison.may_hold(statistics))
        }) && self.prunes.iter().all(|(prune, column)| {
            may_hold(*column, &|statistics| statistics.nans > 0 || prune.may_hold(statistics))
        })
    }

    /// Reads a row group; where it is damaged and that is to be passed over, as much of it as can be read.
    fn read(&self, group: &RowGroup) -> Result<Read, ReplayError> {
        let rows = group.rows();
        match self.read_whole(group) {
            Ok(batches) => Ok(Read { batches, damage: Vec::new(), rows }),
            Err(ReplayError::Log(LogError::Damaged(mut damage)))
                if self.query.on_damage == OnDamage::Skip =>
            {
                let Some(halves) = group.halves() else {
                    let part = &group.parts()[0];
                    damage.positions = Some(part.position..part.position + u64::from(part.count));
                    return Ok(Read { damage: vec![*damage], rows, ..Read::default() });
                };
                let mut read = Read { rows, ..Read::default() };
                for half in halves {
                    let half = self.read(&half)?;
                    read.batches.extend(half.batches);
                    read.damage.extend(half.damage);
                }
                Ok(read)
            }
            Err(error) => Err(error),
        }
    }

    fn read_whole(&self, group: &RowGroup) -> Result<Vec<RecordBatch>, ReplayError> {
        let open = group.open()?;
        if open.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(upcast) = self.evolution.upcast(group.schema().id()) {
            return self.read_as_newest(group, &open, upcast);
        }
        let version = group.schema().version();
        let layout = self
            .table
            .layout(group.schema())
            .ok_or_else(|| ReplayError::NotInTable { name: group.schema().name().to_owned(), version })?;
        let arrays = self
            .columns
            .iter()
            .map(|column| self.array(&open, *column, (version, layout)))
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(open.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(vec![self.keep(batch)?])
    }

    fn array(
        &self,
        open: &OpenRowGroup<'_>,
        column: usize,
        (version, layout): (u32, &[Option<usize>]),
    ) -> Result<ArrayRef, ReplayError> {
        let (parts, rows) = (open.parts(), open.len());
        Ok(match self.table.origin(column) {
            Origin::Device => arrays::of_devices(parts, rows)?,
            Origin::Epoch => {
                Arc::new(UInt32Array::from(arrays::repeated(parts, rows, |part| part.source.number)))
            }
            Origin::Sequence => {
                Arc::new(UInt64Array::from(arrays::counted(parts, rows, |part| part.first_sequence)))
            }
            Origin::Position => {
                Arc::new(UInt64Array::from(arrays::counted(parts, rows, |part| part.position)))
            }
            Origin::EventTime => arrays::of_field(ColumnType::Timestamp, open.times()?)?,
            Origin::ReceivedTime => {
                let received = arrays::repeated(parts, rows, |part| part.received);
                Arc::new(TimestampNanosecondArray::from(received).with_timezone(UTC))
            }
            Origin::TimeUncertain => {
                let uncertain = arrays::repeated(parts, rows, |part| part.time_uncertain);
                Arc::new(BooleanArray::from(uncertain))
            }
            Origin::Version => Arc::new(UInt32Array::from(vec![version; rows])),
            Origin::Field(field) => match layout[field] {
                Some(number) => arrays::of_field(self.table.field_type(field), open.column(number)?)?,
                None => new_null_array(self.table.schema().field(column).data_type(), rows),
            },
        })
    }

    /// Reads rows of an older version as the newest: row by row, since a field may be computed of several.
    fn read_as_newest(
        &self,
        group: &RowGroup,
        open: &OpenRowGroup<'_>,
        upcast: &Arc<Upcast>,
    ) -> Result<Vec<RecordBatch>, ReplayError> {
        let fields = group.schema().fields().len();
        let columns = (0..fields).map(|field| open.column(field)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<ColumnView<'_>> = columns.iter().map(SealedColumn::view).collect();
        let times = arrays::of_field(ColumnType::Timestamp, open.times()?)?;
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        let mut assembly = Assembly::new(self.table, &self.columns, Arc::clone(&self.schema));
        let mut batches = Vec::new();
        let mut row = 0;
        for part in open.parts() {
            for offset in 0..u64::from(part.count) {
                let values = columns.iter().map(|column| column.value(row));
                let cells = upcast.apply(values);
                let event = Event {
                    source: &part.source,
                    schema: upcast.to(),
                    sequence: part.first_sequence + offset,
                    position: part.position + offset,
                    event_time: times[row],
                    received_time: part.received,
                    time_uncertain: part.time_uncertain,
                    cells: Cells::Upcast { upcast, cells: &cells },
                };
                batches.extend(assembly.push(&event)?);
                row += 1;
            }
        }
        batches.extend(assembly.finish()?);
        batches.into_iter().map(|batch| self.keep(batch)).collect()
    }

    /// The wanted rows and columns of a record batch.
    fn keep(&self, batch: RecordBatch) -> Result<RecordBatch, ReplayError> {
        let mut mask: Option<BooleanBuffer> = None;
        let and = |mask: &mut Option<BooleanBuffer>, next: BooleanBuffer| {
            *mask = Some(mask.take().map_or_else(|| next.clone(), |mask| &mask & &next));
        };
        if let Some(at) = self.times {
            let times = batch.column(at).as_primitive::<TimestampNanosecondType>().values();
            let wanted =
                BooleanBuffer::collect_bool(times.len(), |row| self.query.times.contains(times[row]));
            and(&mut mask, wanted);
        }
        for (comparison, at) in &self.comparisons {
            let holds = comparison
                .mask(&batch, *at)
                .ok_or_else(|| ReplayError::NoNumbers { column: comparison.column.clone() })?;
            and(&mut mask, holds);
        }
        let kept = match mask {
            Some(mask) if mask.count_set_bits() < batch.num_rows() => {
                filter_record_batch(&batch, &BooleanArray::new(mask, None))?
            }
            _ => batch,
        };
        if self.wanted == self.columns.len() {
            return Ok(kept);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        let arrays = kept.columns()[..self.wanted].to_vec();
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.wanted_schema), arrays, &options)?)
    }
}

fn push(assembly: &mut Assembly, event: &Event<'_>, take: Take<'_>) -> Result<(), ReplayError> {
    match assembly.push(event)? {
        Some(batch) => take(batch),
        None => Ok(()),
    }
}
