//! The registry of identities, mirrored line by line: the history has what `registry.jsonl` says.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::decision::{What, Why};
use super::effect::Beside;
use super::error::CatalogError;
use super::rows::{Tables, decode, encode};
use super::{Catalog, carry_out, next};

/// The key of its row in the table `state`.
const KEY: &str = "identities";

/// Which lines of the registry the history has: so many, from the first on, with this hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    lines: u64,
    hash: [u8; 32],
}

impl Known {
    fn and(self, line: &str) -> Self {
        let hash = blake3::Hasher::new().update(&self.hash).update(line.as_bytes()).finalize().into();
        Self { lines: self.lines + 1, hash }
    }
}

impl Catalog {
    /// Puts the lines of `registry`, the text of `registry.jsonl`, into the history that are not there yet; returns how many that
    /// were. A line without its newline is still being written and waits. A registry that does not begin with what is known was put
    /// in place of another one, and all of it goes there: later facts about a name beat earlier ones.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn identities(&self, registry: &str, why: &Why) -> Result<u64, CatalogError> {
        let lines = || {
            let whole = registry.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            whole.filter(|line| !line.trim_ascii().is_empty())
        };
        self.transact(|tables| {
            let known = tables.known_identities()?;
            let goes_on = usize::try_from(known.lines).is_ok_and(|begin| {
                let begun = lines().take(begin).fold(Known::default(), Known::and);
                begun == known
            });
            let begin = if goes_on { known.lines } else { 0 };
            if !goes_on {
                tables.put_known_identities(Known::default())?;
            }
            let mut added = 0;
            for line in lines().skip(usize::try_from(begin).unwrap_or(usize::MAX)) {
                let decision = next(tables, why, What::Identity { line: line.to_owned() })?;
                carry_out(tables, &decision, Beside::default())?;
                tables.append(&decision)?;
                added += 1;
            }
            Ok(added)
        })
    }
}

impl Tables<'_> {
    /// The history has another line of the registry.
    pub(super) fn note_identity(&mut self, line: &str) -> Result<(), CatalogError> {
        let known = self.known_identities()?.and(line);
        self.put_known_identities(known)
    }

    fn known_identities(&self) -> Result<Known, CatalogError> {
        let row = self.stored.get(KEY)?;
        row.map_or(Ok(Known::default()), |row| decode("state", &KEY, row.value()))
    }

    fn put_known_identities(&mut self, known: Known) -> Result<(), CatalogError> {
        self.stored.insert(KEY, &*encode(&known))?;
        Ok(())
    }
}
