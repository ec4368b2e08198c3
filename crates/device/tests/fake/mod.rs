//! A server for the SDK's tests: wire's `ServerSession` over quinn, with a memory instead of a log, and faults on demand.
//!
//! It runs on a thread and runtime of its own, so that it can be killed like a process: nothing more is sent, not even a goodbye.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use icecore_device::{Code, DeviceName, Epoch, Identity, Level, SequenceRanges};
use icecore_wire::{
    Attached, BatchStreamReader, Disposition, GoAway, Incoming, Nack, NotRenewed, Pace, Payload, Refuse,
    ServerEvent, ServerSession, SessionLimits,
};
use quinn::{
    Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// A certificate authority and what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Unlike the names of what it issues, which would pass for self-signed otherwise.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn identity(&self, uri: &str) -> Identity {
        let [ca, certificate, key] = self.identity_pem(uri);
        Identity::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// CA, certificate and key; the certificate is good from 2000 to 2100.
    pub(crate) fn identity_pem(&self, uri: &str) -> [String; 3] {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate(uri, &key, 2100);
        [self.certificate.pem(), certificate.pem(), key.serialize_pem()]
    }

    pub(crate) fn certificate(&self, uri: &str, key: &KeyPair, until: i32) -> rcgen::Certificate {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(until, 1, 1));
        params.signed_by(key, &self.issuer).unwrap()
    }

    fn server_config(&self) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        // Sessions are resumed within a life, in 0-RTT too.
        tls.max_early_data_size = u32::MAX;
        tls.session_storage = ServerSessionMemoryCache::new(256);
        tls.alpn_protocols = vec![icecore_device::transport::ALPN.to_vec()];
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.receive_window(VarInt::from_u32(16 << 20)).stream_receive_window(VarInt::from_u32(4 << 20));
        config.transport_config(Arc::new(transport));
        config
    }
}

/// What the server has, over all of its lives.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) epochs: BTreeMap<(DeviceName, Epoch), Kept>,
    pub(crate) connections: u64,
    /// What the clients of all connections showed, in DER.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// How often a new certificate was asked for.
    pub(crate) renewals: u64,
    pub(crate) duplicates: u64,
    /// When a client said hello: every time one did, welcome or not.
    pub(crate) hellos: Vec<Instant>,
    /// Aliases as they were asked for, by connection.
    pub(crate) aliases: BTreeMap<u64, Vec<u32>>,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) number: u32,
    pub(crate) stored: SequenceRanges,
    pub(crate) settled: SequenceRanges,
    pub(crate) archived: SequenceRanges,
    /// Does not tell at attach what it has.
    pub(crate) forgetful: bool,
    /// By first sequence.
    pub(crate) batches: BTreeMap<u64, Payload>,
    pub(crate) attached: u32,
    /// When a batch came, and its first sequence: every time it did.
    pub(crate) arrivals: Vec<(Instant, u64)>,
}

/// What goes wrong.
#[derive(Default, Clone)]
pub(crate) struct Faults {
    /// Acks come this much later.
    pub(crate) ack_delay: Duration,
    /// No acks at all.
    pub(crate) withhold_acks: bool,
    /// The connection is dropped after this many batches, once each.
    pub(crate) drop_after: Option<u64>,
    /// Every connection is refused, to be tried again after a time, if any.
    pub(crate) refuse_connection: Option<(Code, Option<Duration>)>,
    pub(crate) refuse_device: HashMap<DeviceName, Code>,
    /// Batches that start at these sequences are refused for good.
    pub(crate) reject: HashSet<u64>,
    /// Batches that start at these sequences are wanted again after a time, once each.
    pub(crate) defer: HashMap<u64, (Code, Duration)>,
    /// What the server's clock shows, nanoseconds since the Unix epoch.
    pub(crate) server_time: i64,
    /// The certificate that a client gets when it asks, in DER.
    pub(crate) renewal: Option<Vec<u8>>,
    /// Told ahead of the next ack.
    pub(crate) pace: Option<Pace>,
    /// The next batch is acked, and is the connection's last.
    pub(crate) last_words: Option<LastWords>,
    /// Streams of backlog are not read on.
    pub(crate) stall_backlog: bool,
}

