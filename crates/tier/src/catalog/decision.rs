//! Decisions: everything that ever happened to a segment, a hold, a policy, in order and in words.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::rollups::RolledUp;
use crate::hold::Hold;
use crate::instant;
use crate::segment::{SegmentId, Span};
use crate::snapshot::KeptSnapshot;

/// One entry of the history. It is never edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number; dense, from 0.
    pub number: u64,
    /// When it was made, in nanoseconds since the Unix epoch.
    #[serde(with = "instant")]
    pub time: i64,
    /// Who made it: an operator, or a part of the server.
    pub by: String,
    /// The policy that asked for it, if one did.
    pub policy: Option<String>,
    /// The version of the policies that applied then; `None` before there were any.
    pub version: Option<u64>,
    /// Why, in words.
    pub reason: String,
    /// What was decided.
    pub what: What,
}

/// Who decides, when and why: what the caller of a decision knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The time, in nanoseconds since the Unix epoch.
    pub time: i64,
    /// Who: an operator, or a part of the server.
    pub by: String,
    /// The policy that asks for it, if one does.
    pub policy: Option<String>,
    /// The reason, in words.
    pub reason: String,
}

/// What a decision changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A manifest brought these segments, out of hot segments or, where `from` names any, in place of sealed ones.
    Registered {
        /// The manifest's number.
        manifest: u64,
        /// The sealed segments that these replace.
        from: Vec<SegmentId>,
        /// The positions it covers.
        positions: Range<u64>,
        /// The new segments.
        segments: Vec<Sealed>,
    },
    /// A copy in object storage was read back and is the same.
    Copied {
        /// The segment.
        segment: SegmentId,
        /// The store.
        store: String,
        /// The storage class; `None` is the store's usual one.
        class: Option<String>,
    },
    /// A copy in object storage is gone or is not the same any more.
    CopyLost {
        /// The segment.
        segment: SegmentId,
        /// The store.
        store: String,
    },
    /// A copy in object storage may go: from now on the others count.
    CopyDropped {
        /// The segment.
        segment: SegmentId,
        /// The store.
        store: String,
    },
    /// The local file may go: from now on the copies count.
    LocalDropped {
        /// The segment.
        segment: SegmentId,
    },
    /// The local file is gone or damaged, without having been dropped.
    LocalLost {
        /// The segment.
        segment: SegmentId,
    },
    /// The local file is there, and whole.
    LocalFound {
        /// The segment.
        segment: SegmentId,
    },
    /// The segment is to be deleted, and can be taken back until then.
    Marked {
        /// The segment.
        segment: SegmentId,
        /// From when on it may be deleted, in nanoseconds since the Unix epoch.
        #[serde(with = "instant")]
        due: i64,
    },
    /// The segment is not to be deleted after all.
    Unmarked {
        /// The segment.
        segment: SegmentId,
    },
    /// The segment is deleted; its bytes may go everywhere.
    Deleted {
        /// The segment.
        segment: SegmentId,
    },
    /// The bytes of a segment that was deleted or split, or of a copy that was dropped, are gone from a store, or from the data
    /// directory.
    Cleared {
        /// The segment.
        segment: SegmentId,
        /// The store; `None` is the data directory.
        store: Option<String>,
    },
    /// These policies apply from now on.
    PoliciesApplied {
        /// Their version; dense, from 1.
        version: u64,
        /// Their text.
        text: String,
    },
    /// A hold stands from now on.
    HoldAdded {
        /// The hold.
        hold: Hold,
    },
    /// A hold does not stand any more.
    HoldRemoved {
        /// Its number.
        number: u64,
    },
    /// A fact about an identity: its enrolment, labels, revocation, renewal; a line of `registry.jsonl`.
    Identity {
        /// The line, without its newline.
        line: String,
    },
    /// This catalog took the bucket over.
    TermTaken {
        /// The term it took.
        term: u64,
    },
    /// Nothing is deleted until somebody confirms that it may.
    DeletionsOff,
    /// Deletion is allowed again.
    DeletionsOn,
    /// An earlier decision never took effect.
    Void {
        /// Its number.
        decision: u64,
        /// The segment it was about.
        segment: Option<SegmentId>,
    },
    /// A decision that the journal had and that cannot be read any more; a rebuilt catalog has it in its place.
    Unreadable,
    /// A snapshot of the state was read back and is kept.
    SnapshotKept {
        /// The snapshot.
        snapshot: KeptSnapshot,
    },
    /// A kept snapshot may go: others serve.
    SnapshotDropped {
        /// The block it is named after.
        block: u64,
    },
    /// A kept snapshot is gone or is not the same any more.
    SnapshotLost {
        /// The block it is named after.
        block: u64,
    },
    /// The log is rolled up so far.
    RolledUp(RolledUp),
    /// Nothing is rolled up any more, since no policy wants it.
    RollupsEnded,
}

/// What a decision says of a new segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its name.
    #[serde(rename = "segment")]
    pub id: SegmentId,
    /// Bytes of the file.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Root of the file's hashes.
    #[serde(with = "digest")]
    pub root: [u8; 32],
    /// Positions of its events: the first, and the first behind the last.
    pub positions: Range<u64>,
    /// Received times, first and last.
    pub received: Span,
    /// Event times, first and last.
    pub events: Span,
}

