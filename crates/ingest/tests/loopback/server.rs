//! A server under test: the writer and the endpoint on a scratch directory, a CA, and a disk with faults.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use icecore_ingest::{
    Enrolment, Health, Ingest, IngestOptions, RateLimits, Registry, Role, StopError, Writer, WriterOptions,
    fingerprint,
};
use icecore_log::disk::{Access, DiskLock};
use icecore_log::{Disk, DiskFile, LogReader, RealDisk, Record, Scan};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SubjectPublicKeyInfo,
};

use crate::counts::Counts;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: rcgen::Certificate,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl icecore_ingest::Issuer for Authority {
    fn issue(&self, renewal: &icecore_ingest::Renewal) -> Result<Vec<u8>, String> {
        let uri = format!("icecore:{}:{}", renewal.role.as_str(), renewal.name.percent_encoded());
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.not_after = (SystemTime::now() + renewal.validity).into();
        let key = SubjectPublicKeyInfo::from_der(&renewal.public_key).map_err(|e| e.to_string())?;
        Ok(params.signed_by(&key, &self.issuer).map_err(|e| e.to_string())?.der().to_vec())
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn issue(
        &self,
        san: SanType,
        usage: ExtendedKeyUsagePurpose,
        until: SystemTime,
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.not_after = until.into();
        params.subject_alt_names.push(san);
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    pub(crate) fn client(&self, uri: &str) -> Identity {
        self.client_until(uri, some_day())
    }

    pub(crate) fn client_until(&self, uri: &str, until: SystemTime) -> Identity {
        let san = SanType::URI(uri.try_into().unwrap());
        let (certificate, key) = self.issue(san, ExtendedKeyUsagePurpose::ClientAuth, until);
        Identity { certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }
}

/// Later than any test ends.
fn some_day() -> SystemTime {
    SystemTime::now() + Duration::from_hours(24)
}

/// A running server, and what it takes to start it again.
pub(crate) struct Server {
    pub(crate) authority: Arc<Authority>,
    pub(crate) disk: Arc<FaultyDisk>,
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    pub(crate) counts: Counts,
    limits: RateLimits,
    dir: tempfile::TempDir,
    running: Option<(Ingest, Writer)>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with_limits(RateLimits::default())
    }

    pub(crate) fn with_limits(limits: RateLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::new());
        let san = SanType::DnsName("localhost".try_into().unwrap());
        let (certificate, key) = authority.issue(san, ExtendedKeyUsagePurpose::ServerAuth, some_day());
        fs::write(dir.path().join("ca.pem"), authority.certificate.pem()).unwrap();
        fs::write(dir.path().join("server.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("server.key"), key.serialize_pem()).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let registry = Registry::open(dir.path().join("data/registry.jsonl")).unwrap();
        let disk = Arc::new(FaultyDisk::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let counts = Counts::default();
        let mut server = Self { authority, disk, registry, address, counts, limits, dir, running: None };
        server.run();
        server
    }

    /// Starts writer and endpoint, on a free port.
    pub(crate) fn run(&mut self) {
        let options = WriterOptions { queue_bytes: 0, reserve_bytes: 1 << 20, ..WriterOptions::default() };
        let disk = Arc::clone(&self.disk) as Arc<dyn Disk>;
        let counts = self.counts.clone();
        let _counting = metrics::set_default_local_recorder(&counts);
        let (writer, handle) = Writer::start_on(disk, &self.data(), options).unwrap();
        let registry = Arc::new(Registry::open(self.registry.path()).unwrap());
        let path = |name: &str| self.dir.path().join(name);
        let options = IngestOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ca: path("ca.pem"),
            certificate: path("server.pem"),
            key: path("server.key"),
            endpoint_keys: path("endpoint.keys"),
            issuer: Some(Arc::clone(&self.authority) as Arc<dyn icecore_ingest::Issuer>),
            limits: self.limits,
        };
        let ingest = Ingest::start(&options, registry, handle).unwrap();
        self.address = ingest.local_addr();
        self.running = Some((ingest, writer));
    }

    /// Stops in good order.
    pub(crate) async fn stop(&mut self) -> Result<u64, StopError> {
        let (ingest, writer) = self.running.take().expect("the server runs");
        ingest.shutdown(writer, Duration::from_secs(5)).await
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.running.as_ref().expect("the server runs").1
    }

    /// Waits until the writer's health is as wanted.
    pub(crate) async fn health(&self, wanted: impl FnMut(&Health) -> bool) -> Health {
        let mut health = self.writer().health();
        let found = tokio::time::timeout(Duration::from_secs(10), health.wait_for(wanted)).await;
        found.expect("the health changes in time").unwrap().clone()
    }

    /// Issues a certificate and enrols it.
    pub(crate) fn enrol(&self, role: Role, name: &str, grants: &[&str]) -> Identity {
        let identity = self.authority.client(&format!("icecore:{}:{name}", role.as_str()));
        self.enrol_with(&identity, role, name, grants);
        identity
    }

    /// Enrols a certificate.
    pub(crate) fn enrol_with(&self, identity: &Identity, role: Role, name: &str, grants: &[&str]) {
        let enrolment = Enrolment {
            name: name.to_owned(),
            role,
            labels: BTreeMap::new(),
            grants: grants.iter().map(|&grant| grant.to_owned()).collect(),
            certificate: fingerprint(&identity.certificate),
            enrolled_time: 0,
            renewed_from: None,
            revoked_time: None,
        };
        self.registry.enrol(enrolment).unwrap();
    }

    /// The batches in the log: device, first sequence, count, in position order.
    pub(crate) fn stored(&self) -> Vec<(String, u64, u32)> {
        let reader = LogReader::open(Arc::new(RealDisk), &self.data()).unwrap();
        let scan = Scan::default();
        let batch = |record| match record {
            Record::Batch(batch) => {
                Some((batch.source.device.to_string(), batch.first_sequence, batch.count))
            }
            _ => None,
        };
        reader.scan(scan).map(Result::unwrap).filter_map(batch).collect()
    }

    pub(crate) fn quarantined(&self) -> usize {
        fs::read_dir(self.data().join("quarantine")).unwrap().count()
    }
}

/// The real disk, with faults to be switched on.
pub(crate) struct FaultyDisk {
    /// What it claims to have free, in bytes.
    pub(crate) free: AtomicU64,
    pub(crate) fail_sync: Arc<AtomicBool>,
    gate: Arc<Gate>,
}

/// Stops syncs while it is closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self { free: AtomicU64::new(1 << 40), fail_sync: Arc::default(), gate: Arc::default() }
    }
}

impl FaultyDisk {
    /// Holds every sync back until [`FaultyDisk::release_syncs`].
    pub(crate) fn hold_syncs(&self) {
        *self.gate.closed.lock().unwrap() = true;
    }

    pub(crate) fn release_syncs(&self) {
        *self.gate.closed.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let (fail_sync, gate) = (Arc::clone(&self.fail_sync), Arc::clone(&self.gate));
        Ok(Arc::new(FaultyFile { inner: RealDisk.open(path, access)?, fail_sync, gate }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
    fn random(&self) -> [u8; 16] {
        RealDisk.random()
    }
    fn lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        RealDisk.lock(path)
    }
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        RealDisk.is_locked(path)
    }
}

struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    fail_sync: Arc<AtomicBool>,
    gate: Arc<Gate>,
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        let closed = self.gate.closed.lock().unwrap();
        drop(self.gate.opened.wait_while(closed, |closed| *closed).unwrap());
        if self.fail_sync.load(Ordering::Relaxed) {
            return Err(io::Error::other("input/output error"));
        }
        self.inner.sync()
    }
}
