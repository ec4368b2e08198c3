//! Log output: tracing to standard error, readable or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Installs the process-wide subscriber. `ICECORE_LOG` holds a filter such as `debug` or `icecore_ingest=trace`.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("ICECORE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Human => builder.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
