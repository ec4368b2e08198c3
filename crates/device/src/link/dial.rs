//! From an address to an open connection.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportErrorCode, ZeroRttAccepted};
use tokio::time::Instant;

use crate::event::Disconnect;
use crate::transport::{self, Family};

/// How long the first attempts may take, for as long as an outage may be a restart; each one after them twice as long,
/// up to [`MAX_ATTEMPT`].
///
/// Short, because an attempt that began before a server was up learns of it only by its next retransmission.
const FIRST_ATTEMPT: Duration = Duration::from_millis(1500);
const FIRST_ATTEMPTS: u32 = 5;
const MAX_ATTEMPT: Duration = Duration::from_secs(10);

/// TLS alerts, as QUIC carries them (RFC 9001, section 4.8): a certificate that the other side does not accept.
const CERTIFICATE_ALERTS: std::ops::RangeInclusive<u8> = 41..=49;
const CERTIFICATE_REQUIRED: u8 = 116;
/// The certificate of another CA of the same name: its signature does not verify.
const DECRYPT_ERROR: u8 = 51;

/// Makes connections to one server.
pub(super) struct Dialer {
    server: String,
    config: ClientConfig,
    /// Shared by the caller, or made on the first dial.
    endpoint: Option<Endpoint>,
    owns_endpoint: bool,
    /// Attempts since the server was last heard.
    unanswered: u32,
}

impl Dialer {
    pub(super) fn new(server: &str, endpoint: Option<Endpoint>, config: ClientConfig) -> Self {
        let owns_endpoint = endpoint.is_none();
        Self { server: server.to_owned(), config, endpoint, owns_endpoint, unanswered: 0 }
    }

    /// Another identity is used from here on.
    pub(super) fn use_config(&mut self, config: ClientConfig) {
        self.config = config;
    }

    /// One attempt to connect. Where an earlier session can be resumed, the connection is ready before the server has
    /// answered.
    pub(super) async fn dial(&mut self) -> Result<(Connection, Option<FirstFlight>), Disconnect> {
        let unresolved = |reason: String| Disconnect::Unresolved { server: self.server.clone(), reason };
        let host = host_of(&self.server).ok_or_else(|| unresolved("expected host:port".into()))?;
        let addresses =
            tokio::net::lookup_host(&self.server).await.map_err(|error| unresolved(error.to_string()))?;
        let address = pick(addresses).ok_or_else(|| unresolved("the name has no address".into()))?;
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let made = transport::endpoint(Family::of(&address));
                let made =
                    made.map_err(|error| Disconnect::Lost { reason: format!("no UDP socket: {error}") })?;
                self.endpoint.insert(made).clone()
            }
        };
        let connecting = endpoint
            .connect_with(self.config.clone(), address, host)
            .map_err(|error| unresolved(error.to_string()))?;
        let connecting = match connecting.into_0rtt() {
            Ok((connection, accepted)) => {
                let answer_by = Instant::now() + self.patience();
                return Ok((connection, Some(FirstFlight { accepted, answer_by })));
            }
            Err(connecting) => connecting,
        };
        match tokio::time::timeout(self.patience(), connecting).await {
            Ok(Ok(connection)) => {
                self.answered(true);
                Ok((connection, None))
            }
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => {
                self.answered(false);
                Err(Disconnect::Unreachable { server: self.server.clone() })
            }
            Ok(Err(error)) => Err(meaning_of(&error)),
        }
    }

    /// The endpoint, if nobody else uses it.
    pub(super) fn own_endpoint(&self) -> Option<Endpoint> {
        self.endpoint.clone().filter(|_| self.owns_endpoint)
    }

    /// An attempt was answered, or not in time.
    pub(super) fn answered(&mut self, answered: bool) {
        self.unanswered = if answered { 0 } else { self.unanswered.saturating_add(1) };
    }

    fn patience(&self) -> Duration {
        let doublings = (self.unanswered + 1).saturating_sub(FIRST_ATTEMPTS).min(u32::BITS - 1);
        FIRST_ATTEMPT.saturating_mul(1 << doublings).min(MAX_ATTEMPT)
    }

    /// Lets the last goodbyes out of a socket of our own before it is closed.
    pub(super) async fn finish(self) {
        const PATIENCE: Duration = Duration::from_millis(500);
        if let (Some(endpoint), true) = (self.endpoint, self.owns_endpoint) {
            let _ = tokio::time::timeout(PATIENCE, endpoint.wait_idle()).await;
        }
    }
}

/// What is sent before the server has answered, on the word of an earlier session (0-RTT).
pub(super) struct FirstFlight {
    /// Resolves with the handshake: whether the server took it. False also when the connection ended.
    pub(super) accepted: ZeroRttAccepted,
    /// When to give up waiting.
    pub(super) answer_by: Instant,
}

/// What the end of a connection means to a person.
pub(super) fn meaning_of(error: &ConnectionError) -> Disconnect {
    match error {
        ConnectionError::TransportError(error) if is_certificate_alert(error.code) => {
            Disconnect::ServerNotTrusted { reason: error.reason.clone() }
        }
        ConnectionError::ConnectionClosed(close) if is_certificate_alert(close.error_code) => {
            Disconnect::CertificateRefused { reason: close.to_string() }
        }
        ConnectionError::TimedOut => Disconnect::Silent,
        error => Disconnect::Lost { reason: error.to_string() },
    }
}

fn is_certificate_alert(code: TransportErrorCode) -> bool {
    let certificate = |alert| code == TransportErrorCode::crypto(alert);
    CERTIFICATE_ALERTS.chain([CERTIFICATE_REQUIRED, DECRYPT_ERROR]).any(certificate)
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(server: &str) -> Option<&str> {
    let (host, port) = server.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// IPv4 first: where a name has both, it is the one more networks carry.
fn pick(addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_the_certificate_must_name() {
        assert_eq!(host_of("localhost:4433"), Some("localhost"));
        assert_eq!(host_of("127.0.0.1:4433"), Some("127.0.0.1"));
        assert_eq!(host_of("[::1]:4433"), Some("::1"));
        assert_eq!(host_of("localhost"), None);
        assert_eq!(host_of("localhost:port"), None);
        assert_eq!(host_of(":4433"), None);
    }
}
