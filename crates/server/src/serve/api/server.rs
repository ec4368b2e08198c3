//! `/v1/server`: what runs here, and how far it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use icecore_ingest::Health;
use icecore_log::{RealDisk, Watermark};
use icecore_replay::format_instant;
use icecore_tier::catalog::Deletions;
use icecore_wire::limits;
use serde_json::{Value, json};

use super::Api;
use super::cursor::{LONGEST_PAGE, PAGE};
use super::parameters::Parameters;
use super::pool::READERS;
use super::problem::{Kind, Problem};
use super::tail::TAILS;

pub(super) async fn server(State(api): State<Arc<Api>>, query: Parameters) -> Result<Json<Value>, Problem> {
    query.end()?;
    let reading = Arc::clone(&api);
    api.pool.run(move |_| reading.describe()).await.map(Json)
}

impl Api {
    fn describe(&self) -> Result<Value, Problem> {
        let mark = Watermark::published(&RealDisk, &self.config.data.dir);
        let mark = mark.ok_or_else(|| Problem::new(Kind::Unreadable, "the watermark cannot be read"))?;
        let view = self.catalog.view()?;
        let deletions = match view.deletions() {
            Deletions::On => None,
            Deletions::Off { reason } => Some(reason),
        };
        let log: String = mark.log.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "log": log,
            "term": mark.term,
            "position": mark.position,
            "sealed_to": view.sealed_to(),
            "health": health(&self.health.borrow()),
            "started": format_instant(self.started),
            "uptime_seconds": self.running.elapsed().as_secs(),
            "stores": self.config.store.keys().collect::<Vec<_>>(),
            "segments": view.count()?,
            "policies": view.policies()?.map_or(0, |applied| applied.version),
            "deletions_suspended": deletions,
            "limits": limits_as_json(&self.config),
        }))
    }
}

fn health(health: &Health) -> Value {
    let (state, message) = match health {
        Health::Running => ("running", None),
        Health::DiskFull { message } => ("disk full", Some(message)),
        Health::Failed { message } => ("failed", Some(message)),
        Health::Stopped => ("stopped", None),
    };
    json!({ "state": state, "message": message })
}

fn limits_as_json(config: &crate::config::Config) -> Value {
    let rates = &config.limits;
    json!({
        "batch_events": limits::MAX_ROWS,
        "batch_bytes": limits::MAX_BATCH_BYTES,
        "ranges_of_an_epoch": limits::MAX_RANGES,
        "open_epochs_of_a_device": limits::MAX_OPEN_EPOCHS,
        "device_events_a_second": rates.device_events,
        "device_bytes_a_second": rates.device_bytes.as_u64(),
        "gateway_events_a_second": rates.gateway_events,
        "gateway_bytes_a_second": rates.gateway_bytes.as_u64(),
        "page": PAGE,
        "longest_page": LONGEST_PAGE,
        "readers": READERS,
        "tails": TAILS,
    })
}
