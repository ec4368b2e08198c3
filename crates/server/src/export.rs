//! `icecore export`: the log as Hive-partitioned Parquet, to which the next run adds what is new.

use std::path::Path;

use anyhow::ensure;
use icecore_replay::HiveExport;

use crate::cli::{ExportArgs, PartitionBy};
use crate::replay::progress::Progress;
use crate::replay::{explain, source, tell};
use crate::table::counted;

/// Adds to the directory what it lacks; `config` is the configuration's file.
pub(crate) fn run(args: &ExportArgs, config: &Path) -> anyhow::Result<()> {
    ensure!(args.partition_by.contains(&PartitionBy::Date), "--partition-by is `date`, or `date,device`");
    let replay = source::open(&args.source, config)?;
    let query = args.selection.query();
    let progress = Progress::start(&replay.plan(&query));
    let replay = replay.counting_in(progress.looked_at());
    let by_device = args.partition_by.contains(&PartitionBy::Device);
    let export = HiveExport { query, by_device, directory: args.out.clone() };
    let exported = replay.export(&export).map_err(explain)?;
    drop(progress);
    let (files, events) =
        (counted(exported.files as u64, "file"), counted(exported.coverage.present, "event"));
    println!(
        "{files} with {events} added to {}: positions {} to {}",
        args.out.display(),
        exported.from,
        exported.to
    );
    if let Some(segment) = exported.waits_for {
        println!("segment {segment} is not in the store yet; a later run goes on there");
    }
    if exported.from == exported.to {
        return Ok(());
    }
    tell(&exported.coverage, args.selection.require_complete)
}
