//! Footers that were read, kept for the next who opens the same segment.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SealedSummary;
use super::footer::Footer;

/// Footers of sealed segments in memory, up to a limit: what was used longest ago goes first. A footer of many devices takes
/// milliseconds to read, and files that are only looked up in are opened again and again.
///
/// Files are not kept open: one that is removed gives its space back at once.
pub struct Footers {
    limit: usize,
    kept: Mutex<Kept>,
}

/// By the root of their segment.
#[derive(Default)]
struct Kept {
    footers: HashMap<[u8; 32], Entry>,
    /// By turn: the one that was used longest ago is first.
    turns: BTreeMap<u64, [u8; 32]>,
    next_turn: u64,
    bytes: usize,
}

struct Entry {
    opened: Opened,
    bytes: usize,
    turn: u64,
}

/// What is known of a segment when it is open.
pub(super) type Opened = (Arc<Footer>, Arc<SealedSummary>);

impl Footers {
    /// Keeps about so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::default() }
    }

    pub(super) fn get(&self, root: &[u8; 32]) -> Option<Opened> {
        let kept = &mut *self.kept();
        let entry = kept.footers.get_mut(root)?;
        kept.turns.remove(&entry.turn);
        entry.turn = kept.next_turn;
        kept.turns.insert(entry.turn, *root);
        kept.next_turn += 1;
        Some(entry.opened.clone())
    }

    pub(super) fn put(&self, root: [u8; 32], opened: Opened) {
        let bytes = opened.0.memory();
        if bytes > self.limit {
            return;
        }
        let kept = &mut *self.kept();
        kept.remove(&root);
        let turn = kept.next_turn;
        kept.next_turn += 1;
        kept.turns.insert(turn, root);
        kept.footers.insert(root, Entry { opened, bytes, turn });
        kept.bytes += bytes;
        while kept.bytes > self.limit {
            let Some((_, oldest)) = kept.turns.first_key_value() else { return };
            let oldest = *oldest;
            kept.remove(&oldest);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, root: &[u8; 32]) {
        if let Some(entry) = self.footers.remove(root) {
            self.turns.remove(&entry.turn);
            self.bytes -= entry.bytes;
        }
    }
}

impl fmt::Debug for Footers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Footers").field("limit", &self.limit).finish_non_exhaustive()
    }
}
