//! Flight SQL: statements over gRPC, for ADBC, JDBC and whoever else speaks it.
//!
//! Handles and tickets carry the statement itself, with the values of its parameters, so the server keeps nothing of a client between two calls:
//! a handle never runs out, and one that somebody made up is no more than a statement that he could have sent. Sessions are the same: what one
//! asks for stands in its cookie.
//!
//! - `service`: the calls
//! - `metadata`, `info`: what clients ask about the server and its tables
//! - `statement`: handles, tickets and parameters
//! - `answers`: statements that are being answered, each in a thread of its own
//! - `rows`: columns as every client reads them
//! - `session`: what a client wants of all its statements, and hears of them
//! - `status`: errors, as gRPC has them

mod answers;
mod info;
mod metadata;
mod rows;
mod service;
mod session;
mod statement;
mod status;

use std::error::Error;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::Database;
use service::Service;

/// How long a client may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Calls of a connection that are looked at together.
const CALLS: usize = 32;
/// How often a silent client is asked whether it is there, and how long it has to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long clients may take to hear that the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A server of Flight SQL.
#[derive(Debug)]
pub struct FlightServer {
    service: Service,
    server: Server,
    stopping: watch::Sender<bool>,
}

/// Flight SQL cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FlightError(String);

impl FlightServer {
    /// Statements over `database`, for clients that trust who issued `certificate`: it and its `key` are PEM.
    ///
    /// # Errors
    /// When the certificate and the key are not to be used, or what clients are told about the server cannot be put together.
    pub fn new(database: Database, certificate: &[u8], key: &[u8]) -> Result<Self, FlightError> {
        let (stopping, stop) = watch::channel(false);
        let service =
            Service::new(database, stop).map_err(|status| FlightError(status.message().to_owned()))?;
        let identity = Identity::from_pem(certificate, key);
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE))
            .map_err(|error| {
                FlightError(format!("the certificate of the server cannot be shown: {}", chain(&error)))
            })?
            .concurrency_limit_per_connection(CALLS)
            .http2_keepalive_interval(Some(KEEP_ALIVE.0))
            .http2_keepalive_timeout(Some(KEEP_ALIVE.1));
        Ok(Self { service, server, stopping })
    }

    /// Answers whoever connects, until `stop` is done: then statements that are still being answered end with an error that says so.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), FlightError> {
        let Self { service, mut server, stopping } = self;
        let failed = |error: std::io::Error| FlightError(error.to_string());
        listener.set_nonblocking(true).map_err(failed)?;
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
        let mut stopped = stopping.subscribe();
        let serve = server.add_service(FlightServiceServer::new(service)).serve_with_incoming_shutdown(
            incoming.with_nodelay(Some(true)),
            async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            },
        );
        let grace = async {
            stop.await;
            stopping.send_replace(true);
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            served = serve => served.map_err(|error| FlightError(chain(&error))),
            () = grace => Ok(()),
        }
    }
}

/// What an error says, and what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        said = format!("{said}: {error}");
        behind = error.source();
    }
    said
}