/// How the server ends a connection.
#[allow(dead_code, reason = "the tests that share this server want different things of it")]
#[derive(Clone, Copy)]
pub(crate) enum LastWords {
    /// In the middle of a frame.
    HalfAFrame,
    /// With a `GoAway` that asks to come again after this time.
    GoAway(Duration),
}

struct Shared {
    memory: Mutex<Memory>,
    faults: Mutex<Faults>,
    /// Counts up when all connections are to be closed.
    hang_ups: watch::Sender<u32>,
}

pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    authority: Arc<Authority>,
    shared: Arc<Shared>,
    life: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl FakeServer {
    pub(crate) fn start() -> Self {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            faults: Mutex::default(),
            hang_ups: watch::Sender::new(0),
        });
        let mut server = Self { address, authority: Arc::new(Authority::new()), shared, life: None };
        server.revive();
        server
    }

    /// Starts the server again with everything it had made durable.
    pub(crate) fn revive(&mut self) {
        let (kill, killed) = oneshot::channel();
        let (address, config, shared) =
            (self.address, self.authority.server_config(), Arc::clone(&self.shared));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = UdpSocket::bind(address).unwrap();
                let runtime = quinn::default_runtime().unwrap();
                let endpoint = Endpoint::new(keys(), Some(config), socket, runtime).unwrap();
                tokio::select! { () = accept(endpoint, shared) => {}, _ = killed => {} }
            });
        });
        self.life = Some((kill, thread));
    }

    /// SIGKILL: the runtime and its sockets are gone when this returns, without a goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some((kill, thread)) = self.life.take() {
            let _ = kill.send(());
            thread.join().unwrap();
        }
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&self) {
        self.shared.hang_ups.send_modify(|hang_ups| *hang_ups += 1);
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap()
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    /// What is stored of a device, over all epochs in order of number.
    pub(crate) fn stored(&self, device: &str) -> Vec<SequenceRanges> {
        let memory = self.memory();
        let mut epochs: Vec<_> =
            memory.epochs.iter().filter(|((name, _), _)| name.as_str() == device).collect();
        epochs.sort_by_key(|(_, kept)| kept.number);
        epochs.into_iter().map(|(_, kept)| kept.stored.clone()).collect()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if let Some((kill, _)) = self.life.take() {
            let _ = kill.send(());
        }
    }
}

/// The same in every life, so that devices learn of a restart at once.
fn keys() -> EndpointConfig {
    let mut keys = EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the same")));
    keys.cid_generator(|| Box::new(HashedConnectionIdGenerator::from_key(7)));
    keys.min_reset_interval(Duration::ZERO);
    keys
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                // Ends with the connection, whatever ended that.
                let _ = serve(connection, shared).await;
            }
        });
    }
}

struct Session {
    shared: Arc<Shared>,
    session: ServerSession,
    attached: HashMap<u32, (DeviceName, Epoch)>,
    acks: Vec<(Instant, u32, std::ops::Range<u64>, Level)>,
    batches: u64,
    connection: u64,
    last_words: Option<LastWords>,
    newest_alias: u32,
    /// Batches that came ahead of their attach.
    early: Vec<Incoming>,
}

