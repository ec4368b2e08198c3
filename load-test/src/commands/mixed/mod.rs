//! `mixed`: a fleet as it is out there, with sleepy, roaming, flapping, slow, cloned and revoked devices among the steady
//! ones.
//!
//! - `kind`: which devices are what
//! - `scene`: where and when it happens
//! - `lives`: what a device of each kind goes through
//! - `clones`: the same of a device whose spool and identity are copied
//! - `account`: what became of a device, and what the log must hold of it
//! - `memory`: whether the server's stays flat
//! - `figures`: what is printed

mod account;
mod clones;
mod figures;
mod kind;
mod lives;
mod memory;
mod scene;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use icecore_load::promises::Contents;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use self::figures::{Figures, Told};
use self::kind::Kind;
use self::memory::Memory;
use self::scene::Scene;
use super::Output;
use crate::options::{duration, positive};

/// Runs a fleet of all kinds of devices at once and proves by a replay of the log that each kind was kept its promises;
/// fails when the server's memory grows.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Devices; of forty, 24 are steady, 4 sleepy, 4 roaming, 3 flapping, 3 slow, 1 cloned and 1 revoked.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = positive)]
    devices: usize,

    /// How long they send.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Events per second and device.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    rate: usize,

    /// How often a device cuts a batch; a sleepy one does so more rarely.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    batch_every: Duration,

    #[command(flatten)]
    pub(super) output: Output,
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let scene = Arc::new(Scene::set(options).await?);
    println!("{} devices come, {} of them with an identity of their own", options.devices, scene.own());
    let mut lives = JoinSet::new();
    for number in 0..options.devices {
        let scene = Arc::clone(&scene);
        lives.spawn(async move {
            let lived = lives::live(&scene, number).await;
            lived.with_context(|| format!("device {number}, which is {}", Kind::of(number)))
        });
    }
    let watching = tokio::spawn(watch(Arc::clone(&scene)));
    let mut accounts = Vec::with_capacity(options.devices);
    while let Some(life) = lives.join_next().await {
        accounts.push(life.context("a device panicked")??);
    }
    let (memory, server_cores) = watching.await.context("the watcher of the memory panicked")??;
    let told = Told::by(&scene.server.metrics()?);

    let scene = Arc::into_inner(scene).context("a device still lives")?;
    let (mut server, crew) = scene.end();
    // Asked to stop, it would wait for the last words of clients that are gone; and what was acked is on disk.
    server.kill()?;
    let contents = Contents::read(&server.path("data"))?;
    let stored = crew.acked.compare(&contents)?;
    let mut expected = 0;
    for account in &mut accounts {
        expected += account.check(&contents)?;
    }
    ensure!(
        expected == stored.events,
        "of {} stored events, {expected} are of devices' epochs",
        stored.events
    );
    let acked = crew.acked.events();
    println!(
        "verified: {acked} acked events are in the log, byte for byte and once, each kind's as they should be; {} more \
         were not acked any more",
        stored.events - acked
    );
    print!("{}", crew.disconnects);
    Ok(Figures::of(options, &accounts, told, memory, server_cores))
}

/// Watches the server from the first batch to the last: its memory, and the processor cores that it uses.
async fn watch(scene: Arc<Scene>) -> Result<(Memory, f64)> {
    sleep_until(scene.begin).await;
    let cpu = scene.server.cpu_seconds()?;
    let memory = Memory::watch(&scene.server, scene.end).await?;
    let used = scene.server.cpu_seconds()? - cpu;
    Ok((memory, used / scene.begin.elapsed().as_secs_f64()))
}
