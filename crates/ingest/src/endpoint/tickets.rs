//! The sessions that clients may resume, with data in their first flight.
//!
//! A ticket names a session kept here; rustls takes it out when a client shows it, so that it is good for one connection,
//! and a recorded first flight that comes again finds nothing. It is not kept across restarts: a device then makes
//! one full handshake.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;

/// Sessions kept, and their bytes in all (one holds the client's certificates, mostly a kilobyte). Enough for fleets of
/// this many devices that come and go; when there are more, those that have been away for longest make full handshakes.
const MAX_TICKETS: usize = 100_000;
const MAX_TICKET_BYTES: usize = 128 << 20;

/// What each costs beside its own bytes: its places in two maps and the allocations.
const OVERHEAD: usize = 200;

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
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock panics halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.kept().remove(id).map(|ticket| ticket.session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Says how many there are; they hold secrets.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tickets").field(&self.kept().by_id.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(id: u8, bytes: usize) -> Ticket {
        Ticket { id: vec![id], session: vec![id; bytes] }
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
}
