//! The HTTP API, under `/v1`: what is stored, read by programs.
//!
//! Handlers take their [parameters], do what reads the disk in the [pool], and answer with JSON, or with a [problem].
//! `openapi.json` says the same to clients; `docs/http.md` to people.
//!
//! There are no tokens yet, so the API is served on loopback addresses only, and to requests that name one: a web page that
//! points a name of its own at this machine gets nothing.

mod coverage;
mod cursor;
mod devices;
mod events;
mod known;
mod lines;
mod outlet;
mod parameters;
mod pool;
mod problem;
mod retention;
mod rollups;
mod segments;
mod server;
mod state;
mod tail;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use icecore_ingest::{Enrolment, Health, LabelHistory, Registry, Writer};
use icecore_replay::Replay;
use icecore_tier::catalog::Catalog;
use icecore_wire::DeviceName;
use tokio::sync::{Semaphore, watch};

use super::stored::Stored;
use crate::config::Config;
use crate::instant;
use known::Known;
use parameters::Parameters;
use pool::Pool;
use problem::{Kind, Problem};

pub(super) use pool::READERS;

/// What is said of the API to programs.
const DOCUMENT: &str = include_str!("openapi.json");

/// What the handlers share.
pub(super) struct Api {
    config: Config,
    stored: Arc<Stored>,
    registry: Arc<Registry>,
    catalog: Arc<Catalog>,
    health: watch::Receiver<Health>,
    /// In nanoseconds since the Unix epoch.
    started: i64,
    running: Instant,
    known: Known,
    pool: Pool,
    tails: Arc<Semaphore>,
}

impl Api {
    /// What is read of `stored`, and known now.
    pub(super) fn new(
        config: &Config,
        stored: Arc<Stored>,
        registry: Arc<Registry>,
        catalog: Arc<Catalog>,
        writer: &Writer,
    ) -> Self {
        Self {
            config: config.clone(),
            stored,
            registry,
            catalog,
            health: writer.health(),
            started: instant::now(),
            running: Instant::now(),
            known: Known::new(writer),
            pool: Pool::default(),
            tails: Arc::new(Semaphore::new(tail::TAILS)),
        }
    }

    /// Everything that is stored, wherever it is.
    fn replay(&self) -> Result<Replay, Problem> {
        Ok(self.stored.replay()?)
    }

    /// Whether a device exists: it is enrolled, has labels, or something was received of it.
    fn check_known(&self, device: &DeviceName) -> Result<(), Problem> {
        if self.known.device(device).state.is_some() {
            return Ok(());
        }
        let (enrolments, labels) = self.registry()?;
        let is_known = enrolments.iter().any(|enrolment| enrolment.name == device.as_str())
            || labels.now(device.as_str()).is_some();
        if is_known { Ok(()) } else { Err(devices::nobody(device)) }
    }

    /// Who is enrolled, and everybody's labels.
    fn registry(&self) -> Result<(Vec<Enrolment>, LabelHistory), Problem> {
        self.registry.refresh().map_err(anyhow::Error::from)?;
        Ok((self.registry.list(), self.registry.labels()))
    }
}

/// Every address, without `/v1`.
fn routes() -> [(&'static str, MethodRouter<Arc<Api>>); 13] {
    [
        ("/openapi.json", get(document)),
        ("/server", get(server::server)),
        ("/devices", get(devices::list)),
        ("/devices/{device}", get(devices::one)),
        ("/devices/{device}/gaps", get(devices::gaps)),
        ("/devices/{device}/state", get(state::of_device)),
        ("/devices/{device}/events", get(events::of_device)),
        ("/devices/{device}/rollups", get(rollups::of_device)),
        ("/coverage", get(coverage::of_range)),
        ("/segments", get(segments::list)),
        ("/segments/{segment}", get(segments::one)),
        ("/retention/plan", get(retention::plan)),
        ("/tail", get(tail::tail)),
    ]
}

/// The API on a loopback address.
pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for (path, handlers) in routes() {
        router = router.route(path, handlers);
    }
    router
        .fallback(async |uri: Uri| {
            let detail = format!("nothing is at /v1{}; /v1/openapi.json lists what there is", uri.path());
            Problem::new(Kind::NotFound, detail)
        })
        .method_not_allowed_fallback(async |method: Method| {
            Problem::new(Kind::Method, format!("{method} does nothing here; GET does"))
        })
        .layer(middleware::from_fn(from_this_machine))
        .with_state(api)
}

/// What is served in place of the API where others could reach it.
pub(super) fn refusal(listen: std::net::SocketAddr) -> Router {
    Router::new().fallback(async move || {
        let detail = format!(
            "the API has no tokens yet, and is served on loopback addresses only, not on {listen}; set http in [listen] to \
             127.0.0.1:4434"
        );
        Problem::new(Kind::Host, detail)
    })
}

async fn document(query: Parameters) -> Result<Response, Problem> {
    query.end()?;
    Ok(([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response())
}

async fn from_this_machine(request: Request, next: Next) -> Response {
    match named_host(request.uri(), request.headers()) {
        Some(host) if !is_loopback(&host) => {
            let detail = format!("the request is for {host}; ask for 127.0.0.1, [::1] or localhost");
            Problem::new(Kind::Host, detail).into_response()
        }
        _ => next.run(request).await,
    }
}

/// The host that a request names; HTTP/1.0 need not name any.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let named = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    named.or_else(|| uri.authority().map(ToString::to_string))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or(address, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_has_the_addresses_that_are_served() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let described: BTreeSet<String> =
            document["paths"].as_object().unwrap().keys().map(String::clone).collect();
        let served: BTreeSet<String> = routes().iter().map(|(path, _)| format!("/v1{path}")).collect();
        assert_eq!(described, served);
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["localhost", "LOCALHOST:4434", "127.0.0.1:4434", "127.1.2.3", "[::1]:4434", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "example.org", "localhost.example.org", "10.0.0.1:4434", "[fe80::1]:4434", "0.0.0.0"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
