//! `icecore retention apply`: a file becomes the policies that apply.

use std::io::Write;

use anyhow::{bail, ensure};

use crate::cli::ApplyArgs;
use crate::config::Config;
use crate::decisions::{self, Outcome, Wish};
use crate::device::registry;
use crate::tiers::{self, InForce};
use crate::{instant, table::counted};

pub(super) fn run(args: &ApplyArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let (text, proposed) = tiers::read_policies(&args.file)?;
    tiers::stores_exist(&proposed, config)?;
    let mut over = 0;
    if let Some(view) = tiers::catalog(config)? {
        let in_force = InForce::of(&view)?;
        over = in_force.version;
        if view.policies()?.is_some_and(|applied| applied.text == text) {
            writeln!(out, "these policies apply already, as version {over}")?;
            return Ok(());
        }
        let labels = registry(config)?.labels();
        let changes =
            tiers::changes(&view, &config.data.dir, &in_force.policies, &proposed, &labels, instant::now())?;
        if changes.are_destructive() {
            write!(out, "{changes}")?;
            ensure!(args.yes, "nothing was applied, because this deletes data sooner; --yes applies it");
        }
    }
    let wish = Wish::Apply { text, over };
    let Outcome::Applied(version) = decisions::ask(config, wish, args.reason.as_deref())? else {
        bail!("the server answered something else; is it of this version?");
    };
    let policies = counted(proposed.written().len() as u64, "policy").replace("policys", "policies");
    writeln!(out, "version {version} applies from now on: {policies}")?;
    Ok(())
}
