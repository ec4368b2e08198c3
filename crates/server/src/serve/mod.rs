//! `icecore serve`: the crates put together into a running server.
//!
//! QUIC runs on a runtime of one thread, this one; the log's writer has threads of its own; HTTP and Flight SQL have a thread
//! and a runtime each, so that a scrape never takes a turn of ingestion's.

mod api;
mod background;
mod classes;
#[cfg_attr(not(feature = "sql"), path = "without_sql.rs")]
mod flight;
mod http;
mod rolling;
mod sealing;
mod stored;
mod tiering;

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use icecore_ingest::{
    Health, Ingest, IngestOptions, Issuer, Rate, RateLimits, Registry, SnapshotOptions, StartError, Writer,
    WriterOptions,
};
use icecore_log::{LogError, Recovery};
use icecore_schema::Declared;
use icecore_tier::catalog::Catalog;
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::worker::Worker;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::certificates::Authority;
use crate::cli::ServeArgs;
use crate::config::{Config, Limits, OFF, SchemaMode, Snapshot, Tls};
use crate::decisions::{self, Occasion};
use crate::saved::SavedState;
use crate::tiers::InForce;
use crate::{identities, saved, stores};
use api::Api;
use classes::Classes;
use flight::Flight;
use http::Stage;
use rolling::Rolling;
use sealing::SealThread;
use stored::Stored;
use tiering::Tiering;

/// How long a stopping server waits for devices to take their last acks.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long `/readyz` shows a fatal error before the process ends.
const FATAL_GRACE: Duration = Duration::from_secs(1);

/// Runs the server until it is told to stop (then in good order, `Ok`) or its log fails.
pub(crate) fn run(args: &ServeArgs, config: &Config) -> anyhow::Result<()> {
    let metrics = http::install_metrics()?;
    fs::create_dir_all(&config.data.dir)
        .with_context(|| format!("cannot create {}", config.data.dir.display()))?;
    let registry = Arc::new(Registry::open(config.data.dir.join("registry.jsonl"))?);
    let (writer, handle) =
        Writer::start(&config.data.dir, writer_options(args, config)?).map_err(with_way_out)?;
    tell_recovery(writer.recovery());
    let tiers = Tiers::start(config, &registry, &writer)?;
    let stored = Arc::new(Stored::new(config, Arc::clone(&tiers.catalog), &writer)?);
    let api = tiers.api(config, &stored, &writer);
    let (stage, stages) = watch::channel(Stage::Ready);
    let flight = tiers.flight(config, &stored, stages.clone())?;
    let sealing = SealThread::start(writer.sealer(), Arc::clone(&tiers.classes), config.seal.clone())?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = runtime.block_on(async {
        // Signals are caught before anybody is told that the server is ready.
        let mut signals = Signals::catch()?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot catch signals")?;
        let ingest = Ingest::start(&ingest_options(config)?, Arc::clone(&registry), handle)?;
        let http = http::start(config.listen.http, api, metrics, writer.health(), stages)?;
        info!(
            quic = %ingest.local_addr(),
            http = %http,
            flight = %flight.as_ref().map_or_else(|| OFF.to_owned(), |flight| flight.address().to_string()),
            data = %config.data.dir.display(),
            position = writer.durable_position(),
            "ready"
        );

        let mut health = writer.health();
        let stopped = tokio::select! {
            name = signals.next() => Ok(name),
            message = failed(&mut health) => Err(message),
            never = tiers.propose_at(&mut hangup, config) => match never {},
        };
        stage.send_replace(Stage::Stopping);
        match stopped {
            Ok(signal) => {
                info!(signal, "stopping");
                stop(ingest, writer, signals).await
            }
            Err(message) => {
                error!(%message, "the log failed; nothing is acknowledged any more");
                tokio::time::sleep(FATAL_GRACE).await;
                Err(anyhow!("the log failed: {message}"))
            }
        }
    });
    sealing.stop();
    // Flight SQL hears of it in any case.
    drop(stage);
    if let Some(flight) = flight {
        flight.stop();
    }
    // Whatever still waits for a disk must not keep the process from ending.
    runtime.shutdown_background();
    stopped
}

