//! What a snapshot begins with.

use std::mem::{offset_of, size_of};
use std::path::Path;

use icecore_log::LogPoint;
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::SnapshotError;
use super::tree::PageRef;

const MAGIC: [u8; 8] = *b"ICE-SNAP";

/// The version of heads and pages. A later one is refused.
const VERSION: u32 = 1;

/// Magic, version and the CRC32C of what follows.
const PREFIX_BYTES: usize = 16;

/// Bytes of the head; pages follow.
pub(super) const HEAD_BYTES: usize = PREFIX_BYTES + size_of::<ArchivedHeadV1>();

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every device.
    Full,
    /// The devices that changed since another snapshot.
    Delta {
        /// The number of the block up to which that one goes.
        base: u64,
    },
}

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The id of the log.
    pub log: [u8; 16],
    /// What it holds.
    pub kind: Kind,
    /// Where the log goes on behind it. The block's number finds it, whichever segment a recovery or a seal has moved it to.
    pub point: LogPoint,
    /// The term in which it was written.
    pub term: u64,
    /// The newest received time in it, nanoseconds since the Unix epoch.
    pub received: i64,
    /// When it was written, nanoseconds since the Unix epoch.
    pub created: i64,
    /// How many devices it holds.
    pub devices: u64,
}

/// What else stands in a head: where the pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The definitions of all schemas that its devices have.
    pub(super) schemas: PageRef,
    /// The page at the top; one without bytes if there are no devices.
    pub(super) root: PageRef,
    /// Levels of branches above the leaves.
    pub(super) height: u32,
    /// Bytes of the file.
    pub(super) len: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct HeadV1 {
    log: [u8; 16],
    chain: [u8; 32],
    block: u64,
    position: u64,
    term: u64,
    received: i64,
    created: i64,
    base: u64,
    devices: u64,
    len: u64,
    schemas: PageRef,
    root: PageRef,
    height: u32,
    is_delta: bool,
}

// The layout that `docs/format.md` specifies.
const _: () = {
    assert!(size_of::<ArchivedHeadV1>() == 152);
    assert!(offset_of!(ArchivedHeadV1, chain) == 16);
    assert!(offset_of!(ArchivedHeadV1, block) == 48);
    assert!(offset_of!(ArchivedHeadV1, len) == 104);
    assert!(offset_of!(ArchivedHeadV1, schemas) == 112);
    assert!(offset_of!(ArchivedHeadV1, root) == 128);
    assert!(offset_of!(ArchivedHeadV1, height) == 144);
    assert!(offset_of!(ArchivedHeadV1, is_delta) == 148);
    assert!(HEAD_BYTES.is_multiple_of(8));
};

pub(super) fn encode(head: &SnapshotHead, layout: &Layout) -> Vec<u8> {
    let base = match head.kind {
        Kind::Full => None,
        Kind::Delta { base } => Some(base),
    };
    let head = HeadV1 {
        log: head.log,
        chain: head.point.chain,
        block: head.point.block,
        position: head.point.position,
        term: head.term,
        received: head.received,
        created: head.created,
        base: base.unwrap_or_default(),
        devices: head.devices,
        len: layout.len,
        schemas: layout.schemas,
        root: layout.root,
        height: layout.height,
        is_delta: base.is_some(),
    };
    let body = rkyv::to_bytes::<Error>(&head).expect("numbers are written to memory");
    let mut out = Vec::with_capacity(HEAD_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

pub(super) fn decode(bytes: &[u8], file: &Path) -> Result<(SnapshotHead, Layout), SnapshotError> {
    let damaged = |what: &str| SnapshotError::damaged(file, 0, what);
    let prefix = bytes.get(..PREFIX_BYTES).ok_or_else(|| damaged("the head is cut short"))?;
    if prefix[..8] != MAGIC {
        return Err(damaged("the file does not begin as a snapshot"));
    }
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| prefix[at + byte]));
    if number(8) != VERSION {
        return Err(SnapshotError::Foreign { file: file.to_path_buf(), version: number(8) });
    }
    let mut body = AlignedVec::<16>::new();
    body.extend_from_slice(
        bytes.get(PREFIX_BYTES..HEAD_BYTES).ok_or_else(|| damaged("the head is cut short"))?,
    );
    if crc32c::crc32c(&body) != number(12) {
        return Err(damaged("the head fails its CRC32C"));
    }
    let head = rkyv::from_bytes::<HeadV1, Error>(&body).map_err(|error| damaged(&error.to_string()))?;
    let kind = if head.is_delta { Kind::Delta { base: head.base } } else { Kind::Full };
    let point = LogPoint { block: head.block, position: head.position, chain: head.chain };
    let layout = Layout { schemas: head.schemas, root: head.root, height: head.height, len: head.len };
    let HeadV1 { log, term, received, created, devices, .. } = head;
    Ok((SnapshotHead { log, kind, point, term, received, created, devices }, layout))
}
