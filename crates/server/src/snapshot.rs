//! `icecore snapshot`: the snapshots of the state, with or without a running server.

use std::io::Write;
use std::sync::Arc;

use anyhow::bail;
use bytesize::ByteSize;
use icecore_log::RealDisk;
use icecore_state::snapshot::{Kind, Snapshot, SnapshotError, SnapshotHead, Snapshots};

use crate::cli::SnapshotCommand;
use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table, count, counted};

/// Runs one of the commands.
pub(crate) fn run(command: SnapshotCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let (snapshots, mut faults) = Snapshots::new(Arc::new(RealDisk), &config.data.dir).list()?;
    match command {
        SnapshotCommand::List => list(&snapshots, out)?,
        SnapshotCommand::Verify => faults.extend(verify(&snapshots, out)?),
    }
    for fault in &faults {
        writeln!(out, "{fault}")?;
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "{} cannot be used; the server starts from an older one and the log",
        counted(faults.len() as u64, "snapshot")
    )
}

fn list(snapshots: &[Snapshot], out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        ("block", Align::Right),
        ("kind", Align::Left),
        ("position", Align::Right),
        ("devices", Align::Right),
        ("size", Align::Right),
        ("written", Align::Left),
    ]);
    for snapshot in snapshots {
        let SnapshotHead { point, kind, devices, created, .. } = snapshot.head();
        let kind = match kind {
            Kind::Full => "full".to_owned(),
            Kind::Delta { base } => format!("delta of {base}"),
        };
        table.row([
            count(point.block),
            kind,
            count(point.position),
            count(*devices),
            ByteSize::b(snapshot.bytes()).display().si().to_string(),
            display_seconds(*created),
        ]);
    }
    match table.is_empty() {
        true => writeln!(out, "there is no snapshot yet")?,
        false => table.write(out)?,
    }
    Ok(())
}

/// Says of each whether it is whole; returns what is wrong with those that are not.
fn verify(snapshots: &[Snapshot], out: &mut impl Write) -> anyhow::Result<Vec<SnapshotError>> {
    let mut faults = Vec::new();
    for snapshot in snapshots {
        match snapshot.verify() {
            Ok(()) => {
                let devices = counted(snapshot.head().devices, "device");
                writeln!(out, "{}: whole, {devices}", snapshot.path().display())?;
            }
            Err(fault) => faults.push(fault),
        }
    }
    Ok(faults)
}
