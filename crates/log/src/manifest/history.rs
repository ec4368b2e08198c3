//! All manifests of a log: read, checked against each other, and added to.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::codec::damaged;
use super::{Child, Manifest, SealedFacts, lost};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Damage, LogError};
use crate::mutants::{Mutant, planted};
use crate::segment::{Layout, LogId, unfinished};
use crate::segment_id::SegmentId;

/// Bytes read at first: the whole head of most manifests.
const FIRST_READ: usize = 4 << 10;

/// The manifests of a log as they are at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Those that can be read, oldest first.
    pub(crate) manifests: Vec<Arc<Manifest>>,
    /// What is wrong with the others.
    pub(crate) damage: Vec<Damage>,
    /// The number of the next one.
    pub(crate) next_number: u64,
}

/// What the seals of one stretch of hot segments have come to.
#[derive(Debug, Clone)]
pub(crate) struct SealedPart {
    /// The manifest that sealed the hot segments.
    pub(crate) manifest: Arc<Manifest>,
    /// Its children that count, or, where they were split, what they were split into.
    pub(crate) segments: Vec<CurrentSegment>,
}

/// A sealed segment that counts: it was not split.
#[derive(Debug, Clone)]
pub(crate) struct CurrentSegment {
    pub(crate) id: SegmentId,
    pub(crate) child: Child,
}

/// Where the sealed part of a log ends and the hot one begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedEnd {
    pub(crate) block: u64,
    pub(crate) position: u64,
    pub(crate) chain: [u8; 32],
    /// Hot segments up to this number are garbage.
    pub(crate) hot_segment: u64,
    pub(crate) term: u64,
    pub(crate) received: i64,
}

impl History {
    /// Reads the heads of all manifests.
    pub(crate) fn read(disk: &dyn Disk, layout: &Layout) -> Result<Self, LogError> {
        let names = match disk.list(&layout.manifests) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(LogError::io("list", &layout.manifests))?,
        };
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_suffix(".manifest")?.parse().ok()).collect();
        numbers.sort_unstable();
        let mut history = Self::default();
        for number in numbers {
            let path = layout.manifest(number);
            if number != history.next_number {
                let missing = format!("manifests {} to {number} are missing before it", history.next_number);
                history.damage.push(missing_before(&path, missing));
            }
            history.next_number = number + 1;
            match read_head(disk, &path).and_then(|manifest| history.check(manifest, number, &path)) {
                Ok(manifest) => history.manifests.push(Arc::new(manifest)),
                Err(LogError::Damaged(damage)) => history.damage.push(*damage),
                Err(error) => return Err(error),
            }
        }
        Ok(history)
    }

    /// Whether a manifest follows from those before it.
    fn check(&self, manifest: Manifest, number: u64, path: &Path) -> Result<Manifest, LogError> {
        if manifest.number != number {
            return Err(damaged(path, "this is another manifest, under a wrong name"));
        }
        let Some(before) = self.manifests.last() else {
            let is_first = number > 0 || (manifest.blocks.start, manifest.previous) == (0, [0; 32]);
            return is_first
                .then_some(manifest)
                .ok_or_else(|| damaged(path, "the first manifest names one before it"));
        };
        if manifest.log != before.log {
            let what = "this manifest belongs to another log".to_owned();
            return Err(LogError::Foreign { file: path.to_path_buf(), what });
        }
        let follows = (manifest.blocks.start, manifest.positions.start, manifest.previous)
            == (before.blocks.end, before.positions.end, before.hash());
        if before.number + 1 == number && !follows {
            return Err(damaged(path, "the manifest does not follow from the one before it"));
        }
        Ok(manifest)
    }

    /// Takes in a manifest that was published.
    pub(crate) fn push(&mut self, manifest: Arc<Manifest>) {
        self.next_number = manifest.number + 1;
        self.manifests.push(manifest);
    }

    /// The id of the log, if there is any manifest.
    pub(crate) fn log(&self) -> Option<LogId> {
        self.manifests.last().map(|manifest| manifest.log)
    }

    /// Where the sealed part of the log ends; `None` if there is none.
    pub(crate) fn end(&self) -> Option<SealedEnd> {
        let last = self.manifests.last()?;
        Some(SealedEnd {
            block: last.blocks.end,
            position: last.positions.end,
            chain: last.chain,
            hot_segment: self.manifests.iter().rev().find_map(|manifest| manifest.last_hot_source())?,
            term: last.term,
            received: last.received,
        })
    }

    /// A sealed segment that counts.
    pub(crate) fn find(&self, id: SegmentId) -> Result<CurrentSegment, LogError> {
        let mut all = self.parts().into_iter().flat_map(|part| part.segments);
        all.find(|segment| segment.id == id).ok_or(LogError::Absent { id, positions: 0..0 })
    }

    /// The sealed part of the log, in log order.
    pub(crate) fn parts(&self) -> Vec<SealedPart> {
        let mut parts: Vec<SealedPart> = Vec::new();
        let mut part_of: HashMap<SegmentId, usize> = HashMap::new();
        for manifest in &self.manifests {
            let replaced: Vec<SegmentId> = manifest.replaced().collect();
            // The parts of a split segment stay where it was.
            let index = replaced.first().and_then(|id| part_of.get(id).copied()).unwrap_or_else(|| {
                parts.push(SealedPart { manifest: Arc::clone(manifest), segments: Vec::new() });
                parts.len() - 1
            });
            let part = &mut parts[index];
            part.segments.retain(|segment| !replaced.contains(&segment.id));
            part.segments
                .extend(manifest.segments().map(|(id, child)| CurrentSegment { id, child: child.clone() }));
            part_of.extend(manifest.segments().map(|(id, _)| (id, index)));
        }
        parts
    }
}

