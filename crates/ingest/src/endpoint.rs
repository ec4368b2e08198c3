//! The QUIC endpoint: binds, lets connections in, hands answers to their sessions, and stops in good order.

mod keys;
mod review;
mod tickets;
mod tls;
mod transport;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use icecore_wire::DeviceName;
use quinn::{Connection, Endpoint, VarInt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use keys::Keys;
use tickets::Tickets;
use tls::Verified;

use crate::limits::Limiter;
use crate::log_limit::LogLimit;
use crate::metrics::EndpointMetrics;
use crate::quarantine::ConflictReports;
use crate::renewal::{Issuer, Renewals};
use crate::session::{self, Conflict, Loss, Owners, Session};
use crate::writer::{Answer, Health, Inbox};
use crate::{RateLimits, Registry, StopError, Writer, WriterHandle};

/// Connections that may be open at once. Measured at some 50 KB each, so that this many take 3 GB.
const MAX_CONNECTIONS: usize = 65_536;

/// How long after the goodbye what is on its way from the devices is still taken. Longer than most round trips; what
/// arrives later is not acked, and sent again.
const DRAIN: Duration = Duration::from_millis(250);

/// Where the endpoint listens and what it shows.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// PEM file with the CA that signs devices' and gateways' certificates.
    pub ca: PathBuf,
    /// PEM file with the server's certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the server's private key.
    pub key: PathBuf,
    /// File with the endpoint's own secrets; made when it does not exist. Kept across restarts, so that devices notice
    /// a restart at once.
    pub endpoint_keys: PathBuf,
    /// Who renews certificates; nobody where the CA's key is kept on another machine.
    pub issuer: Option<Arc<dyn Issuer>>,
    /// How much devices and gateways may send.
    pub limits: RateLimits,
}

/// Why the endpoint could not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The address could not be bound.
    #[error("cannot listen on UDP {listen}: {source}")]
    Bind {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The endpoint's own secrets cannot be read or made.
    #[error("cannot use the endpoint's keys in {path}: {source}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// CA, certificate and key do not go together.
    #[error("cannot use the CA, certificate and key for TLS: {0}")]
    Tls(String),
}

/// How far the endpoint is on its way to the end; sessions watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serving.
    Open,
    /// Clients are told to go away; what they have sent is still taken.
    GoingAway,
    /// Everything is answered: sessions say their last words and close.
    Closing,
}

/// What the sessions share.
pub(crate) struct Hub {
    pub(crate) registry: Arc<Registry>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) limiter: Limiter,
    pub(crate) metrics: EndpointMetrics,
    /// Clients whose certificates TLS has just verified.
    pub(crate) verified: Arc<Verified>,
    /// Lines about clients that are not let in, and about devices that are not attached.
    pub(crate) turned_away: LogLimit,
    pub(crate) refused_attaches: LogLimit,
    pub(crate) renewals: Arc<Renewals>,
    /// The way to the record of conflicts.
    conflicts: ConflictReports,
    /// Who speaks for which device.
    pub(crate) owners: Owners,
    sessions: Mutex<HashMap<u64, Open>>,
}

/// A session and the connection that it is on.
struct Open {
    session: Arc<Session>,
    connection: Connection,
}

impl Hub {
    pub(crate) fn enter(&self, session: &Arc<Session>, connection: &Connection) {
        let open = Open { session: Arc::clone(session), connection: connection.clone() };
        self.sessions().insert(session.id(), open);
        self.metrics.connections.increment(1);
    }

    pub(crate) fn leave(&self, session: &Session) {
        self.sessions().remove(&session.id());
        for device in session.take_owned() {
            self.owners.release(&device, session.id());
        }
        self.metrics.connections.decrement(1);
    }

    /// Has `session` speak for `device`; says who lost it by that.
    pub(crate) fn claim(&self, device: &DeviceName, session: u64) -> Option<Loss> {
        let datagrams_of = |session: u64| {
            let connection = self.sessions().get(&session).map(|open| open.connection.clone())?;
            Some(connection.stats().udp_rx.datagrams)
        };
        self.owners.claim(device, session, Instant::now(), datagrams_of)
    }

    /// Tells a session that another one speaks for `device` now.
    pub(crate) fn take_over(&self, device: &DeviceName, loss: Loss) {
        self.metrics.takeovers.increment(1);
        if loss.conflict == Conflict::Begins {
            self.metrics.identity_conflicts.increment(1);
            tracing::warn!(%device, "sessions keep taking a device over from each other: two clients use one identity");
        }
        if loss.conflict != Conflict::None {
            self.conflicts.report(device, loss.code(), loss.message(device));
        }
        if let Some(loser) = self.session(loss.session) {
            loser.lose(device, loss);
        }
    }

    fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.sessions().get(&id).map(|open| Arc::clone(&open.session))
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        // Insertions and removals leave the map whole even when a task panics.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running endpoint.
pub struct Ingest {
    endpoint: Endpoint,
    address: SocketAddr,
    hub: Arc<Hub>,
    accepting: JoinHandle<()>,
    answering: JoinHandle<()>,
    reviewing: JoinHandle<()>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Binds the endpoint and starts to accept connections on the current tokio runtime, best one with a single
    /// thread: connections share a socket, and hopping between threads costs more than it gains.
    ///
    /// # Errors
    /// When a certificate or key cannot be used, or the address cannot be bound.
    pub fn start(
        options: &IngestOptions,
        registry: Arc<Registry>,
        writer: WriterHandle,
    ) -> Result<Self, IngestError> {
        let keys = Keys::load(&options.endpoint_keys)
            .map_err(|source| IngestError::Keys { path: options.endpoint_keys.clone(), source })?;
        let verified = Arc::<Verified>::default();
        let tickets = Arc::new(Tickets::new(Arc::clone(&registry)));
        let mut config = quinn::ServerConfig::new(tls::config(options, &verified, tickets)?, keys.token());
        config.transport_config(Arc::new(transport::config()));
        let bind = |source| IngestError::Bind { listen: options.listen, source };
        let socket = transport::bind(options.listen).map_err(bind)?;
        let runtime =
            quinn::default_runtime().ok_or_else(|| IngestError::Tls("no tokio runtime".to_owned()))?;
        let endpoint = Endpoint::new(keys.endpoint(), Some(config), socket, runtime).map_err(bind)?;
        let address = endpoint.local_addr().map_err(bind)?;
        let renewals = Arc::new(Renewals::new(options.issuer.clone(), Arc::clone(&registry)));
        let hub = Arc::new(Hub {
            registry,
            inbox: writer.inbox,
            health: writer.health,
            phase: watch::Sender::new(Phase::Open),
            limiter: Limiter::new(options.limits),
            metrics: EndpointMetrics::new(),
            verified,
            turned_away: LogLimit::default(),
            refused_attaches: LogLimit::default(),
            renewals,
            conflicts: writer.conflicts,
            owners: Owners::default(),
            sessions: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(endpoint.clone(), Arc::clone(&hub)));
        let answering = tokio::spawn(answer(Arc::clone(&hub), writer.answers));
        let reviewing = tokio::spawn(review::review_all(Arc::clone(&hub)));
        Ok(Self { endpoint, address, hub, accepting, answering, reviewing })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Number of open sessions.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hub.sessions().len()
    }

    /// Stops in good order: says goodbye to the devices, takes what is on its way, commits it, acks it, and closes the
    /// log. Returns the first position that is not durable. Connections that do not take their last acks within `grace`
    /// are closed without them.
    ///
    /// # Errors
    /// When something that had arrived could not be made durable (it was not acked).
    pub async fn shutdown(self, writer: Writer, grace: Duration) -> Result<u64, StopError> {
        self.endpoint.set_server_config(None);
        self.accepting.abort();
        self.reviewing.abort();
        self.hub.phase.send_replace(Phase::GoingAway);
        tokio::time::sleep(DRAIN).await;
        let stopped = tokio::task::spawn_blocking(|| writer.stop()).await;
        // The writer has hung up, so this ends when the last answer was handed over.
        let _ = self.answering.await;
        self.hub.phase.send_replace(Phase::Closing);
        if tokio::time::timeout(grace, self.endpoint.wait_idle()).await.is_err() {
            tracing::warn!(
                connections = self.hub.sessions().len(),
                "closing connections that did not take their acks"
            );
            self.endpoint.close(VarInt::from_u32(0), b"the server stops");
        }
        stopped.unwrap_or_else(|panic| Err(StopError::Failed(panic.to_string())))
    }
}

async fn accept(endpoint: Endpoint, hub: Arc<Hub>) {
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= MAX_CONNECTIONS {
            incoming.refuse();
        } else {
            tokio::spawn(session::serve(Arc::clone(&hub), incoming));
        }
    }
}

/// Hands the writer's answers to the sessions. Each session is woken once for all that a commit has for it.
async fn answer(hub: Arc<Hub>, mut answers: mpsc::UnboundedReceiver<Vec<Answer>>) {
    let mut woken: Vec<Arc<Session>> = Vec::new();
    while let Some(answers) = answers.recv().await {
        // Answers to one session come in runs, because devices take turns in the queue.
        let mut current: Option<Arc<Session>> = None;
        for answer in answers {
            let id = answer.to.session;
            if current.as_ref().is_none_or(|session| session.id() != id) {
                current = hub.session(id);
            }
            if let Some(session) = &current
                && session.take_answer(answer)
            {
                woken.push(Arc::clone(session));
            }
        }
        for session in woken.drain(..) {
            session.wake();
        }
    }
}
