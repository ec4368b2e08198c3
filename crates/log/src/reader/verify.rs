//! Checking all of a log that is not in the pages of sealed segments.

use super::{LogReader, OnAbsent, OnDamage, Scan};
use crate::error::{Damage, LogError};
use crate::manifest;
use crate::sealed_store::SealedStore;

impl LogReader {
    /// Reads what there is on this disk of the log, except sealed segments that are here whole: manifests, hot segments, and what
    /// is kept of sealed segments whose pages are not here. Gives all damage there is. Segments have a
    /// [`verify`](crate::sealed::SealedSegment::verify) of their own.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn verify(&self) -> Result<Vec<Damage>, LogError> {
        let mut found = self.verify_manifests()?;
        for damage in self.verify_hot()? {
            // Damaged manifests are told wherever they are read.
            if !found.iter().any(|known| known.name() == damage.name()) {
                found.push(damage);
            }
        }
        for segment in self.segments.sealed.iter().flat_map(|part| &part.segments) {
            found.extend(self.store.verify_tail(segment)?);
        }
        Ok(found)
    }

    /// The same for the manifests alone.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn verify_manifests(&self) -> Result<Vec<Damage>, LogError> {
        let SealedStore { disk, layout, .. } = &self.store;
        let heads = self.segments.damage.iter().filter(|damage| damage.file.starts_with(&layout.manifests));
        let mut found: Vec<Damage> = heads.cloned().collect();
        for manifest in self.manifests() {
            match manifest::read_facts(&**disk, layout, manifest.number) {
                Ok(_) => {}
                Err(LogError::Damaged(damage)) => found.push(*damage),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn verify_hot(&self) -> Result<Vec<Damage>, LogError> {
        let mut records = self.scan(Scan {
            positions: Some(self.sealed_to()..u64::MAX),
            on_damage: OnDamage::Skip,
            on_absent: OnAbsent::Skip,
            ..Scan::default()
        });
        records.by_ref().try_for_each(|record| record.map(drop))?;
        Ok(records.damage().to_vec())
    }
}
