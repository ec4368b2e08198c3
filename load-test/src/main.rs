//! `icecore-load`: a fleet of simulated devices, measured and verified.

mod bare_quic;
mod closed_loop;
mod commands;
mod connection;
mod crew;
mod disconnects;
mod figures;
mod fleet;
mod meter;
mod mqtt;
mod options;
mod spread;
mod workload;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use icecore_device::Identity;
use icecore_load::server::TestServer;

use crate::connection::Target;
use crate::disconnects::Disconnects;
use crate::figures::Figures;
use crate::options::Options;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if std::env::args_os().nth(1).is_some_and(|word| word == bare_quic::SINK_COMMAND) {
        return runtime.block_on(bare_quic::run_sink());
    }
    let options = Options::parse();
    if let Some(command) = &options.command {
        return runtime.block_on(commands::run(command));
    }
    let figures = runtime.block_on(measure(&options))?;
    print!("{figures}");
    if let Some(path) = &options.json {
        commands::write_json(path, &figures)?;
    }
    Ok(())
}

/// Runs what `options` ask for against a server of our own, or the one they name.
async fn measure(options: &Options) -> Result<Figures> {
    let mut own = match options.server {
        Some(_) => None,
        None => Some(TestServer::start(options.dir.as_deref())?),
    };
    let (server, identity) = match (&own, &options.server, &options.identity) {
        (Some(own), _, _) => (own.address().to_string(), own.identity()),
        (None, Some(server), Some(identity)) => (server.clone(), identity.clone()),
        (None, _, _) => unreachable!("the command line requires a server and an identity together"),
    };
    let identity = Identity::load(&identity)?;
    let duration = Duration::from_secs(options.seconds);
    let disconnects = Disconnects::default();
    let mut figures = match options.devices {
        None => {
            let disconnects = disconnects.clone();
            let target = Target { server, identity, batch: options.batch, disconnects };
            closed_loop::run(&target, options.connections, duration, own.as_ref()).await?
        }
        Some(devices) => {
            let batch = fleet::events_per_batch(options.rate, options.batch_every)?;
            let disconnects = disconnects.clone();
            let target = Target { server, identity, batch, disconnects };
            fleet::run(&target, devices, options.batch_every, duration, own.as_ref()).await?
        }
    };
    print!("{disconnects}");
    if let Some(own) = &mut own {
        figures.zstd_ratio = own.compression_ratio()?;
        own.stop()?;
        verify(own, figures.events)?;
    }
    if options.devices.is_none() {
        let bare = bare_quic::bytes_per_second(options.connections, options.batch, duration / 3).await?;
        let sent = figures.wire_bytes_per_event * figures.events_per_s;
        figures.bare_quic_bytes_per_s = Some(bare);
        figures.ratio_to_bare_quic = Some(sent / bare);
    }
    Ok(figures)
}

/// Every acked event must be in the log, and no other: nothing else wrote to it.
fn verify(server: &TestServer, acked: u64) -> Result<()> {
    let stored = server.replay_count()?.events;
    ensure!(stored == acked, "{acked} events were acked, but a replay of the log has {stored}");
    println!("verified: a replay of the log has exactly the {acked} acked events");
    Ok(())
}
