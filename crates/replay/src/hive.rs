//! Hive-partitioned Parquet: a directory of files that other tools read as one table for each schema, and that a later run adds to.
//!
//! `schema=weather/date=2013-01-31/events-0-81000-0.parquet`: the date is that of the event time in UTC, the numbers are the positions of
//! the log that the run covered, and the file's number where a partition has several of one run. A file has every column of the
//! [`Table`](crate::Table); with a partition for each device, its name stands in the path only.
//!
//! What was exported is in `_icecore.json`, by position. A run writes its files under names that nobody looks for, then writes there
//! which they are, and only then gives them their names: whenever it is killed, the next run finishes that or clears it away.

mod partitions;
mod state;

use std::path::PathBuf;
use std::sync::Arc;

use icecore_log::SegmentId;

use crate::{Coverage, Order, Query, Replay, ReplayError, Table, TableScan};
use partitions::Partitions;
use state::Published;

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct HiveExport {
    /// Which events. Its order and positions do not count.
    pub query: Query,
    /// Whether every device has partitions of its own.
    pub by_device: bool,
    /// Where the files go.
    pub directory: PathBuf,
}

/// What an export added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// New files.
    pub files: usize,
    /// Positions up to here were exported before.
    pub from: u64,
    /// Positions up to here are exported now.
    pub to: u64,
    /// A segment that is not in the store yet; the next run goes on with it.
    pub waits_for: Option<SegmentId>,
    /// What was added, and what is missing of all that was asked for.
    pub coverage: Coverage,
}

impl Replay {
    /// Adds to a directory what the log has of `export` and the directory lacks.
    ///
    /// # Errors
    /// When something cannot be read or written; then nothing was added.
    pub fn export(&self, export: &HiveExport) -> Result<Exported, ReplayError> {
        let mut published = Published::open(export, self.reader().log())?;
        let (to, waits_for) = self.complete_to()?;
        let from = published.position();
        let mut exported = Exported { from, to: to.max(from), waits_for, ..Exported::default() };
        let query = Query {
            order: Order::Stored,
            from_position: from,
            to_position: Some(exported.to),
            ..export.query.clone()
        };
        if query.from_position >= exported.to {
            return Ok(exported);
        }
        let mut schemas = self.schemas(&query)?;
        schemas.dedup_by(|a, b| a.name() == b.name());
        let mut files = Vec::new();
        let mut coverage: Option<Coverage> = None;
        for schema in schemas {
            let versions = self.versions(&query, schema.name())?;
            let table = Arc::new(Table::new(&versions)?);
            let mut partitions = Partitions::new(export, Arc::clone(&table), from..exported.to);
            let scan = TableScan::new(query.clone(), table);
            let replayed = self.record_batches(&scan, &mut |batch| partitions.write(&batch))?;
            if replayed.cut_short {
                return Err(ReplayError::Output(std::io::ErrorKind::BrokenPipe.into()));
            }
            files.extend(partitions.finish()?);
            let present = coverage.map_or(0, |coverage| coverage.present);
            coverage = Some(Coverage { present: present + replayed.coverage.present, ..replayed.coverage });
        }
        exported.files = files.len();
        exported.coverage = coverage.unwrap_or_default();
        published.publish(exported.to, &files)?;
        Ok(exported)
    }

    /// Up to which position everything is there to be read, or is known never to be; and the first segment that is still to come.
    fn complete_to(&self) -> Result<(u64, Option<SegmentId>), ReplayError> {
        let end = self.reader().positions().end;
        let Some(elsewhere) = self.elsewhere() else { return Ok((end, None)) };
        for (id, child) in self.reader().sealed() {
            if elsewhere.never_came(id) {
                return Ok((child.positions.start, Some(id)));
            }
        }
        Ok((end, None))
    }
}
