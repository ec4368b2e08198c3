//! `icecore retention history`: the policies that ever applied.

use std::io::Write;

use anyhow::Context;

use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table};
use crate::tiers;

pub(super) fn run(version: Option<u64>, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let all = tiers::catalog(config)?.map(|view| view.all_policies()).transpose()?.unwrap_or_default();
    if let Some(version) = version {
        let applied = all.iter().find(|applied| applied.version == version);
        let applied = applied.with_context(|| format!("there never was a version {version}"))?;
        write!(out, "{}", applied.text)?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("version", Align::Right),
        ("applied", Align::Left),
        ("by", Align::Left),
        ("reason", Align::Left),
    ]);
    for applied in &all {
        let decision = &applied.decision;
        let (by, reason) = (decision.by.clone(), decision.reason.clone());
        table.row([applied.version.to_string(), display_seconds(decision.time), by, reason]);
    }
    match table.is_empty() {
        true => writeln!(out, "no policies were applied yet: everything is kept")?,
        false => table.write(out)?,
    }
    Ok(())
}