impl SealedPart {
    /// What was lost of it before it was sealed.
    pub(crate) fn damage(&self, layout: &Layout) -> impl Iterator<Item = Damage> {
        let file = layout.manifest(self.manifest.number);
        self.manifest.lost.iter().map(move |lost| {
            let what = format!("lost before it was sealed: {}", lost.what);
            Damage { file: file.clone(), offset: 0, what, positions: Some(lost.positions.clone()) }
        })
    }
}

fn missing_before(path: &Path, what: String) -> Damage {
    Damage { file: path.to_path_buf(), offset: 0, what, positions: None }
}

fn read_head(disk: &dyn Disk, path: &Path) -> Result<Manifest, LogError> {
    let file = disk.open(path, Access::Read).map_err(LogError::io("open", path))?;
    let len = file.len().map_err(LogError::io("read the length of", path))?;
    let mut bytes = read(&*file, path, 0, FIRST_READ)?;
    let head_len = Manifest::head_len(&bytes, path)?;
    if head_len > bytes.len() {
        let more = read(&*file, path, bytes.len() as u64, head_len - bytes.len())?;
        bytes.extend_from_slice(&more);
    }
    let (manifest, head_len) = Manifest::decode_head(&bytes, path)?;
    if len != (head_len + manifest.facts_len()) as u64 {
        return Err(damaged(path, "the manifest is not as long as its head says"));
    }
    Ok(manifest)
}

fn read(file: &dyn DiskFile, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, LogError> {
    let mut bytes = vec![0; len];
    let len = file.read_at(&mut bytes, offset).map_err(LogError::io("read", path))?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads a whole manifest file.
pub(crate) fn read_file(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<Vec<u8>, LogError> {
    let path = layout.manifest(number);
    let file = disk.open(&path, Access::Read).map_err(LogError::io("open", &path))?;
    let len = file.len().map_err(LogError::io("read the length of", &path))?;
    read(&*file, &path, 0, len as usize)
}

/// Reads and checks the facts of a manifest, but for what is lost of it.
pub(crate) fn read_facts(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<SealedFacts, LogError> {
    let path = layout.manifest(number);
    let bytes = read_file(disk, layout, number)?;
    let (manifest, head_len) = Manifest::decode_head(&bytes, &path)?;
    let facts = SealedFacts::decode(&manifest.unpack_facts(&bytes[head_len..], &path)?, &path)?;
    Ok(facts.without(&lost::read(disk, layout, number)?))
}

/// Writes a manifest by the book: when this returns, the seal has happened. Until the rename nothing has; if the sync
/// after it fails, nobody knows.
pub(crate) fn publish(disk: &dyn Disk, layout: &Layout, number: u64, bytes: &[u8]) -> Result<(), LogError> {
    let path = layout.manifest(number);
    let unfinished = unfinished(&path);
    let file = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
    file.write_at(bytes, 0).map_err(LogError::io("write", &unfinished))?;
    file.sync().map_err(LogError::io("sync", &unfinished))?;
    disk.rename(&unfinished, &path).map_err(LogError::io("rename", &unfinished))?;
    if planted(Mutant::SourcesBeforeManifest) {
        return Ok(());
    }
    disk.sync_dir(&layout.manifests).map_err(LogError::io("sync", &layout.manifests))
}
