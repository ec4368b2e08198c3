//! Pieces of remote objects, kept in a local directory up to a limit.
//!
//! A piece is a file with its checksum behind it: one that a crash or a bad disk spoilt is dropped and fetched again. The
//! directory may be deleted at any time, and several processes may use it: each keeps the limit as far as it can see.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// BLAKE3, cut to this many bytes, ends every file.
const CHECKSUM: usize = 16;

/// A bounded directory of pieces.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
    limit: u64,
    kept: Mutex<Kept>,
}

/// What the directory holds, as far as this process knows.
#[derive(Debug, Default)]
struct Kept {
    /// By name: its turn and its bytes.
    pieces: HashMap<String, (u64, u64)>,
    /// By turn: the piece that was used longest ago is first.
    turns: BTreeMap<u64, String>,
    next_turn: u64,
    bytes: u64,
}

impl Cache {
    /// The cache in `directory`, which is created if it is not there, of at most `limit` bytes; 0 keeps nothing.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(directory: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else {
                continue;
            };
            if name.contains('.') {
                // Half written by a process that is gone, or by one that will miss it and shrug.
                drop(fs::remove_file(entry.path()));
            } else {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, name, metadata.len()));
            }
        }
        found.sort();
        let mut kept = Kept::default();
        for (_, name, bytes) in found {
            kept.insert(name, bytes);
        }
        let cache = Self { directory: directory.to_owned(), limit, kept: Mutex::new(kept) };
        cache.shrink(&mut cache.kept());
        Ok(cache)
    }

    /// The piece `number` of the object with this hash, if it is here and whole.
    #[must_use]
    pub fn get(&self, object: &[u8; 32], number: u64) -> Option<Vec<u8>> {
        let name = name(object, number);
        self.kept().touch(&name);
        let path = self.directory.join(&name);
        let mut content = fs::read(&path).ok()?;
        let whole = content.len().checked_sub(CHECKSUM).is_some_and(|length| {
            let (piece, sum) = content.split_at(length);
            checksum(piece) == *sum
        });
        if !whole {
            tracing::warn!(file = %path.display(), "spoilt piece dropped from the cache");
            drop(fs::remove_file(path));
            self.kept().remove(&name);
            return None;
        }
        content.truncate(content.len() - CHECKSUM);
        Some(content)
    }

    /// Keeps a piece. That it cannot be kept is no error: it is told to the log, and fetched again when it is wanted.
    pub fn put(&self, object: &[u8; 32], number: u64, piece: &[u8]) {
        let bytes = (piece.len() + CHECKSUM) as u64;
        if bytes > self.limit {
            return;
        }
        let name = name(object, number);
        let path = self.directory.join(&name);
        let half = self.directory.join(format!("{name}.{}", process::id()));
        let written =
            fs::write(&half, [piece, &checksum(piece)].concat()).and_then(|()| fs::rename(&half, &path));
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "cannot keep a piece in the cache");
            drop(fs::remove_file(half));
            return;
        }
        let mut kept = self.kept();
        kept.insert(name, bytes);
        self.shrink(&mut kept);
    }

    /// Removes what was used longest ago until the limit is kept.
    fn shrink(&self, kept: &mut Kept) {
        while kept.bytes > self.limit {
            let Some((_, oldest)) = kept.turns.first_key_value() else { return };
            let oldest = oldest.clone();
            drop(fs::remove_file(self.directory.join(&oldest)));
            kept.remove(&oldest);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, name: String, bytes: u64) {
        self.remove(&name);
        self.turns.insert(self.next_turn, name.clone());
        self.pieces.insert(name, (self.next_turn, bytes));
        self.next_turn += 1;
        self.bytes += bytes;
    }

    fn touch(&mut self, name: &str) {
        if let Some(&(_, bytes)) = self.pieces.get(name) {
            self.insert(name.to_owned(), bytes);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some((turn, bytes)) = self.pieces.remove(name) {
            self.turns.remove(&turn);
            self.bytes -= bytes;
        }
    }
}

fn name(object: &[u8; 32], number: u64) -> String {
    let object = u128::from_be_bytes(*object.first_chunk().expect("16 of 32 bytes"));
    format!("{object:032x}-{number}")
}

fn checksum(piece: &[u8]) -> [u8; CHECKSUM] {
    *blake3::hash(piece).as_bytes().first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn pieces_are_kept_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        Cache::open(directory.path(), 1000).unwrap().put(&A, 7, b"seven");
        let cache = Cache::open(directory.path(), 1000).unwrap();
        assert_eq!(cache.get(&A, 7).as_deref(), Some(b"seven".as_slice()));
        assert_eq!(cache.get(&A, 8), None);
        assert_eq!(cache.get(&B, 7), None);
    }

    #[test]
    fn what_was_used_longest_ago_leaves_first() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 3 * (100 + CHECKSUM as u64)).unwrap();
        for number in 0..3 {
            cache.put(&A, number, &[0; 100]);
        }
        cache.get(&A, 0).unwrap();
        cache.put(&A, 3, &[0; 100]);
        let held: Vec<_> = (0..4).filter(|&number| cache.get(&A, number).is_some()).collect();
        assert_eq!(held, [0, 2, 3]);
        assert_eq!(files(directory.path()), 3);
        drop(cache);
        Cache::open(directory.path(), 200).unwrap();
        assert_eq!(files(directory.path()), 1, "a smaller limit holds at once");
    }

    #[test]
    fn a_spoilt_piece_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 1000).unwrap();
        cache.put(&A, 0, b"whole");
        let file = directory.path().join(name(&A, 0));
        for spoilt in [b"wHole".to_vec(), b"".to_vec(), [0; 200].to_vec()] {
            fs::write(&file, spoilt).unwrap();
            assert_eq!(cache.get(&A, 0), None);
            assert!(!file.exists());
        }
    }

    #[test]
    fn nothing_is_kept_without_a_limit_and_half_written_files_go() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("00-1.99"), b"half").unwrap();
        let cache = Cache::open(directory.path(), 0).unwrap();
        cache.put(&A, 0, b"");
        assert_eq!(files(directory.path()), 0);
    }
}
