//! QUIC as the SDK speaks it: the socket, the transport settings and the TLS configuration.
//!
//! Public, so that a measurement of bare QUIC can run with the settings that a device really uses.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt,
};
use rustls::client::Resumption;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::identity::Identity;

/// The application protocol that client and server must agree on.
pub const ALPN: &[u8] = b"icecore/1";

/// Kernel buffer asked for in each direction of a device's socket, bytes.
///
/// A device sends bursts of at most one send window; the kernel's default (212,992 bytes) is smaller than that.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// Bytes that may be written and not yet acknowledged by QUIC, per connection.
///
/// Above [`Config::DEFAULT_WINDOW`](crate::Config::DEFAULT_WINDOW), which is what normally bounds it, so that QUIC is not
/// in the way of a gateway that was given a larger one.
pub const SEND_WINDOW: u64 = 4 << 20;

/// Bytes that the server may send ahead on the control stream. Acks are small and always read.
pub const CONTROL_WINDOW: u32 = 256 << 10;

/// Silence after which a connection is given up even though nothing is waiting for an answer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an idle connection says that it is there: three chances within [`IDLE_TIMEOUT`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Round-trip time assumed before the first measurement.
///
/// The standard's 333 ms makes the first retransmission of a handshake wait a second, which is most of the two
/// seconds that a device may need to find a restarted server. On a slower path the handshake is merely repeated.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Packets that the server may receive before it has to acknowledge (QUIC ack frequency extension).
pub const ACK_THRESHOLD: u32 = 20;

/// The transport settings of a device's connection.
///
/// The server opens no streams and sends no datagrams; the device receives on its one control stream only.
#[must_use]
pub fn transport_config() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("ten seconds fit a QUIC idle timeout");
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(CONTROL_WINDOW))
        .receive_window(VarInt::from_u32(CONTROL_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acks));
    config
}

/// Sessions kept for resuming, in memory: several tickets of one server, of which each is used once.
const SESSIONS: usize = 8;

/// The transport settings of a connection that is made on demand: nothing is sent that no batch asked for.
#[must_use]
pub fn on_demand_config() -> TransportConfig {
    let mut config = transport_config();
    config.keep_alive_interval(None).mtu_discovery_config(None);
    config
}

/// The complete client configuration for `identity`: TLS 1.3 with its certificate, trusting its CA alone.
///
/// Connections made with it resume the sessions of earlier ones where the server allows it, and may then send in their
/// first packets. What that needs is kept in it, in memory.
///
/// # Errors
/// The certificate and its key do not belong together, or the CA cannot be used as a trust anchor.
pub fn client_config(identity: &Identity) -> Result<ClientConfig, rustls::Error> {
    client_config_by(identity, Arc::new(DefaultTimeProvider))
}

/// The same, with certificates judged by this clock.
pub(crate) fn client_config_by(
    identity: &Identity,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(identity.roots()?)
        .with_client_auth_cert(identity.chain(), identity.key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = true;
    tls.resumption = Resumption::in_memory_sessions(SESSIONS);
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| rustls::Error::General(format!("TLS settings unfit for QUIC: {error}")))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config()));
    Ok(config)
}

/// A UDP socket with large kernel buffers and the QUIC endpoint on it, for connections to servers of `family`.
///
/// A process with many connections may share one endpoint between them ([`Config::endpoint`]): on one runtime that
/// saves a socket and a receive loop per connection. Must be called within a tokio runtime, and serves only while that
/// runtime runs.
///
/// [`Config::endpoint`]: crate::Config::endpoint
///
/// # Errors
/// The socket cannot be created or bound.
pub fn endpoint(family: Family) -> io::Result<Endpoint> {
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("not within a tokio runtime"))?;
    Endpoint::new(EndpointConfig::default(), None, socket(family)?, runtime)
}

/// A socket of `family` with large kernel buffers, on a port of the system's choice.
pub(crate) fn socket(family: Family) -> io::Result<UdpSocket> {
    let (domain, address) = match family {
        Family::V4 => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        Family::V6 => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    enlarge_buffers(&socket)?;
    Ok(socket)
}

/// The address family of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Asks for [`SOCKET_BUFFER`] and says so when the kernel gives less: small buffers cost bursts, not correctness.
fn enlarge_buffers(socket: &UdpSocket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    // The kernel caps what is asked for at its configured maximum instead of failing.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < SOCKET_BUFFER {
        tracing::debug!(receive, send, wanted = SOCKET_BUFFER, "kernel gave smaller socket buffers");
    }
    Ok(())
}
