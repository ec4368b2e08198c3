//! The sessions that clients may resume, with data in their first flight.
//!
//! A ticket names a session kept here; rustls takes it out when a client shows it, so that it is good for one connection,
//! and a recorded first flight that comes again finds nothing. It is not kept across restarts: a device then makes
//! one full handshake.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;

use crate::identity::name_of_uri;

/// Sessions kept, and their bytes in all (one holds the client's certificates, mostly a kilobyte). Enough for fleets of
/// this many devices that come and go; when there are more, those that have been away for longest make full handshakes.
const MAX_TICKETS: usize = 100_000;
const MAX_TICKET_BYTES: usize = 128 << 20;

/// What each costs beside its own bytes: its places in two maps and the allocations.
const OVERHEAD: usize = 200;

/// Begins the URI by which a certificate names its holder.
const URI_PREFIX: &[u8] = b"icecore:";

/// The sessions that may be resumed, each once.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Kept>);

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
    /// The name in the client's certificate.
    name: Option<String>,
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
    /// Forgets the sessions of the identities with these names.
    pub(super) fn purge(&self, names: &BTreeSet<String>) {
        let mut kept = self.kept();
        let gone: Vec<Vec<u8>> = (kept.by_age.values())
            .filter(|ticket| ticket.name.as_ref().is_some_and(|name| names.contains(name)))
            .map(|ticket| ticket.id.clone())
            .collect();
        for id in gone {
            kept.remove(&id);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock panics halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Tickets {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let name = uri(&session).and_then(name_of_uri).map(|name| name.as_str().to_owned());
        self.kept().insert(Ticket { id, session, name }, MAX_TICKETS, MAX_TICKET_BYTES);
        true
    }

    /// Sessions of TLS 1.2 are asked for in this way, and there are none.
    fn get(&self, _id: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.kept().remove(id).map(|ticket| ticket.session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// The URI name in the client's certificate, which stands in `session` as it came: in DER, a URI is a byte 0x86, its length and
/// its characters.
fn uri(session: &[u8]) -> Option<&str> {
    let start = session.windows(URI_PREFIX.len()).position(|window| window == URI_PREFIX)?;
    let length = match session[..start] {
        [.., 0x86, 0x82, high, low] => usize::from(u16::from_be_bytes([high, low])),
        [.., 0x86, 0x81, length] | [.., 0x86, length @ ..0x80] => usize::from(length),
        _ => return None,
    };
    std::str::from_utf8(session.get(start..start + length)?).ok()
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
    use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

    use super::*;

    fn ticket(id: u8, bytes: usize) -> Ticket {
        Ticket { id: vec![id], session: vec![id; bytes], name: None }
    }

    #[test]
    fn a_ticket_is_good_once() {
        let tickets = Tickets::default();
        tickets.put(vec![1], vec![7]);
        assert_eq!(tickets.take(&[1]), Some(vec![7]));
        assert_eq!(tickets.take(&[1]), None);
        assert_eq!(tickets.kept().bytes, 0);
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

    /// What is purged is found in how rustls encodes a session: this is where a newer one that does it otherwise shows.
    #[test]
    fn the_tickets_of_a_name_are_found_in_what_rustls_keeps() {
        let long = "x".repeat(128);
        for name in ["hall/pump", &"y".repeat(110), &long] {
            let tickets = Arc::new(Tickets::default());
            let name: DeviceName = name.parse().unwrap();
            handshake(&tickets, &format!("icecore:device:{}", name.percent_encoded()));
            let kept = |tickets: &Tickets| tickets.kept().by_id.len();
            assert_eq!(kept(&tickets), 1);
            tickets.purge(&BTreeSet::from(["hall".to_owned(), "hall/pump2".to_owned()]));
            assert_eq!(kept(&tickets), 1);
            tickets.purge(&BTreeSet::from([name.as_str().to_owned()]));
            assert_eq!(kept(&tickets), 0);
        }
    }

    /// A handshake in memory, by which `tickets` gets one.
    fn handshake(tickets: &Arc<Tickets>, uri: &str) {
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
            .with_client_auth_cert(vec![client_certificate], client_key.into())
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
    }
}