/// What decides about sealed segments: the catalog, and the classes of the policies that apply.
struct Tiers {
    catalog: Arc<Catalog>,
    registry: Arc<Registry>,
    classes: Arc<Classes>,
}

impl Tiers {
    /// Opens the catalog, listens to what operators decide, and moves what the policies say.
    fn start(config: &Config, registry: &Arc<Registry>, writer: &Writer) -> anyhow::Result<Self> {
        let (stores, waiting) = (stores::open(config)?, stores::waiting()?);
        let catalog = Arc::new(decisions::open(config, &stores, &waiting)?);
        tiering::distrust_a_leap(&catalog, writer.recovery().received)?;
        propose(config, &catalog, registry, Occasion::Start);
        let policies = InForce::of(&catalog.view()?)?.policies;
        let classes = Arc::new(Classes::new(policies, Arc::clone(registry)));
        let told = Arc::clone(&classes);
        let applied = move |policies| told.apply(policies);
        decisions::serve(&config.data.dir, Arc::clone(&catalog), Arc::clone(registry), applied)?;
        identities::keep_on_record(Arc::clone(&catalog), Arc::clone(registry))?;
        let sealer = writer.sealer();
        let elsewhere = {
            let catalog = Arc::clone(&catalog);
            Arc::new(Elsewhere::new(move || catalog.view(), stores.values().cloned(), waiting.clone()))
        };
        let data = config.data.dir.clone();
        let (known, by) = (Arc::clone(&catalog), Arc::clone(&classes));
        Rolling::new(data, known, by, writer, elsewhere.resolver())?.start()?;
        let worker =
            Worker::new(Arc::clone(&catalog), stores.into_values(), &sealer, &config.data.dir, waiting)
                .with_state(Box::new(SavedState::of(&config.data.dir, writer.live())), config.journal());
        Tiering::new(worker, Arc::clone(registry), config).start(writer.written_bytes())?;
        Ok(Self { catalog, registry: Arc::clone(registry), classes })
    }

    /// What programs read over HTTP, where only this machine reaches it: there are no tokens yet.
    fn api(&self, config: &Config, stored: &Arc<Stored>, writer: &Writer) -> Option<Arc<Api>> {
        let (registry, catalog) = (Arc::clone(&self.registry), Arc::clone(&self.catalog));
        let is_loopback = config.listen.http.ip().is_loopback();
        is_loopback.then(|| Arc::new(Api::new(config, Arc::clone(stored), registry, catalog, writer)))
    }

    /// Serves SQL, where the configuration says so.
    fn flight(
        &self,
        config: &Config,
        stored: &Arc<Stored>,
        stage: watch::Receiver<Stage>,
    ) -> anyhow::Result<Option<Flight>> {
        let Some(address) = config.flight.listen else { return Ok(None) };
        Flight::start(address, config, Arc::clone(stored), Arc::clone(&self.registry), stage).map(Some)
    }

    /// Takes the policy file up again whenever the process is told to hang up.
    async fn propose_at(&self, hangup: &mut Signal, config: &Config) -> Infallible {
        loop {
            hangup.recv().await;
            info!(file = %config.tier.policies.display(), "looking at the policy file again");
            let (catalog, registry) = (Arc::clone(&self.catalog), Arc::clone(&self.registry));
            let (classes, config) = (Arc::clone(&self.classes), config.clone());
            let look = move || {
                propose(&config, &catalog, &registry, Occasion::Hangup);
                match catalog.view().map_err(Into::into).and_then(|view| InForce::of(&view)) {
                    Ok(in_force) => classes.apply(in_force.policies),
                    Err(error) => warn!(error = format!("{error:#}"), "cannot read the policies that apply"),
                }
            };
            // It reads what all segments contain: nothing for the thread that takes events in.
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                warn!(%error, "looking at the policy file broke off");
            }
        }
    }
}

