//! The registry of identities in the journal: whom a lost machine knew, the one that is made anew knows.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use icecore_ingest::Registry;
use icecore_tier::catalog::{self, Catalog, Why};
use tracing::warn;

use crate::config::Config;
use crate::decisions::{self, Wish};
use crate::instant;

/// How often the server looks whether the registry has grown: devices renew their certificates by themselves.
const LOOK: Duration = Duration::from_millis(500);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Has what a command has just added to the registry put on record, by the server or here. It counts in any case; where it cannot be
/// put on record now, that is told, and the server does it when it can. Nothing is to be done where there are no stores, and
/// before a server ever ran.
pub(crate) fn record(config: &Config) {
    if config.journal().is_none() || !catalog::file(&config.data.dir).exists() {
        return;
    }
    if let Err(error) = decisions::ask(config, Wish::Identities, Some("the registry has grown")) {
        eprintln!(
            "warning: done, but not in the journal yet; the server writes it there when it runs: {error:#}"
        );
    }
}

/// What the registry says, as it is on disk.
pub(crate) fn text(registry: &Registry) -> anyhow::Result<String> {
    let path = registry.path();
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Puts what is new in the registry on record, on a thread that lives as long as the process.
pub(crate) fn keep_on_record(catalog: Arc<Catalog>, registry: Arc<Registry>) -> anyhow::Result<()> {
    let run = move || {
        let mut seen = None;
        let mut failed = false;
        loop {
            let length = fs::metadata(registry.path()).map_or(0, |file| file.len());
            let recorded = if seen == Some(length) { Ok(()) } else { put_on_record(&catalog, &registry) };
            match recorded {
                Ok(()) => (seen, failed) = (Some(length), false),
                Err(error) => {
                    if !failed {
                        let error = format!("{error:#}");
                        warn!(
                            error,
                            "what is new in the registry is not in the journal yet; it is tried again"
                        );
                    }
                    failed = true;
                }
            }
            thread::sleep(if failed { AFTER_FAILURE } else { LOOK });
        }
    };
    thread::Builder::new().name("registry".to_owned()).spawn(run).context("cannot start a thread")?;
    Ok(())
}

fn put_on_record(catalog: &Catalog, registry: &Registry) -> anyhow::Result<()> {
    let (time, by, reason) = (instant::now(), "server".to_owned(), "the registry has grown".to_owned());
    catalog.identities(&text(registry)?, &Why { time, by: by.clone(), policy: None, reason })?;
    if !catalog.is_on_record()? {
        catalog.mirror(&by, time)?;
    }
    Ok(())
}
