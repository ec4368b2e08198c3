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
use icecore_log::sealed::{OpenRowGroup, RowGroup, SealedColumn};
use icecore_log::{Damage, LogError, OnDamage};
use icecore_schema::{Evolution, Upcast};
use icecore_wire::{ColumnType, ColumnView};

use super::arrays::{self, UTC};
use super::assembly::Assembly;
use super::comparison::Comparison;
use super::table::{Origin, Table};
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
    /// How many threads decode sealed segments ([`Order::Stored`] only).
    pub threads: usize,
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
    /// Which of the columns holds the event times, if these have to be looked at.
    times: Option<usize>,
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
        Self { query, table, columns: None, comparisons: Vec::new(), threads }
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
        let mut present = 0;
        let result = {
            let mut counted = |batch: RecordBatch| {
                present += batch.num_rows() as u64;
                if batch.num_rows() == 0 { Ok(()) } else { take(batch) }
            };
            match scan.query.order {
                Order::Stored => reading.stored(scan.threads, &mut counted),
                Order::Log => reading.in_log_order(&mut counted),
                Order::Time | Order::Device => reading.sorted(&mut counted),
            }
        };
        match result {
            Ok(coverage) => Ok(Replayed { coverage: Coverage { present, ..coverage }, cut_short: false }),
            Err(error) if error.is_cut_short() => {
                Ok(Replayed { coverage: Coverage { present, ..Coverage::default() }, cut_short: true })
            }
            Err(error) => Err(error),
        }
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
        let times = match scan.query.times.is_all() {
            true => None,
            false => Some(place_of(table.column("event_time")?)),
        };
        let schema = Arc::new(table.schema().project(&columns)?);
        let evolution = match scan.query.as_written {
            true => Evolution::default(),
            false => replay.evolution(&scan.query)?,
        };
        let (query, comparisons) = (&scan.query, comparisons);
        Ok(Self {
            replay,
            query,
            table,
            evolution,
            columns,
            wanted,
            schema,
            wanted_schema,
            comparisons,
            times,
        })
    }

    /// Sealed segments one after the other as they lie, then what is hot.
    fn stored(&self, threads: usize, take: Take<'_>) -> Result<Coverage, ReplayError> {
        side_by_side(threads, |group: RowGroup| self.read(&group), |pieces| self.give_stored(pieces, take))
    }

    fn give_stored(
        &self,
        pieces: &mut SideBySide<RowGroup, Result<Read, ReplayError>>,
        take: Take<'_>,
    ) -> Result<Coverage, ReplayError> {
        let (mut passed, mut damage) = (Passed::default(), Vec::new());
        let mut hand_over = |read: Result<Read, ReplayError>| {
            let read = read?;
            self.replay.looked_at(read.rows);
            damage.extend(read.damage);
            read.batches.into_iter().try_for_each(&mut *take)
        };
        let sealed_to = self.replay.reader().sealed_to();
        let mut scan = self.replay.scan_of(self.query);
        let positions = self.query.positions();
        scan.positions = Some(positions.start..positions.end.min(sealed_to));
        let mut lost = Vec::new();
        {
            let mut segments = self.replay.reader().sealed_segments(&scan);
            while let Some(open) = segments.next() {
                let open = open?;
                for group in open.rows(&scan) {
                    self.replay.check_stop()?;
                    let group = group?;
                    if self.reads_as_table(group.schema().name())
                        && self.may_hold(&group)
                        && let Some(read) = pieces.give(group)
                    {
                        hand_over(read)?;
                    }
                }
                passed.take_in(self.replay, self.query, segments.take_absent())?;
            }
            passed.take_in(self.replay, self.query, segments.take_absent())?;
            lost.extend(segments.take_damage());
        }
        while let Some(read) = pieces.take() {
            hand_over(read)?;
        }
        lost.append(&mut damage);
        let hot = Query { from_position: self.query.from_position.max(sealed_to), ..self.query.clone() };
        let mut batches = self.replay.batches(&hot);
        self.assemble(take, |assembly, take| {
            for selection in &mut batches {
                let selection = selection?;
                if self.reads_as_table(selection.stored().schema.name()) {
                    selection.for_each(|event| push(assembly, event, take))?;
                }
            }
            Ok(())
        })?;
        let mut coverage = batches.coverage(0)?;
        coverage.add(passed, lost);
        Ok(coverage)
    }

    fn in_log_order(&self, take: Take<'_>) -> Result<Coverage, ReplayError> {
        let mut batches = self.replay.batches(self.query);
        self.assemble(take, |assembly, take| {
            for selection in &mut batches {
                let selection = selection?;
                if self.reads_as_table(selection.stored().schema.name()) {
                    selection.for_each(|event| push(assembly, event, take))?;
                }
            }
            Ok(())
        })?;
        batches.coverage(0)
    }

    fn sorted(&self, take: Take<'_>) -> Result<Coverage, ReplayError> {
        let (mut sorted, coverage) = self.replay.sorted(self.query, |name| self.reads_as_table(name))?;
        self.assemble(take, |assembly, take| {
            while let Some(event) = sorted.next()? {
                push(assembly, &event, take)?;
            }
            Ok(())
        })?;
        Ok(coverage)
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

    fn reads_as_table(&self, schema: &str) -> bool {
        schema == self.table.name()
    }

    /// Whether the statistics of a row group leave it open that the comparisons hold of something in it.
    fn may_hold(&self, group: &RowGroup) -> bool {
        if self.evolution.upcast(group.schema().id()).is_some() {
            return true;
        }
        let layout = self.table.layout(group.schema());
        self.comparisons.iter().all(|(comparison, at)| match self.table.origin(self.columns[*at]) {
            Origin::Field(field) => match layout.and_then(|layout| layout[field]) {
                Some(number) => comparison.may_hold(&group.statistics()[number + 1]),
                // The version lacks the field: all rows are null.
                None => layout.is_none(),
            },
            _ => true,
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
        let layout = self.table.layout(group.schema()).ok_or_else(|| ReplayError::NotInTable {
            name: group.schema().name().to_owned(),
            version: group.schema().version(),
        })?;
        let arrays =
            self.columns.iter().map(|column| self.array(&open, *column, layout)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(open.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(vec![self.keep(batch)?])
    }

    fn array(
        &self,
        open: &OpenRowGroup<'_>,
        column: usize,
        layout: &[Option<usize>],
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