/// Applies the policy file where it is new and deletes nothing sooner.
fn propose(config: &Config, catalog: &Catalog, registry: &Registry, occasion: Occasion) {
    if let Err(error) = decisions::propose(config, catalog, registry, occasion) {
        warn!(
            error = format!("{error:#}"),
            "the policy file was not applied; what applied before still does"
        );
    }
}

async fn stop(ingest: Ingest, writer: Writer, mut signals: Signals) -> anyhow::Result<()> {
    tokio::select! {
        stopped = ingest.shutdown(writer, STOP_GRACE) => {
            let position = stopped?;
            info!(position, "stopped");
            Ok(())
        }
        signal = signals.next() => {
            warn!(signal, "stopping at once");
            Err(anyhow!("stopped by a second {signal} before everything was committed"))
        }
    }
}

/// Waits until the log has failed for good; returns why.
async fn failed(health: &mut watch::Receiver<Health>) -> String {
    loop {
        let state = health.borrow_and_update().clone();
        if let Health::Failed { message } = state {
            return message;
        }
        if health.changed().await.is_err() {
            return "the writer ended unexpectedly".to_owned();
        }
    }
}

/// Adds to an error about damage how the operator accepts it.
fn with_way_out(error: StartError) -> anyhow::Error {
    match &error {
        StartError::Log(LogError::Damaged(damage)) => {
            let place = damage.name();
            anyhow!(
                "the log is damaged: {damage}; to start without what is lost there: --accept-damage {place}"
            )
        }
        _ => error.into(),
    }
}

/// Says what opening the log set aside or passed over.
fn tell_recovery(recovery: &Recovery) {
    if let Some(torn) = &recovery.torn {
        warn!(
            file = %torn.file.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            kept_at = %torn.kept_at.display(),
            "set a torn write aside; it was never acknowledged"
        );
    }
    for damage in &recovery.accepted {
        warn!(%damage, "passed over accepted damage");
    }
}

fn writer_options(args: &ServeArgs, config: &Config) -> anyhow::Result<WriterOptions> {
    let log = icecore_log::Options {
        segment_bytes: config.log.segment.as_u64(),
        accept_damage: args.accept_damage.clone(),
        ..icecore_log::Options::default()
    };
    let Snapshot { every_events, every } = config.snapshot;
    Ok(WriterOptions {
        log,
        snapshots: SnapshotOptions { every_events, every },
        zstd_level: config.log.compression,
        reserve_bytes: config.data.reserve.as_u64(),
        declared: Declared::load(&config.schemas.dir)?,
        only_declared: config.schemas.mode == SchemaMode::Declared,
        elsewhere: saved::elsewhere(config)?,
        ..WriterOptions::default()
    })
}

fn ingest_options(config: &Config) -> anyhow::Result<IngestOptions> {
    Ok(IngestOptions {
        listen: config.listen.quic,
        ca: config.tls.ca.clone(),
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        endpoint_keys: config.data.dir.join("endpoint.keys"),
        issuer: issuer(config)?,
        limits: rate_limits(config),
    })
}

/// Renews certificates where the CA's key is here.
fn issuer(config: &Config) -> anyhow::Result<Option<Arc<dyn Issuer>>> {
    let Tls { ca, ca_key, .. } = &config.tls;
    if !ca_key.exists() {
        info!(ca_key = %ca_key.display(), "there is no key of the certificate authority here: certificates are not renewed");
        return Ok(None);
    }
    Ok(Some(Arc::new(Authority::load(ca, ca_key)?)))
}

fn rate_limits(config: &Config) -> RateLimits {
    let Limits { device_events, device_bytes, gateway_events, gateway_bytes } = config.limits;
    RateLimits {
        device: Rate { events_per_s: device_events, bytes_per_s: device_bytes.as_u64() },
        gateway: Rate { events_per_s: gateway_events, bytes_per_s: gateway_bytes.as_u64() },
    }
}

/// The signals that stop a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
