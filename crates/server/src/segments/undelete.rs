//! `icecore segments undelete`: takes a decision to delete back, while its undo window is open.

use std::io::Write;

use anyhow::bail;

use crate::cli::UndeleteArgs;
use crate::config::Config;
use crate::decisions::{self, Outcome, Wish};

pub(super) fn run(args: &UndeleteArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let outcome = decisions::ask(config, Wish::Undelete(args.id), args.reason.as_deref())?;
    let Outcome::Undeleted(hold) = outcome else {
        bail!("the server answered something else; is it of this version?");
    };
    writeln!(
        out,
        "segment {} is not deleted: hold {hold} keeps it, until `icecore hold remove {hold}`",
        args.id
    )?;
    Ok(())
}
