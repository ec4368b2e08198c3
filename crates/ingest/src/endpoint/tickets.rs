//! The sessions that clients may resume, with data in their first flight.
//!
//! A ticket names a session kept here; rustls takes it out when a client shows it, so that it is good for one connection,
//! and a recorded first flight that comes again finds nothing. It is not kept across restarts: a device then makes
//! one full handshake.
//!
//! A resumed session shows the certificate of the handshake in which it began. Whether that is still the newest of
//! its identity is judged when the ticket is taken, by the registry: nothing that is put here late can escape that.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;
use rustls_pki_types::CertificateDer;

use crate::Registry;
use crate::identity::Identity;

/// Sessions kept, and their bytes in all (one holds the client's certificates, mostly a kilobyte). Enough for fleets of
/// this many devices that come and go; when there are more, those that have been away for longest make full handshakes.
const MAX_TICKETS: usize = 100_000;
const MAX_TICKET_BYTES: usize = 128 << 20;

/// What each costs beside its own bytes: its places in two maps and the allocations.
const OVERHEAD: usize = 200;

/// Begins the URI by which a certificate names its holder.
const URI_PREFIX: &[u8] = b"icecore:";

/// The sessions that may be resumed, each once.
pub(super) struct Tickets {
    registry: Arc<Registry>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<Vec<u8>, u64>,
    by_age: BTreeMap<u64, Ticket>,
    next: u64,
    bytes: usize,
}

struct Ticket {
    id: Vec<u8>,
    /// As rustls encodes it, secrets included.
    session: Vec<u8>,
}

impl Ticket {
    fn bytes(&self) -> usize {
        self.id.len() + self.session.len() + OVERHEAD
    }
}

impl Kept {
    fn insert(&mut self, ticket: Ticket, max_tickets: usize, max_bytes: usize) {
        self.remove(&ticket.id);
        self.bytes += ticket.bytes();
        self.by_id.insert(ticket.id.clone(), self.next);
        self.by_age.insert(self.next, ticket);
        self.next += 1;
        while self.by_age.len() > max_tickets || self.bytes > max_bytes {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.by_id.remove(&oldest.id);
            self.bytes -= oldest.bytes();
        }
    }

    fn remove(&mut self, id: &[u8]) -> Option<Ticket> {
        let ticket = self.by_age.remove(&self.by_id.remove(id)?)?;
        self.bytes -= ticket.bytes();
        Some(ticket)
    }
}

