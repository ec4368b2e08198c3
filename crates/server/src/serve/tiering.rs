//! Moves sealed segments between the tiers, beside ingestion and behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use icecore_ingest::{Labels, Registry};
use icecore_tier::catalog::{Catalog, Deletions, Why};
use icecore_tier::plan::Moment;
use icecore_tier::worker::{Circumstances, Pass, Worker};
use tracing::{error, info, warn};

use super::background;
use crate::config::{Config, Tier};
use crate::instant::now;
use crate::status::disk;

/// The pause between passes while there is more to do.
const NEXT: Duration = Duration::from_millis(200);
/// A clock that is further away from where it should be has been set; then nothing is deleted until the server is started
/// again, since ages cannot be trusted.
const CLOCK_STEP: Duration = Duration::from_secs(3600);
/// A clock that is further ahead of what was on record when the server stopped may be wrong, or the server was off for long: only
/// an operator knows. Longer than most holidays, shorter than what a clock that lost its battery is wrong by.
const CLOCK_LEAP: Duration = Duration::from_hours(14 * 24);

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

/// Sees to it that nothing is deleted after a start at which the clock is far ahead of everything on record, as it is when it was
/// set wrong: until an operator says that it is right. `newest` is the newest received time in the log.
///
/// # Errors
/// When the catalog cannot be read or written.
pub(super) fn distrust_a_leap(catalog: &Catalog, newest: i64) -> anyhow::Result<()> {
    let view = catalog.view()?;
    let (now, last) = (now(), newest.max(view.last_decided()?.unwrap_or(i64::MIN)));
    let Some(reason) = leap(last, now).filter(|_| matches!(view.deletions(), Deletions::On)) else {
        return Ok(());
    };
    warn!(%reason, "nothing is deleted until `icecore catalog allow-deletions`");
    let (by, policy) = ("server".to_owned(), None);
    Ok(catalog.deletions_off(&Why { time: now, by, policy, reason })?)
}

/// Why ages cannot be trusted at a start at `now`, where the last that is on record was at `last`.
fn leap(last: i64, now: i64) -> Option<String> {
    let ahead = Duration::from_nanos(u64::try_from(now.saturating_sub(last)).unwrap_or(0));
    (last > i64::MIN && ahead > CLOCK_LEAP).then(|| {
        let days = ahead.as_secs() / 86_400;
        format!("at the start the clock was {days} days ahead of the newest data and the last decision")
    })
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
            background::behind_ingestion("tiering");
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
        // Labels change without a handshake.
        self.registry.refresh()?;
        let labels = self.registry.labels();
        let unlabelled = Labels::new();
        let labels_at = |device: &str, time| labels.at(device, time).unwrap_or(&unlabelled);
        let now = now();
        let moment = Moment {
            now,
            free: disk::free(&self.data)?,
            off_peak: self.tier.off_peak,
            suspended: self.clock.stepped(now, Instant::now()),
            ..Moment::default()
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
        snapshots = pass.snapshots,
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
    fn a_start_far_ahead_of_all_that_is_on_record_is_noticed() {
        let day = i64::try_from(Duration::from_hours(24).as_nanos()).unwrap();
        assert_eq!(leap(i64::MIN, 20_000 * day), None, "nothing is on record");
        assert_eq!(leap(20_000 * day, 20_013 * day), None);
        assert_eq!(leap(20_000 * day, 0), None, "behind: nothing is due");
        let told = leap(20_000 * day, 34_000 * day).unwrap();
        assert!(told.contains("14000 days ahead"), "{told}");
    }

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
