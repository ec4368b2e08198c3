//! Seals finished segments of the hot log, beside ingestion and behind it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use icecore_log::{LogError, Manifest, SealPlan, Sealer, Sealing};
use tracing::{error, info, warn};

use super::background;
use super::classes::Classes;
use crate::config::Seal;
use crate::instant::now;

/// Hot segments that are sealed at once, in bytes: what a seal holds in memory follows from it.
const HOT_BYTES: u64 = 256 << 20;
/// How often it looks for finished segments, and for the end.
const LOOK: Duration = Duration::from_millis(500);
/// How long it waits after a seal that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The sealing thread.
pub(super) struct SealThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl SealThread {
    /// Seals what is due by `when`, by the classes of the policies that apply.
    pub(super) fn start(sealer: Sealer, classes: Arc<Classes>, when: Seal) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            background::when_idle("sealing");
            seal_until(&stopped, &sealer, &classes, &when);
        };
        let thread =
            thread::Builder::new().name("seal".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { stop, thread })
    }

    /// Breaks a seal off, which leaves everything as it was, and waits for the thread.
    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.join());
    }
}

fn seal_until(stop: &AtomicBool, sealer: &Sealer, classes: &Classes, when: &Seal) {
    let mut rest = LOOK;
    while wait(rest, stop) {
        rest = match seal_once(stop, sealer, classes, when) {
            Ok(()) => LOOK,
            Err(error) if matches!(error.downcast_ref(), Some(LogError::SealsPoisoned)) => {
                error!(%error, "nothing is sealed any more");
                return;
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot seal; the hot segments stay, and it is tried again"
                );
                AFTER_FAILURE
            }
        };
    }
}

/// Waits, and returns whether to go on.
fn wait(time: Duration, stop: &AtomicBool) -> bool {
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let nap = left.min(LOOK);
        thread::sleep(nap);
        left -= nap;
    }
    !stop.load(Ordering::Relaxed)
}

/// Seals the oldest finished segments if it is their time.
fn seal_once(stop: &AtomicBool, sealer: &Sealer, classes: &Classes, when: &Seal) -> anyhow::Result<()> {
    let finished = sealer.finished()?;
    let bytes: u64 = finished.iter().map(|segment| segment.bytes).sum();
    let age = i64::try_from(when.after.as_nanos()).unwrap_or(i64::MAX);
    let is_due = finished.first().is_some_and(|oldest| oldest.finished.saturating_add(age) <= now());
    if !is_due && bytes < when.backlog.as_u64() {
        return Ok(());
    }
    let class_of = classes.now()?;
    let mut pace = |_| match stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let plan = SealPlan {
        hot_bytes: HOT_BYTES,
        classify: &|schema, device, received| class_of.class(schema.name(), device.as_str(), received),
        pace: &mut pace,
        now: now(),
    };
    if let Sealing::Done(manifest) = sealer.seal(plan)? {
        tell(&manifest);
    }
    Ok(())
}

fn tell(manifest: &Manifest) {
    info!(
        manifest = manifest.number,
        sources = manifest.sources.len(),
        segments = manifest.children.len(),
        events = manifest.children.iter().map(|child| child.rows).sum::<u64>(),
        bytes = manifest.children.iter().map(|child| child.bytes).sum::<u64>(),
        "sealed"
    );
}
