//! The command line of `icecore sql`.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::SourceArgs;

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The statement, such as `SELECT device, avg(temp) FROM weather GROUP BY device`; without it, statements are read from standard input,
    /// each to its `;`, with a prompt on a terminal.
    pub(crate) statement: Option<String>,

    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// `table`: columns that line up; `csv`: with a header; `json`: an object a line; `arrow`: an Arrow IPC stream.
    #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
    pub(crate) format: SqlFormat,

    /// Where to: a file, which is there when it is whole, or `-` for standard output.
    #[arg(long, value_name = "FILE", default_value = "-", requires = "statement")]
    pub(crate) out: PathBuf,

    /// Memory that sorting, grouping and joining may take; beyond it, what can be put into TMPDIR is.
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub(crate) memory: ByteSize,

    /// Read around damaged parts of the log, and around segments that are missing or whose store does not answer, instead of
    /// ending at the first; they are listed on standard error.
    #[arg(long)]
    pub(crate) skip_damaged: bool,

    /// Fail, after the rows, if not everything that was asked for is there.
    #[arg(long)]
    pub(crate) require_complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SqlFormat {
    Table,
    Csv,
    Json,
    Arrow,
}
