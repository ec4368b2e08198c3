//! Moves sealed segments between the tiers, beside ingestion and behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use icecore_ingest::{Labels, Registry};
use icecore_tier::plan::Moment;
use icecore_tier::worker::{Circumstances, Pass, Worker};
use tracing::{error, info, warn};

use super::NICENESS;
use crate::config::{Config, Tier};
use crate::instant::now;
use crate::status::disk;

/// The pause between passes while there is more to do.
const NEXT: Duration = Duration::from_millis(200);
/// A clock that is further away from where it should be has been set; then nothing is deleted until the server is started
/// again, since ages cannot be trusted.
const CLOCK_STEP: Duration = Duration::from_secs(3600);

/// What the thread looks at and works with.
pub(super) struct Tiering {
    worker: Worker,
    registry: Arc<Registry>,
    data: PathBuf,
    reserve: u64,
    tier: Tier,
    clock: Clock,
}

/// Notices when the wall clock is set while the server runs.
struct Clock {
    wall: i64,
    steady: Instant,
}

impl Tiering {
    pub(super) fn new(worker: Worker, registry: Arc<Registry>, config: &Config) -> Self {
        let clock = Clock { wall: now(), steady: Instant::now() };
        let (data, reserve) = (config.data.dir.clone(), config.data.reserve.as_u64());
        Self { worker, registry, data, reserve, tier: config.tier.clone(), clock }
    }

    /// Makes one pass after the other, on a thread that lives as long as the process: a pass may be cut off anywhere.
    /// `written` tells how many bytes ingestion has written so far.
    pub(super) fn start(mut self, written: impl Fn() -> u64 + Send + 'static) -> anyhow::Result<()> {
        let run = move || {
            if let Err(error) = rustix::process::nice(NICENESS) {
                warn!(%error, "tiering runs at the usual priority");
            }
            loop {
                let rest = match self.pass(written()) {
                    Ok(pass) if pass.is_quiet() || pass.failed > 0 => self.tier.interval,
                    Ok(_) => NEXT.min(self.tier.interval),
                    Err(error) => {
                        error!(
                            error = format!("{error:#}"),
                            "cannot look after the tiers; it is tried again"
                        );
                        self.tier.interval
                    }
                };
                thread::sleep(rest);
            }
        };
        thread::Builder::new().name("tier".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(())
    }

    fn pass(&mut self, written: u64) -> anyhow::Result<Pass> {
        let labels = self.registry.labels();
        let unlabelled = Labels::new();
        let labels_at = |device: &str, time| labels.at(device, time).unwrap_or(&unlabelled);
        let now = now();
        let moment = Moment {
            now,
            free: disk::free(&self.data)?,
            off_peak: self.tier.off_peak,
            suspended: self.clock.stepped(now, Instant::now()),
            unreachable: Vec::new(),
        };
        let circumstances = Circumstances { moment, reserve: self.reserve, written, labels: &labels_at };
        let pass = self.worker.pass(&circumstances);
        if !pass.is_quiet() {
            tell(&pass);
        }
        Ok(pass)
    }
}

impl Clock {
    /// Why ages cannot be trusted, if the clock was set since the start.
    fn stepped(&self, wall: i64, steady: Instant) -> Option<String> {
        let passed = i64::try_from((steady - self.steady).as_nanos()).unwrap_or(i64::MAX);
        let off = Duration::from_nanos(wall.abs_diff(self.wall.saturating_add(passed)));
        (off > CLOCK_STEP).then(|| format!("the clock was set by {} s while the server ran", off.as_secs()))
    }
}

fn tell(pass: &Pass) {
    info!(
        registered = pass.registered,
        uploaded = pass.uploaded,
        dropped = pass.dropped,
        marked = pass.marked,
        unmarked = pass.unmarked,
        deleted = pass.deleted,
        split = pass.split,
        backlog = pass.backlog,
        failed = pass.failed,
        requests = pass.requests,
        "tiers"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_drifts_is_not() {
        let clock = Clock { wall: 0, steady: Instant::now() };
        let day = Duration::from_hours(24);
        let wall = |time: Duration| i64::try_from(time.as_nanos()).unwrap();
        assert_eq!(clock.stepped(wall(day + Duration::from_secs(60)), clock.steady + day), None);
        assert_eq!(clock.stepped(wall(day - Duration::from_secs(60)), clock.steady + day), None);
        let back = clock.stepped(-wall(day), clock.steady + day).unwrap();
        assert_eq!(back, "the clock was set by 172800 s while the server ran");
        assert!(clock.stepped(wall(3 * day), clock.steady + day).is_some());
    }
}
