//! The socket, and QUIC's settings for many small connections.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

/// Kernel buffer asked for in each direction, in bytes. With Linux's default of 212,992 bytes ten thousand devices
/// that speak at once lose nearly everything they send; this holds what arrives while one block is cut.
const SOCKET_BUFFER: usize = 4 << 20;

/// Batch streams a client may have open: live data, a backlog, and a few more for a gateway.
const BATCH_STREAMS: u32 = 4;

/// Bytes a client may send ahead on one stream, in bytes. At 100 ms round trip that is 5 MB/s for one stream; on a
/// local network it is never what limits.
const STREAM_WINDOW: u32 = 512 << 10;

/// Bytes a client may send ahead on all streams: as much as the batch streams and the control stream together, so that
/// a backlog nobody reads cannot starve live data or control.
const CONNECTION_WINDOW: u32 = (BATCH_STREAMS + 1) * STREAM_WINDOW;

/// Bytes sent to a client and not acknowledged by QUIC. The server sends acks and answers only.
const SEND_WINDOW: u64 = 256 << 10;

/// Packets the client may receive before it has to acknowledge: the server's are small, and nobody waits for these.
const ACK_THRESHOLD: u32 = 20;

/// Silence after which a connection is given up. Clients keep theirs alive and may ask for less.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of every connection. Datagrams are off: nothing here may be lost.
pub(super) fn config() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("half a minute fits a QUIC idle timeout");
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(BATCH_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        // What the server sends fits small packets; probing ten thousand paths for larger ones is wasted.
        .mtu_discovery_config(None)
        .ack_frequency_config(Some(acks))
        .max_idle_timeout(Some(idle));
    config
}

/// A UDP socket with large buffers. Says so when the kernel gives less than it was asked for.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    // Linux doubles what it grants, for its own bookkeeping, and caps it silently.
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive < SOCKET_BUFFER || send < SOCKET_BUFFER {
        tracing::warn!(
            wanted = SOCKET_BUFFER,
            receive,
            send,
            "the kernel grants small UDP buffers, which loses packets of large fleets; raise net.core.rmem_max and \
             net.core.wmem_max"
        );
    }
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
