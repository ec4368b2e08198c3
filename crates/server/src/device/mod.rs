//! `icecore device`: enrolling, and what the registry and the log say about devices.
//!
//! All of it reads and writes files of the data directory and works with or without a running server.

mod enroll;
mod gaps;
mod label;
mod list;
mod revoke;
mod show;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use icecore_ingest::Registry;
use icecore_log::{LogError, LogReader, OnDamage, RealDisk, Scan};
use icecore_state::Ledger;

use crate::cli::DeviceCommand;
use crate::config::Config;
pub(crate) use show::epochs;

/// Runs one of the commands.
pub(crate) fn run(command: &DeviceCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        DeviceCommand::Enroll(args) => enroll::run(args, config, out),
        DeviceCommand::Revoke { name } => revoke::run(name, config, out),
        DeviceCommand::Label(args) => label::run(args, config, out),
        DeviceCommand::List { silent_for } => list::run(*silent_for, config, out),
        DeviceCommand::Show { name } => show::run(name, config, out),
        DeviceCommand::Gaps { name } => gaps::run(name, config, out),
    }
}

/// The registry of the data directory.
pub(crate) fn registry(config: &Config) -> anyhow::Result<Registry> {
    Ok(Registry::open(config.data.dir.join("registry.jsonl"))?)
}

/// What the log holds of every device; nothing if a server never ran. What is damaged is told and left out.
pub(crate) fn ledger(data: &Path) -> anyhow::Result<Ledger> {
    let reader = LogReader::open(Arc::new(RealDisk), data)?;
    let mut ledger = Ledger::default();
    match reader.facts(&mut |fact| ledger.apply(fact)) {
        Ok(()) => return Ok(ledger),
        Err(LogError::Damaged(damage)) => eprintln!("warning: this leaves out what is damaged: {damage}"),
        Err(error) => return Err(error.into()),
    }
    let around = Scan { on_damage: OnDamage::Skip, ..Scan::default() };
    let mut ledger = Ledger::default();
    for record in reader.scan(around) {
        ledger.apply(&record?.fact());
    }
    Ok(ledger)
}
