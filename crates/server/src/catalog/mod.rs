//! `icecore catalog`: making the catalog anew.

mod rebuild;
mod state;
mod tails;

use std::io::Write;

use crate::cli::CatalogCommand;
use crate::config::Config;
use crate::decisions::{self, Wish};

/// Runs one of the commands.
pub(crate) fn run(command: &CatalogCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        CatalogCommand::Rebuild => rebuild::run(config, out),
        CatalogCommand::AllowDeletions { reason } => {
            decisions::ask(config, Wish::AllowDeletions, reason.as_deref())?;
            writeln!(out, "policies may delete again")?;
            Ok(())
        }
    }
}
