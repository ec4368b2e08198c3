//! A client made of the protocol's own session machine and a bare quinn connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{
    Attached, BatchStreamWriter, ClientEvent, ClientSession, Column, ColumnData, ColumnType, DeviceName,
    EncodeOptions, Epoch, Field, Payload, Schema, encode,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connecting, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

use crate::server::{Authority, Identity, Server};

/// Nothing on a loopback takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) connection: Connection,
    send: SendStream,
    recv: RecvStream,
    session: ClientSession,
    batches: BatchStream,
    /// Bytes that the server has said.
    pub(crate) heard: usize,
    _endpoint: Endpoint,
}

/// One batch stream.
pub(crate) struct BatchStream {
    stream: SendStream,
    frames: BatchStreamWriter,
}

impl BatchStream {
    pub(crate) async fn open(connection: &Connection) -> Self {
        Self { stream: connection.open_uni().await.unwrap(), frames: BatchStreamWriter::new() }
    }

    pub(crate) async fn open_backlog(connection: &Connection) -> Self {
        let mut stream = Self::open(connection).await;
        stream.stream.write_all(&BatchStreamWriter::backlog_mark()).await.unwrap();
        stream
    }

    pub(crate) async fn send(&mut self, alias: u32, schema: &Schema, payload: &Payload) {
        let mut bytes = Vec::new();
        self.frames.append(alias, schema, payload, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

impl Client {
    pub(crate) async fn connect(server: &Server, identity: &Identity) -> Self {
        let connection = connect(&server.authority, server.address, identity).await;
        let (endpoint, connection) = connection.expect("the handshake succeeds");
        Self::over(endpoint, connection).await
    }

    pub(crate) async fn over(endpoint: Endpoint, connection: Connection) -> Self {
        let mut client = Self::silent(endpoint, connection).await;
        client.say().await;
        client
    }

    /// One that has not said anything yet.
    pub(crate) async fn silent(endpoint: Endpoint, connection: Connection) -> Self {
        let (send, recv) = connection.open_bi().await.unwrap();
        let batches = BatchStream::open(&connection).await;
        let session = ClientSession::new("test/1", 0, Duration::ZERO);
        Self { connection, send, recv, session, batches, heard: 0, _endpoint: endpoint }
    }

    /// The next thing the server says, `Welcome` aside.
    pub(crate) async fn event(&mut self) -> ClientEvent {
        loop {
            match self.session.poll_event() {
                Some(ClientEvent::Welcome(_)) => continue,
                Some(event) => return event,
                None => {}
            }
            let chunk = timeout(PATIENCE, self.recv.read_chunk(1 << 16, true)).await;
            let chunk = chunk.expect("the server answers").expect("the connection lives");
            let bytes = chunk.expect("the control stream is open").bytes;
            self.heard += bytes.len();
            self.session.control_received(&bytes).unwrap();
        }
    }

    /// Whether the server says nothing for a while.
    pub(crate) async fn hears_nothing(&mut self) -> bool {
        timeout(Duration::from_millis(300), self.event()).await.is_err()
    }

    pub(crate) async fn ask_attach(&mut self, device: &str, epoch: u8) -> u32 {
        let alias = self.prepare_attach(device, epoch);
        self.say().await;
        alias
    }

    /// Attaches a device that the server takes.
    pub(crate) async fn attach(&mut self, device: &str, epoch: u8) -> Attached {
        let alias = self.ask_attach(device, epoch).await;
        match self.event().await {
            ClientEvent::Attached(attached) if attached.alias == alias => attached,
            other => panic!("expected Attached, found {other:?}"),
        }
    }

    /// Asks to attach a device, and keeps back what is to be said until [`Client::say`].
    pub(crate) fn prepare_attach(&mut self, device: &str, epoch: u8) -> u32 {
        self.session.attach(DeviceName::try_from(device).unwrap(), Epoch::from_bytes([epoch; 16]))
    }

    /// Says what was prepared.
    pub(crate) async fn say(&mut self) {
        // The server may have closed the connection: what it said before is still to be read.
        let _ = self.send.write_all(&self.session.take_control()).await;
    }

    pub(crate) async fn renew(&mut self) -> ClientEvent {
        self.session.renew();
        self.say().await;
        self.event().await
    }

    pub(crate) async fn detach(&mut self, alias: u32) {
        self.session.detach(alias);
        self.say().await;
    }

    pub(crate) async fn report_dropped(&mut self, alias: u32, range: std::ops::Range<u64>) {
        self.session.report_dropped(alias, &range.into());
        self.say().await;
    }

    pub(crate) async fn send(&mut self, alias: u32, schema: &Schema, payload: &Payload) {
        self.batches.send(alias, schema, payload).await;
    }

    /// Ends the batch stream, and waits until the server's endpoint has all of it.
    pub(crate) async fn finish(&mut self) {
        self.batches.stream.finish().unwrap();
        self.batches.stream.stopped().await.unwrap();
    }

    /// Waits until these sequences are acked as durable.
    pub(crate) async fn acked(&mut self, alias: u32, wanted: std::ops::Range<u64>) {
        let mut acked = icecore_wire::SequenceRanges::new();
        while !acked.covers(&wanted) {
            match self.event().await {
                ClientEvent::Acked(ack) if ack.alias == alias => acked.insert_all(&ack.ranges),
                other => panic!("expected acks of {wanted:?}, found {other:?} after {acked:?}"),
            }
        }
    }
}

/// A connection without a session.
pub(crate) async fn connect(
    authority: &Authority,
    address: SocketAddr,
    identity: &Identity,
) -> Result<(Endpoint, Connection), ConnectionError> {
    let (endpoint, connecting) = dial(&config(authority, identity), address);
    Ok((endpoint, connecting.await?))
}

/// The beginning of a connection, from a socket of its own.
pub(crate) fn dial(config: &ClientConfig, address: SocketAddr) -> (Endpoint, Connecting) {
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connecting = endpoint.connect_with(config.clone(), address, "localhost").unwrap();
    (endpoint, connecting)
}

/// What connections of one client share, session tickets included.
pub(crate) fn config(authority: &Authority, identity: &Identity) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let certificate = CertificateDer::from(identity.certificate.clone());
    let key = PrivatePkcs8KeyDer::from(identity.key.clone());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key.into())
        .unwrap();
    tls.alpn_protocols = vec![b"icecore/1".to_vec()];
    tls.enable_early_data = true;
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

pub(crate) fn schema() -> Arc<Schema> {
    Arc::new(Schema::new("reading", 1, vec![Field::new("value", ColumnType::I64)]).unwrap())
}

/// `count` events from sequence `first` on, told apart from others by `salt`.
pub(crate) fn batch(first: u64, count: usize, salt: i64) -> Payload {
    let times: Vec<i64> = (0..count as i64).collect();
    let values: Vec<i64> =
        times.iter().map(|time| time.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) ^ salt).collect();
    let columns = [Column::new(ColumnData::I64(&values))];
    encode(&schema(), first, &times, &columns, EncodeOptions::default()).unwrap()
}
