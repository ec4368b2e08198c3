//! Where the bytes of sealed segments are: local files, and what others know of.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk};
use crate::error::{Damage, LogError};
use crate::manifest::CurrentSegment;
use crate::sealed::{Footers, ReadAt, SealedSegment};
use crate::segment::Layout;
use crate::segment_id::SegmentId;

/// Says where to read a sealed segment that has no local file; `None` if that is not known either.
pub type Elsewhere = dyn Fn(SegmentId) -> io::Result<Option<Arc<dyn ReadAt>>> + Send + Sync;

/// The sealed segments of a log.
#[derive(Clone)]
pub(crate) struct SealedStore {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    elsewhere: Option<Arc<Elsewhere>>,
    footers: Option<Arc<Footers>>,
}

impl SealedStore {
    /// Local files, and nothing else.
    pub(crate) fn local(disk: Arc<dyn Disk>, layout: Layout) -> Self {
        Self { disk, layout, elsewhere: None, footers: None }
    }

    pub(crate) fn with_elsewhere(self, elsewhere: Arc<Elsewhere>) -> Self {
        Self { elsewhere: Some(elsewhere), ..self }
    }

    pub(crate) fn with_footers(self, footers: Arc<Footers>) -> Self {
        Self { footers: Some(footers), ..self }
    }

    /// Opens a segment for reading.
    ///
    /// # Errors
    /// [`LogError::Absent`] if it is nowhere.
    pub(crate) fn open(&self, segment: &CurrentSegment) -> Result<SealedSegment, LogError> {
        let path = self.layout.sealed(segment.id);
        if let Some(file) = self.open_file(&path)? {
            return self.open_known(file, segment, path);
        }
        let elsewhere = self.elsewhere.as_ref().map(|elsewhere| elsewhere(segment.id)).transpose();
        match elsewhere.map_err(LogError::io("find", &path))?.flatten() {
            // No file of that path is there, so errors name the segment.
            Some(bytes) => self.open_known(bytes, segment, format!("{}.ice", segment.id).into()),
            None => Err(absent(segment)),
        }
    }

    /// Whether there is a local file.
    pub(crate) fn is_here(&self, id: SegmentId) -> Result<bool, LogError> {
        Ok(self.open_file(&self.layout.sealed(id))?.is_some())
    }

    /// Opens a segment for looking up batches: what is kept of one that is elsewhere will do.
    ///
    /// # Errors
    /// [`LogError::Forgotten`] if it is known that nothing is left of it.
    pub(crate) fn open_for_lookup(&self, segment: &CurrentSegment) -> Result<SealedSegment, LogError> {
        let path = self.layout.sealed(segment.id);
        if let Some(file) = self.open_file(&path)? {
            return open_checked(file, segment, path);
        }
        let tail = self.layout.sealed_tail(segment.id);
        match self.open_file(&tail)? {
            Some(file) if file.len().map_err(LogError::io("read the length of", &tail))? == 0 => {
                Err(LogError::Forgotten { id: segment.id })
            }
            Some(file) => open_checked(Arc::new(Tail { file, whole: segment.child.bytes }), segment, tail),
            None => Err(absent(segment)),
        }
    }

    /// Checks what is kept here of a segment whose pages are elsewhere, if anything is.
    pub(crate) fn verify_tail(&self, segment: &CurrentSegment) -> Result<Vec<Damage>, LogError> {
        let tail = self.layout.sealed_tail(segment.id);
        let Some(file) = self.open_file(&tail)? else { return Ok(Vec::new()) };
        let whole = Arc::new(Tail { file, whole: segment.child.bytes });
        match open_checked(whole, segment, tail).and_then(|open| open.verify_directory()) {
            Err(LogError::Damaged(damage)) => Ok(vec![*damage]),
            verified => verified,
        }
    }

    /// Opens a segment that has to be the one its manifest names; what was known of that one is not read again.
    fn open_known(
        &self,
        bytes: Arc<dyn ReadAt>,
        segment: &CurrentSegment,
        name: PathBuf,
    ) -> Result<SealedSegment, LogError> {
        let open = match &self.footers {
            Some(footers) => SealedSegment::open_known(bytes, name.clone(), &segment.child.root, footers)?,
            None => SealedSegment::open(bytes, name.clone())?,
        };
        check(open, segment, name)
    }

    fn open_file(&self, path: &Path) -> Result<Option<Arc<dyn ReadAt>>, LogError> {
        match self.disk.open(path, Access::Read) {
            Ok(file) => Ok(Some(Arc::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::io("open", path)(error)),
        }
    }
}

fn absent(segment: &CurrentSegment) -> LogError {
    LogError::Absent { id: segment.id, positions: segment.child.positions.clone() }
}

/// Opens a segment that has to be the one its manifest names.
fn open_checked(
    bytes: Arc<dyn ReadAt>,
    segment: &CurrentSegment,
    name: PathBuf,
) -> Result<SealedSegment, LogError> {
    check(SealedSegment::open(bytes, name.clone())?, segment, name)
}

fn check(open: SealedSegment, segment: &CurrentSegment, name: PathBuf) -> Result<SealedSegment, LogError> {
    if open.summary().root == segment.child.root {
        return Ok(open);
    }
    let what = "this is not the segment its manifest names: the roots differ".to_owned();
    Err(Damage { file: name, offset: 0, what, positions: Some(segment.child.positions.clone()) }.into())
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The last bytes of a segment whose pages are elsewhere.
struct Tail {
    file: Arc<dyn ReadAt>,
    /// Bytes of the whole segment.
    whole: u64,
}

impl ReadAt for Tail {
    fn len(&self) -> io::Result<u64> {
        Ok(self.whole)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = self.whole.saturating_sub(self.file.len()?);
        if let Some(offset) = offset.checked_sub(start) {
            return self.file.read_at(offset, buf);
        }
        // Whoever looks for the footer reads a good part of the end at once, and some of that may have been pages.
        let pages = usize::try_from(start - offset).map_err(io::Error::other)?;
        let Some((before, tail)) = buf.split_at_mut_checked(pages).filter(|(_, tail)| !tail.is_empty())
        else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment's pages are not here"));
        };
        before.fill(0);
        self.file.read_at(0, tail)
    }
}