impl Tickets {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, kept: Mutex::default() }
    }

    /// Whether the client's certificate in `session` is the newest of an identity that was not revoked.
    fn is_current(&self, session: &[u8]) -> bool {
        let holder = certificate(session).and_then(|der| Identity::from_certificate(&der).ok());
        holder.is_some_and(|holder| {
            let enrolment = self.registry.lookup(holder.name.as_str());
            enrolment.is_some_and(|it| it.certificate == holder.fingerprint && it.revoked_time.is_none())
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock panics halfway.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Tickets {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.kept().insert(Ticket { id, session }, MAX_TICKETS, MAX_TICKET_BYTES);
        true
    }

    /// Sessions of TLS 1.2 are asked for in this way, and there are none.
    fn get(&self, _id: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let ticket = self.kept().remove(id)?;
        self.is_current(&ticket.session).then_some(ticket.session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// The client's certificate, which stands in `session` as it came: three bytes of length, then that many bytes of a DER
/// sequence, and in them the URI.
fn certificate(session: &[u8]) -> Option<CertificateDer<'_>> {
    let uri = session.windows(URI_PREFIX.len()).position(|window| window == URI_PREFIX)?;
    (3..uri).rev().find_map(|start| {
        let &[high, middle, low] = session[..start].last_chunk()?;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let der = session.get(start..start + length)?;
        let &[0x30, 0x82, high, low, ..] = der else { return None };
        let is_whole = usize::from(u16::from_be_bytes([high, low])) + 4 == length && start + length > uri;
        is_whole.then(|| CertificateDer::from(der))
    })
}

/// Says how many there are; they hold secrets.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tickets").field(&self.kept().by_id.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icecore_wire::DeviceName;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::{Enrolment, Role, fingerprint};

    fn ticket(id: u8, bytes: usize) -> Ticket {
        Ticket { id: vec![id], session: vec![id; bytes] }
    }

    #[test]
    fn the_oldest_leave_when_there_are_too_many_or_too_large_ones() {
        let mut kept = Kept::default();
        for id in 1..=4 {
            kept.insert(ticket(id, 100), 3, 1 << 20);
        }
        assert!(kept.remove(&[1]).is_none() && kept.remove(&[3]).is_some());
        kept.insert(ticket(5, 900), 3, 1_600);
        assert!(kept.remove(&[2]).is_none() && kept.remove(&[4]).is_some() && kept.remove(&[5]).is_some());
        assert_eq!((kept.bytes, kept.by_age.len()), (0, 0));
    }

    /// Whose a ticket is is found in how rustls encodes a session: this is where a newer one that does it otherwise shows.
    #[test]
    fn a_ticket_is_good_once_and_for_the_newest_certificate_only() {
        let long = "x".repeat(128);
        for name in ["hall/pump", &"y".repeat(110), &long] {
            let dir = tempfile::tempdir().unwrap();
            let registry = Arc::new(Registry::open(dir.path().join("registry.jsonl")).unwrap());
            let tickets = Arc::new(Tickets::new(Arc::clone(&registry)));
            let encoded = name.parse::<DeviceName>().unwrap().percent_encoded();
            let certificate = handshake(&tickets, &format!("icecore:device:{encoded}"));
            let id = tickets.kept().by_id.keys().next().unwrap().clone();
            let session = tickets.kept().by_age.values().next().unwrap().session.clone();
            let comes_back = || {
                let taken = tickets.take(&id).is_some();
                assert_eq!((tickets.take(&id), tickets.kept().bytes), (None, 0), "it is good once");
                tickets.put(id.clone(), session.clone());
                taken
            };
            assert!(!comes_back(), "nobody is enrolled");
            registry.enrol(enrolment(name, &fingerprint(&certificate))).unwrap();
            assert!(comes_back());
            registry.renew(name, &fingerprint(&certificate), "new", 0).unwrap();
            assert!(!comes_back(), "there is a newer certificate");
            registry.enrol(enrolment(name, &fingerprint(&certificate))).unwrap();
            registry.revoke(name, 0).unwrap();
            assert!(!comes_back(), "it is revoked");
        }
    }

    #[test]
    fn a_session_without_a_certificate_of_ours_is_not_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path().join("registry.jsonl")).unwrap();
        let tickets = Tickets::new(Arc::new(registry));
        for session in [
            &b""[..],
            b"icecore:",
            b"\0\0\x04\x30\x82\0\0icecore:device:x",
            b"\xff\xff\xff\x30\x82\xff\xfficecore:",
        ] {
            tickets.put(vec![1], session.to_vec());
            assert_eq!(tickets.take(&[1]), None);
        }
    }

    fn enrolment(name: &str, certificate: &str) -> Enrolment {
        Enrolment {
            name: name.to_owned(),
            role: Role::Device,
            labels: BTreeMap::new(),
            grants: Vec::new(),
            certificate: certificate.to_owned(),
            enrolled_time: 0,
            renewed_from: None,
            revoked_time: None,
        }
    }

    /// A handshake in memory, by which `tickets` gets one. Returns the client's certificate.
    fn handshake(tickets: &Arc<Tickets>, uri: &str) -> CertificateDer<'static> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = |name: SanType| {
            let mut params = CertificateParams::default();
            params.subject_alt_names.push(name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()))
        };
        let (server_certificate, server_key) = own(SanType::DnsName("localhost".try_into().unwrap()));
        let (client_certificate, client_key) = own(SanType::URI(uri.try_into().unwrap()));
        let roots = |certificate: &CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            Arc::new(roots)
        };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(&client_certificate), Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server_certificate.clone()], server_key.into())
            .unwrap();
        server.session_storage = Arc::clone(tickets) as Arc<dyn StoresServerSessions>;
        server.send_tls13_tickets = 1;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(&server_certificate))
            .with_client_auth_cert(vec![client_certificate.clone()], client_key.into())
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        client_certificate
    }
}