async fn serve(connection: Connection, shared: Arc<Shared>) -> Option<()> {
    let (mut out, mut control): (SendStream, RecvStream) = connection.accept_bi().await.ok()?;
    let shown = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    shared.memory.lock().unwrap().certificates.push(shown[0].to_vec());
    let (sender, mut batches) = mpsc::channel(64);
    tokio::spawn(accept_batches(connection.clone(), sender, Arc::clone(&shared)));
    let mut hang_ups = shared.hang_ups.subscribe();
    let session = ServerSession::new(SessionLimits::default(), Duration::ZERO);
    let mut session = Session {
        shared,
        session,
        attached: HashMap::new(),
        acks: Vec::new(),
        batches: 0,
        connection: 0,
        last_words: None,
        newest_alias: 0,
        early: Vec::new(),
    };
    loop {
        let due = session
            .acks
            .iter()
            .map(|ack| ack.0)
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            chunk = control.read_chunk(64 << 10, true) => {
                session.session.control_received(&chunk.ok()??.bytes).ok()?;
                while let Some(event) = session.session.poll_event() {
                    session.event(event);
                }
                for batch in std::mem::take(&mut session.early) {
                    session.batch(batch);
                }
            }
            batch = batches.recv() => {
                let drop_connection = session.batch(batch?);
                if drop_connection {
                    connection.close(7u32.into(), b"fault");
                    return None;
                }
            }
            () = tokio::time::sleep_until(due) => session.ack(),
            _ = hang_ups.changed() => {
                connection.close(7u32.into(), b"hung up");
                return None;
            }
        }
        let bytes = session.session.take_control();
        out.write_all(&bytes).await.ok()?;
        if let Some(words) = session.last_words.filter(|_| session.acks.is_empty()) {
            session.say(words, &mut out).await?;
            // Long enough for the words to arrive, unless the client leaves at them.
            let _ = tokio::time::timeout(Duration::from_millis(200), connection.closed()).await;
            connection.close(0u32.into(), b"");
            return None;
        }
    }
}

async fn accept_batches(
    connection: Connection,
    sender: mpsc::Sender<Incoming>,
    shared: Arc<Shared>,
) -> Option<()> {
    loop {
        let stream = connection.accept_uni().await.ok()?;
        tokio::spawn(read_batches(stream, sender.clone(), Arc::clone(&shared)));
    }
}

