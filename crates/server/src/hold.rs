//! `icecore hold`: what may not be deleted, whatever the policies say.

use std::collections::HashMap;
use std::io::Write;

use anyhow::bail;
use icecore_tier::catalog::{Catalog, What};
use icecore_tier::hold::Scope;

use crate::cli::{AddHoldArgs, HoldCommand};
use crate::config::Config;
use crate::decisions::{self, Outcome, Wish};
use crate::instant::display_seconds;
use crate::table::{Align, Table, count};
use crate::tiers;

/// Runs one of the commands.
pub(crate) fn run(command: &HoldCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        HoldCommand::Add(args) => add(args, config, out),
        HoldCommand::Remove { number, reason } => {
            decisions::ask(config, Wish::RemoveHold(*number), reason.as_deref())?;
            writeln!(out, "hold {number} is gone; what it kept is for the policies again")?;
            Ok(())
        }
        HoldCommand::List => list(config, out),
    }
}

fn add(args: &AddHoldArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let AddHoldArgs { device, schema, from, to, reason } = args;
    let scope = Scope { device: device.clone(), schema: schema.clone(), from: *from, to: *to };
    let Outcome::Held(number) = decisions::ask(config, Wish::AddHold(scope.clone()), reason.as_deref())?
    else {
        bail!("the server answered something else; is it of this version?");
    };
    let segments = segments_held(config)?.get(&number).copied().unwrap_or(0);
    writeln!(
        out,
        "hold {number} stands on {scope}: {} sealed segments now, and all to come",
        count(segments)
    )?;
    Ok(())
}

fn list(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        ("hold", Align::Right),
        ("what", Align::Left),
        ("segments", Align::Right),
        ("since", Align::Left),
        ("by", Align::Left),
        ("reason", Align::Left),
    ]);
    if let Some(view) = tiers::catalog(config)? {
        let mut added = HashMap::new();
        for decision in view.history(..)? {
            let decision = decision?;
            if let What::HoldAdded { hold } = &decision.what {
                added.insert(hold.number, decision);
            }
        }
        let segments = segments_held(config)?;
        for hold in view.holds()? {
            let decision = added.get(&hold.number);
            table.row([
                hold.number.to_string(),
                hold.scope.to_string(),
                count(segments.get(&hold.number).copied().unwrap_or(0)),
                decision.map(|decision| display_seconds(decision.time)).unwrap_or_default(),
                decision.map(|decision| decision.by.clone()).unwrap_or_default(),
                decision.map(|decision| decision.reason.clone()).unwrap_or_default(),
            ]);
        }
    }
    match table.is_empty() {
        true => writeln!(out, "nothing is held; `icecore hold add` keeps data from being deleted")?,
        false => table.write(out)?,
    }
    Ok(())
}

/// How many segments each hold stands on.
fn segments_held(config: &Config) -> anyhow::Result<HashMap<u64, u64>> {
    let mut held = HashMap::new();
    for entry in Catalog::read(&config.data.dir)?.view()?.segments()? {
        for number in entry?.holds {
            *held.entry(number).or_insert(0) += 1;
        }
    }
    Ok(held)
}
