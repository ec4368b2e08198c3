//! `icecore retention`: policies, before they apply and after.

mod apply;
mod check;
mod history;
mod plan;

use std::io::Write;

use crate::cli::RetentionCommand;
use crate::config::Config;
pub(crate) use plan::plan_by_policies;

/// Runs one of the commands.
pub(crate) fn run(command: &RetentionCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        RetentionCommand::Check { file } => check::run(file, config, out),
        RetentionCommand::Apply(args) => apply::run(args, config, out),
        RetentionCommand::History { version } => history::run(*version, config, out),
        RetentionCommand::Plan(args) => plan::run(args, config, out),
    }
}