async fn read_batches(
    mut stream: RecvStream,
    sender: mpsc::Sender<Incoming>,
    shared: Arc<Shared>,
) -> Option<()> {
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    loop {
        let chunk = stream.read_chunk(256 << 10, true).await.ok()??;
        reader.push(&chunk.bytes);
        while let Some(incoming) = reader.next().ok()? {
            while reader.is_backlog() && shared.faults.lock().unwrap().stall_backlog {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            sender.send(incoming).await.ok()?;
        }
    }
}

impl Session {
    async fn say(&mut self, words: LastWords, out: &mut SendStream) -> Option<()> {
        match words {
            LastWords::HalfAFrame => {
                self.session.pace(Pace { bytes_per_s: 0, retry_after: Duration::ZERO });
                let frame = self.session.take_control();
                out.write_all(&frame[..frame.len() / 2]).await.ok()?;
                out.finish().ok()
            }
            LastWords::GoAway(retry_after) => {
                self.session.go_away(GoAway { retry_after, message: "told to by the test".into() });
                out.write_all(&self.session.take_control()).await.ok()
            }
        }
    }

    fn event(&mut self, event: ServerEvent) {
        let faults = self.shared.faults.lock().unwrap().clone();
        match event {
            ServerEvent::Hello { .. } => match self.hello(faults.refuse_connection) {
                Some((code, retry_after)) => {
                    let message = "refused by the test".into();
                    self.session.refuse(Refuse { alias: None, code, message, retry_after });
                }
                None => self.session.welcome("fake", faults.server_time),
            },
            // Came in the same flight as a hello that was refused.
            ServerEvent::Attach(_) if self.connection == 0 => {}
            ServerEvent::Attach(attach) => {
                self.newest_alias = attach.alias;
                let mut memory = self.shared.memory.lock().unwrap();
                memory.aliases.entry(self.connection).or_default().push(attach.alias);
                drop(memory);
                if let Some(code) = faults.refuse_device.get(&attach.device) {
                    let (message, retry_after) =
                        ("refused by the test".into(), Some(Duration::from_millis(200)));
                    self.session.refuse(Refuse {
                        alias: Some(attach.alias),
                        code: *code,
                        message,
                        retry_after,
                    });
                    return;
                }
                let mut memory = self.shared.memory.lock().unwrap();
                let same = memory.epochs.keys().filter(|(device, _)| *device == attach.device).count();
                let key = (attach.device.clone(), attach.epoch);
                let kept = memory
                    .epochs
                    .entry(key.clone())
                    .or_insert_with(|| Kept { number: u32::try_from(same).unwrap(), ..Kept::default() });
                kept.attached += 1;
                self.attached.insert(attach.alias, key);
                self.session.attached(Attached {
                    alias: attach.alias,
                    epoch_number: kept.number,
                    stored: if kept.forgetful { SequenceRanges::new() } else { kept.stored.clone() },
                    settled: kept.settled.clone(),
                    archived: kept.archived.clone(),
                });
            }
            ServerEvent::Renew => {
                self.shared.memory.lock().unwrap().renewals += 1;
                match faults.renewal {
                    Some(certificate) => self.session.renewed(certificate),
                    None => self.session.not_renewed(NotRenewed {
                        code: Code::Revoked,
                        message: "not by this test".into(),
                        retry_after: None,
                    }),
                }
            }
            ServerEvent::Dropped(dropped) => {
                let key = &self.attached[&dropped.alias];
                let mut memory = self.shared.memory.lock().unwrap();
                let kept = memory.epochs.get_mut(key).unwrap();
                for range in &dropped.ranges {
                    kept.settled.insert(range.clone());
                    self.acks.push((Instant::now(), dropped.alias, range, Level::Settled));
                }
            }
            _ => {}
        }
    }

    /// Counts a client that says hello; passes on why it is not welcome.
    fn hello(&mut self, refused: Option<(Code, Option<Duration>)>) -> Option<(Code, Option<Duration>)> {
        let mut memory = self.shared.memory.lock().unwrap();
        memory.hellos.push(Instant::now());
        if refused.is_none() {
            memory.connections += 1;
            self.connection = memory.connections;
        }
        refused
    }

    /// Stores or refuses a batch; true: the connection is to be dropped.
    fn batch(&mut self, incoming: Incoming) -> bool {
        let Incoming::Batch { alias, header, payload, .. } = &incoming else {
            panic!("unreadable: {incoming:?}")
        };
        let alias = *alias;
        let Some(key) = self.attached.get(&alias) else {
            if alias > self.newest_alias {
                self.early.push(incoming);
            }
            return false;
        };
        let mut faults = self.shared.faults.lock().unwrap();
        let mut memory = self.shared.memory.lock().unwrap();
        let (range, code, message) = (header.range(), Code::MalformedBatch, "refused by the test".to_owned());
        memory.epochs.get_mut(key).unwrap().arrivals.push((Instant::now(), range.start));
        if faults.reject.contains(&range.start) {
            memory.epochs.get_mut(key).unwrap().settled.insert(range.clone());
            self.session.nack(Nack { alias, range, code, disposition: Disposition::Permanent, message });
            return false;
        }
        if let Some((code, retry_after)) = faults.defer.remove(&range.start) {
            let disposition = Disposition::RetryAfter(retry_after);
            self.session.nack(Nack { alias, range, code, disposition, message });
            return false;
        }
        let kept = memory.epochs.get_mut(key).unwrap();
        if kept.stored.covers(&range) {
            assert_eq!(kept.batches.get(&range.start), Some(payload), "a resend is byte-identical");
            memory.duplicates += 1;
        } else {
            assert!(!kept.stored.overlaps(&range), "{range:?} overlaps {:?}", kept.stored);
            kept.stored.insert(range.clone());
            kept.batches.insert(range.start, payload.clone());
        }
        if !faults.withhold_acks {
            self.acks.push((Instant::now() + faults.ack_delay, alias, range, Level::Durable));
        }
        self.batches += 1;
        self.last_words = self.last_words.or(faults.last_words.take());
        if let Some(pace) = faults.pace.take() {
            self.session.pace(pace);
        }
        if faults.drop_after.is_some_and(|after| self.batches >= after) {
            faults.drop_after = None;
            return true;
        }
        false
    }

    fn ack(&mut self) {
        let now = Instant::now();
        for (_, alias, range, level) in self.acks.extract_if(.., |ack| ack.0 <= now) {
            self.session.ack(alias, range, level);
        }
    }
}
