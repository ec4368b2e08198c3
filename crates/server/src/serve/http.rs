//! The HTTP side: `/healthz`, `/readyz`, `/metrics` and the [API](super::api), on a thread and runtime of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use icecore_ingest::Health;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tracing::{error, warn};

use super::api::{self, Api};
use super::background;

/// Bounds of every histogram of seconds: from a tenth of an fsync of an idle disk to a stall.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0];

/// Bounds of every histogram of bytes, up to a block with one batch too many.
const BYTES_BUCKETS: [f64; 6] = [4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// How often histograms are folded, which otherwise keep every sample until the next scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where the process is in its life; the log's health is apart from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Ready,
    Stopping,
}

/// Makes this process record the metrics that the other crates report.
pub(super) fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES_BUCKETS)?
        .install_recorder()
        .context("cannot record metrics")
}

/// Listens on `address` and serves until the process ends; returns the address, of which port 0 has become a real one. The API
/// is served where there is one.
pub(super) fn start(
    address: SocketAddr,
    api: Option<Arc<Api>>,
    metrics: PrometheusHandle,
    health: watch::Receiver<Health>,
    stage: watch::Receiver<Stage>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on TCP {address}"))?;
    let bound = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    // What is dropped with a task must not be the last of it: it waits for requests of its own.
    let kept = api.clone();
    let api = match api {
        Some(api) => api::router(api),
        None => {
            warn!(
                http = %bound,
                "the API is not served: it has no tokens yet, and others could reach it at this address"
            );
            api::refusal(bound)
        }
    };
    let router = router(metrics.clone(), health, stage).nest("/v1", api);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(api::READERS)
        .on_thread_start(|| background::behind_ingestion("the API"))
        .build()?;
    let serve = async move {
        tokio::spawn(upkeep(metrics));
        axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
    };
    let run = move || {
        if let Err(problem) = runtime.block_on(serve) {
            error!(%problem, "HTTP stopped");
        }
        drop(kept);
    };
    thread::Builder::new().name("http".to_owned()).spawn(run).context("cannot start the HTTP thread")?;
    Ok(bound)
}

fn router(
    metrics: PrometheusHandle,
    health: watch::Receiver<Health>,
    stage: watch::Receiver<Stage>,
) -> Router {
    let ready = move || {
        let (stage, health) = (*stage.borrow(), health.borrow().clone());
        async move { readiness(stage, &health) }
    };
    let metrics = move || {
        let text = metrics.render();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready means: a batch that arrives now will be made durable.
fn readiness(stage: Stage, health: &Health) -> impl IntoResponse + use<> {
    let unavailable = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    match (stage, health) {
        (Stage::Stopping, _) | (_, Health::Stopped) => unavailable("stopping"),
        (_, Health::DiskFull { message }) => unavailable(&format!("disk full: {message}")),
        (_, Health::Failed { message }) => unavailable(&format!("log failed: {message}")),
        (Stage::Ready, Health::Running) => (StatusCode::OK, "ready\n".to_owned()),
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
