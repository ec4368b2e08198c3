//! Manifests: the permanent record that a seal happened.
//!
//! A manifest is the commit point of a seal. With it its children are the truth and its sources are garbage, without it
//! the reverse. It also keeps what the sources said without events (refusals, drops) and which sequences they held, so
//! that what is settled is known for ever, wherever the children are.

mod codec;
mod facts;
mod history;
pub(crate) mod lost;

use std::ops::{Range, RangeInclusive};

use std::path::{Path, PathBuf};

use crate::segment::Layout;
use crate::segment_id::SegmentId;

pub(crate) use facts::{FactsBuilder, Placed, SealedFacts};
pub(crate) use history::{CurrentSegment, History, SealedEnd, SealedPart, publish, read_facts, read_file};

/// What one seal made of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The id of the log.
    pub log: [u8; 16],
    /// Its number: manifests count from 0 without gaps.
    pub number: u64,
    /// The term of its newest hot source; without any, that of the manifest before.
    pub term: u64,
    /// When it was written, in nanoseconds since the Unix epoch.
    pub created: i64,
    /// The blocks of its hot sources. Manifests follow one another: a split has an empty range.
    pub blocks: Range<u64>,
    /// The positions of its hot sources' events.
    pub positions: Range<u64>,
    /// The newest received time up to here, in nanoseconds since the Unix epoch.
    pub received: i64,
    /// The log's hash chain after the last block.
    pub chain: [u8; 32],
    /// The hash of the manifest before it; zeros for the first.
    pub previous: [u8; 32],
    /// What was sealed: hot segments in order, or one sealed segment that was split.
    pub sources: Vec<SealSource>,
    /// What it was sealed into; [`SegmentId::child`] counts them.
    pub children: Vec<Child>,
    /// What the operator had accepted as lost of the sources, before they were sealed.
    pub lost: Vec<Lost>,
    pub(crate) facts: FactsSection,
}

/// A source of a seal. It is gone, once the manifest is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealSource {
    /// A hot segment.
    Hot {
        /// Its number.
        number: u64,
        /// Its blocks.
        blocks: Range<u64>,
        /// The positions of its events.
        positions: Range<u64>,
        /// The hash chain after its last block.
        chain: [u8; 32],
    },
    /// A sealed segment, split into others.
    Sealed {
        /// Its id.
        id: SegmentId,
        /// Its root.
        root: [u8; 32],
    },
}

/// Damage of a source, kept on record when the source was sealed without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The positions that could not be read.
    pub positions: Range<u64>,
    /// What was wrong, and where.
    pub what: String,
}

/// A sealed segment as its manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The retention class of its batches.
    pub class: String,
    /// The root over its content.
    pub root: [u8; 32],
    /// Bytes of the file.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Batches in it.
    pub batches: u64,
    /// From its first event's position to behind its last one's. Other children may hold positions in between.
    pub positions: Range<u64>,
    /// The oldest and the newest received time, in nanoseconds since the Unix epoch.
    pub received: RangeInclusive<i64>,
    /// The least and the greatest event time, in nanoseconds since the Unix epoch.
    pub times: RangeInclusive<i64>,
}

/// The facts behind the head of a manifest: where and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FactsSection {
    stored_len: u32,
    plain_len: u32,
    /// BLAKE3 of the section as stored.
    hash: [u8; 32],
}

impl Manifest {
    /// Where the manifest's file is in the data directory `data`.
    #[must_use]
    pub fn file(&self, data: &Path) -> PathBuf {
        Self::path(data, self.number)
    }

    /// Where the file of the manifest of this number is, or would be, in the data directory `data`.
    #[must_use]
    pub fn path(data: &Path, number: u64) -> PathBuf {
        Layout::new(data).manifest(number)
    }

    /// Its children with their ids.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (SegmentId, &Child)> {
        let manifest = self.number;
        self.children
            .iter()
            .enumerate()
            .map(move |(child, segment)| (SegmentId { manifest, child: child as u32 }, segment))
    }

    /// The number of its newest hot source.
    pub(crate) fn last_hot_source(&self) -> Option<u64> {
        self.sources.iter().rev().find_map(|source| match source {
            SealSource::Hot { number, .. } => Some(*number),
            SealSource::Sealed { .. } => None,
        })
    }

    /// The sealed segments that it replaces.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = SegmentId> {
        self.sources.iter().filter_map(|source| match source {
            SealSource::Sealed { id, .. } => Some(*id),
            SealSource::Hot { .. } => None,
        })
    }
}
