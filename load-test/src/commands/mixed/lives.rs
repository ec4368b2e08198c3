//! What a device of each kind goes through, from its first connection until everything is acked that should be.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use icecore_device::{Code, Event, Spool};
use icecore_load::network::{Bottleneck, Conditions, Path};
use tokio::time::{sleep, sleep_until, timeout};

use super::account::Account;
use super::clones;
use super::kind::Kind;
use super::scene::Scene;
use crate::crew::{self, PATIENCE, SPOOL_BYTES};
use crate::fleet;

/// A sleepy device connects for every batch, and has one when others have had eight.
const SLEEP_BATCHES: u32 = 8;
/// How long it stays connected after its ack.
const LINGER: Duration = Duration::from_millis(100);

/// How often a roaming device gets another port, and in between another address and port.
const MOVE_EVERY: Duration = Duration::from_secs(4);

/// A flapping device's outages, one of them at random: the last is longer than a connection lasts in silence.
const OUTAGES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(12)];
/// Up to how long its network is whole in between, at random.
const WHOLE: Duration = Duration::from_secs(10);

/// A slow device's way: a cellular link at the edge of its cell, for itself.
const SLOW: Conditions = Conditions {
    loss: 0.0,
    duplication: 0.0,
    corruption: 0.0,
    reordering: 0.0,
    held: Duration::ZERO,
    delay: Duration::from_millis(250),
    jitter: Duration::from_millis(100),
    bottleneck: Some(Bottleneck { bytes_per_s: 8_000, queue_bytes: 16_000 }),
};

/// The share of the time within which identities are revoked, one after the other.
const REVOCATIONS: std::ops::Range<f64> = 0.4..0.6;
/// Unread events of a device that waits to be turned out.
const EVENT_BUFFER: usize = 1_000;

/// Device `number` comes when it is its turn, and lives as its kind does.
///
/// # Errors
/// When it fails, or is not acked what it should be.
pub(super) async fn live(scene: &Arc<Scene>, number: usize) -> Result<Account> {
    sleep(fleet::turn(number)).await;
    let kind = Kind::of(number);
    match kind {
        Kind::Steady => steady(scene, number).await,
        Kind::Sleepy => sleepy(scene, number).await,
        Kind::Roaming | Kind::Flapping | Kind::Slow => troubled(scene, number, kind).await,
        Kind::Cloned => clones::live(scene, number).await,
        Kind::Revoked => revoked(scene, number).await,
    }
}

async fn steady(scene: &Scene, number: usize) -> Result<Account> {
    let member = scene.crew.connect(number, Some(scene.socket(number))).await?;
    member.stream(scene.pace(number, scene.batch_every)).await?;
    let mut account = Account::new(Kind::Steady);
    account.close(scene, member).await?;
    Ok(account)
}

async fn sleepy(scene: &Scene, number: usize) -> Result<Account> {
    let mut crew = scene.alone(number, scene.server.address().to_string())?;
    crew.config = crew.config.on_demand(LINGER).endpoint(scene.socket(number));
    let member = crew.alone(number, Spool::Memory { max_bytes: SPOOL_BYTES })?;
    member.stream(scene.pace(number, scene.batch_every * SLEEP_BATCHES)).await?;
    let mut account = Account::new(Kind::Sleepy);
    account.close(scene, member).await?;
    Ok(account)
}

/// The trouble is the network's, which is whole again after the last batch.
async fn troubled(scene: &Scene, number: usize, kind: Kind) -> Result<Account> {
    let path = scene.path()?;
    if kind == Kind::Slow {
        path.set(SLOW);
    }
    let crew = scene.crew.by(path.address().to_string(), scene.gateway.clone());
    let member = crew.connect(number, None).await?;
    let trouble = async {
        match kind {
            Kind::Roaming => roam(&path, MOVE_EVERY.mul_f64(scene.place(number))).await,
            Kind::Flapping => flap(&path, number).await,
            _ => pending().await,
        }
    };
    tokio::select! {
        streamed = member.stream(scene.pace(number, scene.batch_every)) => streamed?,
        failed = trouble => match failed? {},
    }
    path.restore();
    path.set(Conditions::default());
    let mut account = Account::new(kind);
    account.close(scene, member).await?;
    Ok(account)
}

async fn roam(path: &Path, first: Duration) -> Result<Infallible> {
    sleep(first).await;
    loop {
        path.rebind()?;
        sleep(MOVE_EVERY).await;
        path.roam()?;
        sleep(MOVE_EVERY).await;
    }
}

async fn flap(path: &Path, number: usize) -> Result<Infallible> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    loop {
        sleep(WHOLE.mul_f64(random.f64())).await;
        let outage = OUTAGES[random.usize(..OUTAGES.len())];
        path.cut(Some(outage));
        sleep(outage).await;
    }
}

/// Its identity is revoked while it sends: its session ends, and nothing that it cuts from then on is stored.
async fn revoked(scene: &Arc<Scene>, number: usize) -> Result<Account> {
    let mut crew = scene.alone(number, scene.server.address().to_string())?;
    crew.config = crew.config.endpoint(scene.socket(number));
    let member = crew.alone(number, Spool::Memory { max_bytes: SPOOL_BYTES })?;
    let turned_out = async {
        let share = REVOCATIONS.start + (REVOCATIONS.end - REVOCATIONS.start) * scene.place(number);
        sleep_until(scene.at(share)).await;
        let mut events = member.device.events(EVENT_BUFFER);
        let revoking = Arc::clone(scene);
        let revoke = move || revoking.server.command(&["device", "revoke", &crew::name(number)]);
        tokio::task::spawn_blocking(revoke).await??;
        let revoked = Instant::now();
        let told = async {
            while let Some(event) = events.next().await {
                if matches!(event, Event::Refused { device: None, code: Code::Revoked, .. }) {
                    return Ok((revoked.elapsed(), member.cut()));
                }
            }
            anyhow::bail!("it was not told that it was revoked")
        };
        timeout(PATIENCE, told).await.with_context(|| format!("its session went on for {PATIENCE:?}"))?
    };
    let streamed = member.stream(scene.pace(number, scene.batch_every));
    let (streamed, turned_out) = tokio::join!(streamed, turned_out);
    streamed?;
    let (after, cut_before) = turned_out?;
    let mut account = Account::new(Kind::Revoked);
    account.turned_out = Some(after);
    // What it was acked must be there, as for all devices; of what was under way nobody knows.
    account.may(&member, cut_before);
    account.leave(member).await?;
    Ok(account)
}
