//! The yardstick: the same bytes over the same QUIC settings, into a process that reads and throws away.
//!
//! The sink is a child process (this program again), so that client and receiver share the machine's cores as they do in
//! the measurement proper.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use icecore_device::Identity;
use icecore_device::transport::{self, ALPN, Family};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, ServerConfig, VarInt};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::workload::{Machine, Readings};

/// Name under which the client knows the sink.
const SINK_NAME: &str = "localhost";
/// Bytes that the sink lets the client send ahead, per stream and per connection: what the server's ingest allows.
const SINK_WINDOW: u32 = 4 << 20;
/// How much of the workload is made before the clock starts and then sent round and round; nothing compresses it here.
const REHEARSED_BYTES: usize = 64 << 20;
/// Bytes of an Icecore frame header.
const FRAME_HEADER_BYTES: usize = 16;
/// Chunks handed to the transport, or taken from it, in one call.
const CHUNKS: usize = 32;

/// Streams batches of `rows` events over `connections` connections for `duration`; returns bytes per second, counted
/// until the sink's transport had acknowledged them all.
///
/// # Errors
/// When the sink cannot be started or a connection fails.
pub(crate) async fn bytes_per_second(connections: usize, rows: usize, duration: Duration) -> Result<f64> {
    let sink_identity = SinkIdentity::create()?;
    let sink = Sink::start(&sink_identity)?;
    let frames = frames(rows);
    let identity = Identity::from_pem(
        sink_identity.certificate.as_bytes(),
        sink_identity.certificate.as_bytes(),
        sink_identity.key.as_bytes(),
    )?;
    let config = transport::client_config(&identity)?;
    let endpoint = transport::endpoint(Family::V4)?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let connection = endpoint.connect_with(config.clone(), sink.address, SINK_NAME)?.await?;
        streams.push((connection.open_uni().await?, connection));
    }

    let begin = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for (number, (mut stream, connection)) in streams.into_iter().enumerate() {
        let frames = Arc::clone(&frames);
        senders.spawn(async move {
            let mut sent = 0;
            // Connections start at different places, as different devices send different bytes.
            let mut next = number * frames.len() / connections;
            while begin.elapsed() < duration {
                let mut chunks: [Bytes; CHUNKS] =
                    std::array::from_fn(|i| frames[(next + i) % frames.len()].clone());
                next += CHUNKS;
                sent += chunks.iter().map(Bytes::len).sum::<usize>();
                stream.write_all_chunks(&mut chunks).await?;
            }
            stream.finish()?;
            stream.stopped().await?;
            connection.close(VarInt::from_u32(0), b"");
            anyhow::Ok(sent)
        });
    }
    let mut bytes = 0;
    while let Some(sent) = senders.join_next().await {
        bytes += sent.context("a sender panicked")??;
    }
    Ok(bytes as f64 / begin.elapsed().as_secs_f64())
}

/// The workload's batches at the size at which they travel plain: the header's room, then the columns.
fn frames(rows: usize) -> Arc<[Bytes]> {
    let mut machine = Machine::new(0, 0);
    let mut readings = Readings::default();
    let mut frames = Vec::new();
    let mut bytes = 0;
    while bytes < REHEARSED_BYTES {
        machine.read(rows, &mut readings);
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        readings.append_to(&mut frame);
        bytes += frame.len();
        frames.push(Bytes::from(frame));
    }
    frames.into()
}

/// The sink as a child process; it ends when its standard input closes.
struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(identity: &SinkIdentity) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SINK_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sink process")?;
        let mut secrets = child.stdin.take().context("the sink has no standard input")?;
        write!(secrets, "{}\n{}\n\0", identity.certificate, identity.key)?;
        child.stdin = Some(secrets);
        let output = child.stdout.take().context("the sink has no standard output")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        let port = port.trim().parse::<u16>().context("the sink did not say its port")?;
        Ok(Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the sink process did not end: {error}");
        }
    }
}

/// The hidden command line word that makes this program the sink.
pub(crate) const SINK_COMMAND: &str = "bare-quic-sink";

/// A certificate that is its own authority: enough for two processes of one measurement.
struct SinkIdentity {
    certificate: String,
    key: String,
}

impl SinkIdentity {
    fn create() -> Result<Self> {
        let mut params = CertificateParams::new([SINK_NAME.to_owned()])?;
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from("icecore:gateway:bare-quic")?));
        let key = KeyPair::generate()?;
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }
}

/// Runs as the sink: takes the identity from standard input, says its port, reads and discards until the input closes.
///
/// # Errors
/// When the identity cannot be read or the socket cannot be bound.
pub(crate) async fn run_sink() -> Result<()> {
    let mut pem = Vec::new();
    io::stdin().lock().read_until(0, &mut pem)?;
    pem.pop();
    let endpoint = transport::endpoint(Family::V4)?;
    endpoint.set_server_config(Some(sink_config(&pem)?));
    println!("{}", endpoint.local_addr()?.port());
    // Ends the process together with its parent, however that ends.
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    accept(&endpoint).await;
    Ok(())
}

async fn accept(endpoint: &Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                discard(&connection).await;
            }
        });
    }
}

async fn discard(connection: &Connection) {
    while let Ok(mut stream) = connection.accept_uni().await {
        tokio::spawn(async move { while read_some(&mut stream).await.is_some() {} });
    }
}

async fn read_some(stream: &mut RecvStream) -> Option<usize> {
    let mut chunks: [Bytes; CHUNKS] = Default::default();
    stream.read_chunks(&mut chunks).await.ok().flatten()
}

fn sink_config(pem: &[u8]) -> Result<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(pem).context("no certificate on standard input")?;
    let key = PrivateKeyDer::from_pem_slice(pem).context("no key on standard input")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = transport::transport_config();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(SINK_WINDOW))
        .receive_window(VarInt::from_u32(SINK_WINDOW));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
