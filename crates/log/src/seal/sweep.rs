//! Removing what does not count: sources whose children do, and children that no manifest names.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::LogError;
use crate::manifest::{self, History, Manifest};
use crate::mutants::{Mutant, planted};
use crate::segment::Layout;
use crate::segment_id::SegmentId;

/// What is done about children that no manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// They are what an interrupted seal has left.
    Remove,
    /// They may be that, or their manifest is lost.
    Keep,
}

/// Finishes what a crash interrupted, when the log is opened.
pub(crate) fn finish_interrupted(
    disk: &dyn Disk,
    layout: &Layout,
    history: &mut History,
    leftovers: Leftovers,
) -> Result<(), LogError> {
    let mut garbage: Vec<PathBuf> = Vec::new();
    for manifest in &history.manifests {
        garbage.extend(manifest.replaced().map(|id| layout.sealed(id)));
        garbage.extend(manifest.replaced().map(|id| layout.sealed_tail(id)));
    }
    let sealed = list(disk, &layout.sealed)?;
    garbage.retain(|path| sealed.contains(path));
    if let Some(end) = history.end() {
        let is_old = |path: &PathBuf| hot_number(path).is_some_and(|number| number <= end.hot_segment);
        garbage.extend(list(disk, &layout.hot)?.into_iter().filter(is_old));
    }
    if let Some(newest) = history.manifests.last().filter(|_| !garbage.is_empty()) {
        // It has its name, but that may be so in memory only.
        if !planted(Mutant::TrustManifest) {
            let bytes = manifest::read_file(disk, layout, newest.number)?;
            manifest::publish(disk, layout, newest.number, &bytes)?;
        }
        garbage.sort_by_key(|path| removal_order(path));
        garbage.iter().try_for_each(|path| remove(disk, path))?;
    }
    for path in sealed {
        let Some(id) = segment_id(&path).filter(|id| id.manifest >= history.next_number) else { continue };
        match leftovers {
            Leftovers::Remove => remove(disk, &path)?,
            // Their names are not given again.
            Leftovers::Keep => history.next_number = id.manifest + 1,
        }
    }
    Ok(())
}

/// Removes the children of a manifest that was not written.
pub(super) fn remove_children(disk: &dyn Disk, layout: &Layout, manifest: u64) -> Result<(), LogError> {
    for path in list(disk, &layout.sealed)? {
        if segment_id(&path).is_some_and(|id| id.manifest == manifest) {
            remove(disk, &path)?;
        }
    }
    Ok(())
}

/// Removes the sources of a manifest that is durable.
pub(super) fn remove_sources(disk: &dyn Disk, layout: &Layout, manifest: &Manifest) -> Result<(), LogError> {
    for source in &manifest.sources {
        match source {
            // In this order: without its segment nobody builds a directory again.
            manifest::SealSource::Hot { number, .. } => {
                remove(disk, &layout.segment(*number))?;
                remove(disk, &layout.directory(*number))?;
            }
            manifest::SealSource::Sealed { id, .. } => {
                remove(disk, &layout.sealed(*id))?;
                remove(disk, &layout.sealed_tail(*id))?;
            }
        }
    }
    Ok(())
}

pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let names = disk.list(dir).map_err(LogError::io("list", dir))?;
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Segments before their directories.
fn removal_order(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "dir")
}

fn hot_number(path: &Path) -> Option<u64> {
    let is_hot = path.extension().is_some_and(|extension| extension == "hot" || extension == "dir");
    is_hot.then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
}

/// The segment that a file in `sealed/` is of, finished or not.
fn segment_id(path: &Path) -> Option<SegmentId> {
    path.file_name()?.to_str()?.split_once('.')?.0.parse().ok()
}