impl What {
    /// Whether it takes something away that cannot be had back: such a decision is in the journal before it takes effect.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        matches!(self, Self::Marked { .. } | Self::Deleted { .. } | Self::HoldRemoved { .. })
    }

    /// The segments it is about.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        match self {
            Self::Registered { from, segments, .. } => {
                from.iter().copied().chain(segments.iter().map(|sealed| sealed.id)).collect()
            }
            Self::Copied { segment, .. }
            | Self::CopyLost { segment, .. }
            | Self::CopyDropped { segment, .. }
            | Self::LocalDropped { segment }
            | Self::LocalFound { segment }
            | Self::LocalLost { segment }
            | Self::Marked { segment, .. }
            | Self::Unmarked { segment }
            | Self::Deleted { segment }
            | Self::Cleared { segment, .. } => vec![*segment],
            Self::Void { segment, .. } => segment.iter().copied().collect(),
            Self::PoliciesApplied { .. }
            | Self::HoldAdded { .. }
            | Self::HoldRemoved { .. }
            | Self::Identity { .. }
            | Self::TermTaken { .. }
            | Self::DeletionsOff
            | Self::DeletionsOn
            | Self::Unreadable
            | Self::SnapshotKept { .. }
            | Self::SnapshotDropped { .. }
            | Self::SnapshotLost { .. }
            | Self::RolledUp(_)
            | Self::RollupsEnded => Vec::new(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { manifest, from, segments, .. } if from.is_empty() => {
                write!(f, "sealed: manifest {manifest} brought {} segments", segments.len())
            }
            Self::Registered { manifest, from, segments, .. } => {
                let from: Vec<_> = from.iter().map(SegmentId::to_string).collect();
                write!(
                    f,
                    "split: manifest {manifest} brought {} in place of {}",
                    segments.len(),
                    from.join(", ")
                )
            }
            Self::Copied { store, class, .. } => {
                let class = class.as_ref().map(|class| format!(" in class {class}")).unwrap_or_default();
                write!(f, "copied to `{store}`{class}, read back and found the same")
            }
            Self::CopyLost { store, .. } => write!(f, "the copy in `{store}` does not count any more"),
            Self::CopyDropped { store, .. } => write!(f, "the copy in `{store}` was dropped"),
            Self::LocalDropped { .. } => write!(f, "the local file was dropped"),
            Self::LocalFound { .. } => write!(f, "the local file was found whole"),
            Self::LocalLost { .. } => write!(f, "the local file does not count any more"),
            Self::Marked { due, .. } => write!(f, "to be deleted from {} on", instant::text(*due)),
            Self::Unmarked { .. } => write!(f, "not to be deleted after all"),
            Self::Deleted { .. } => write!(f, "deleted"),
            Self::Cleared { store: Some(store), .. } => write!(f, "its bytes are gone from `{store}`"),
            Self::Cleared { store: None, .. } => write!(f, "its bytes are gone from the data directory"),
            Self::PoliciesApplied { version, .. } => write!(f, "policies, version {version}"),
            Self::HoldAdded { hold } => write!(f, "hold {} on {}", hold.number, hold.scope),
            Self::HoldRemoved { number } => write!(f, "hold {number} removed"),
            Self::Identity { line } => write!(f, "identity: {line}"),
            Self::TermTaken { term } => write!(f, "the bucket was taken over with term {term}"),
            Self::DeletionsOff => write!(f, "nothing is deleted any more"),
            Self::DeletionsOn => write!(f, "deletion is allowed"),
            Self::Void { decision, .. } => write!(f, "decision {decision} never took effect"),
            Self::Unreadable => write!(f, "a decision that the journal lost"),
            Self::SnapshotKept { snapshot } => {
                let KeptSnapshot { block, position, devices, store, .. } = snapshot;
                let place = store.as_ref().map_or("here".to_owned(), |store| format!("in `{store}`"));
                write!(f, "snapshot {block}, {devices} devices up to position {position}, is kept {place}")
            }
            Self::SnapshotDropped { block } => write!(f, "snapshot {block} is not kept any more"),
            Self::SnapshotLost { block } => write!(f, "snapshot {block} does not count any more"),
            Self::RolledUp(RolledUp { manifests, position, .. }) => {
                write!(f, "rolled up to position {position}, before manifest {manifests}")
            }
            Self::RollupsEnded => write!(f, "nothing is rolled up any more"),
        }
    }
}

impl fmt::Display for Decision {
    /// `7  2026-11-25T09:00:00Z  to be deleted from … on: older than 90 days (policy `vibration`, policies 3; worker)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}: {} (", self.number, instant::text(self.time), self.what, self.reason)?;
        if let Some(policy) = &self.policy {
            write!(f, "policy `{policy}`, ")?;
        }
        if let Some(version) = self.version {
            write!(f, "policies {version}; ")?;
        }
        write!(f, "{})", self.by)
    }
}

/// A hash: hexadecimal digits where a person may read, bytes everywhere else.
pub(crate) mod digest {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            blake3::Hash::from_bytes(*digest).to_hex().as_str().serialize(to)
        } else {
            digest.serialize(to)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        if !from.is_human_readable() {
            return <[u8; 32]>::deserialize(from);
        }
        let digits = String::deserialize(from)?;
        blake3::Hash::from_hex(&digits).map(Into::into).map_err(D::Error::custom)
    }
}
