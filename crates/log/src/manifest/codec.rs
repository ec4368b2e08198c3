//! The bytes of a manifest: a head with everything about sources and children, then the packed facts.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use super::{Child, FactsSection, Lost, Manifest, SealSource};
use crate::error::{Damage, LogError};
use crate::fields::{FieldReader, check_crc, push_bytes, push_crc};
use crate::segment_id::SegmentId;

const MAGIC: [u8; 8] = *b"ICE-MAN\n";
const VERSION: u32 = 1;

/// Bytes before the rest of the head: magic, version, length.
const PREFIX_BYTES: usize = 16;

/// No head is larger. A child takes some hundred bytes, a source a hundred.
const MAX_HEAD_BYTES: usize = 16 << 20;

/// No manifest has facts that unpack to more bytes than this: a seal's sources are bounded, and a hot segment is by
/// its records.
const MAX_FACTS_BYTES: u32 = 1 << 30;

/// How well facts are packed. They are small, written once and kept for ever.
const LEVEL: i32 = 9;

const HOT: u32 = 0;
const SEALED: u32 = 1;

impl Manifest {
    /// The bytes of its file: the head, and `facts` behind it.
    pub(crate) fn encode(&mut self, facts: &[u8]) -> std::io::Result<Vec<u8>> {
        let plain_len = u32::try_from(facts.len()).ok().filter(|len| *len <= MAX_FACTS_BYTES);
        let plain_len =
            plain_len.ok_or_else(|| std::io::Error::other("a manifest takes at most 1 GiB of facts"))?;
        let packed = zstd::bulk::compress(facts, LEVEL)?;
        let hash = *blake3::hash(&packed).as_bytes();
        self.facts = FactsSection { stored_len: packed.len() as u32, plain_len, hash };
        let mut bytes = self.encode_head();
        bytes.extend_from_slice(&packed);
        Ok(bytes)
    }

    /// What the next manifest names as the one before it: BLAKE3 of the head, which holds the hash of the facts.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.encode_head()).as_bytes()
    }

    fn encode_head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log);
        push(&mut out, [self.number, self.term, self.created.cast_unsigned()]);
        push_range(&mut out, &self.blocks);
        push_range(&mut out, &self.positions);
        push(&mut out, [self.received.cast_unsigned()]);
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&self.facts.hash);
        let counts = [self.sources.len(), self.children.len(), self.lost.len()].map(|count| count as u32);
        for field in [self.facts.stored_len, self.facts.plain_len].into_iter().chain(counts) {
            out.extend_from_slice(&field.to_le_bytes());
        }
        self.sources.iter().for_each(|source| push_source(&mut out, source));
        self.children.iter().for_each(|child| push_child(&mut out, child));
        for Lost { positions, what } in &self.lost {
            push_range(&mut out, positions);
            push_bytes(&mut out, what.as_bytes());
        }
        let len = (out.len() + 4) as u32;
        out[PREFIX_BYTES - 4..PREFIX_BYTES].copy_from_slice(&len.to_le_bytes());
        push_crc(&mut out, 0);
        out
    }

    /// Reads the manifest in `bytes`, a whole file, and checks all of it. `file` names it in errors.
    pub fn decode(bytes: &[u8], file: &Path) -> Result<Self, LogError> {
        let (manifest, head_len) = Self::decode_head(bytes, file)?;
        manifest.unpack_facts(&bytes[head_len..], file)?;
        Ok(manifest)
    }

    /// How long a head is that begins with these bytes. Every version begins so.
    pub(super) fn head_len(prefix: &[u8], file: &Path) -> Result<usize, LogError> {
        let mut fields = FieldReader::new(prefix);
        let (magic, _version, len) = (fields.array(), fields.u32(), fields.u32());
        match (magic, len.map(|len| len as usize)) {
            (Some(MAGIC), Some(len)) if (PREFIX_BYTES..=MAX_HEAD_BYTES).contains(&len) => Ok(len),
            _ => Err(damaged(file, "the file does not begin as a manifest")),
        }
    }

    /// Reads the head at the start of `bytes`, and says how long it is.
    pub(super) fn decode_head(bytes: &[u8], file: &Path) -> Result<(Self, usize), LogError> {
        let len = Self::head_len(bytes, file)?;
        let content = bytes.get(..len).and_then(check_crc);
        let content = content.ok_or_else(|| damaged(file, "the manifest's head fails its CRC32C"))?;
        let mut fields = FieldReader::new(&content[MAGIC.len()..]);
        let version = fields.u32().unwrap_or_default();
        if version != VERSION {
            let what =
                format!("manifest format {version} is not known here; a later version of Icecore wrote it");
            return Err(LogError::Foreign { file: file.to_path_buf(), what });
        }
        let head = content.get(PREFIX_BYTES..).and_then(Self::decode_fields);
        Ok((head.ok_or_else(|| damaged(file, "the manifest's head is not consistent"))?, len))
    }

    fn decode_fields(content: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(content);
        let log = fields.array()?;
        let (number, term, created) = (fields.u64()?, fields.u64()?, fields.i64()?);
        let (blocks, positions) = (take_range(&mut fields)?, take_range(&mut fields)?);
        let received = fields.i64()?;
        let (chain, previous, hash) = (fields.array()?, fields.array()?, fields.array()?);
        let (stored_len, plain_len) = (fields.u32()?, fields.u32()?);
        let (sources, children, lost) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let facts = FactsSection { stored_len, plain_len, hash };
        let sources = (0..sources).map(|_| take_source(&mut fields)).collect::<Option<_>>()?;
        let children = (0..children).map(|_| take_child(&mut fields)).collect::<Option<_>>()?;
        let lost = (0..lost).map(|_| take_lost(&mut fields)).collect::<Option<_>>()?;
        let manifest = Self {
            log,
            number,
            term,
            created,
            blocks,
            positions,
            received,
            chain,
            previous,
            sources,
            children,
            lost,
            facts,
        };
        fields.rest().is_empty().then_some(manifest)
    }

    /// Bytes of the facts as stored.
    pub(super) fn facts_len(&self) -> usize {
        self.facts.stored_len as usize
    }

    /// Checks and unpacks the facts, which are everything behind the head.
    pub(super) fn unpack_facts(&self, packed: &[u8], file: &Path) -> Result<Vec<u8>, LogError> {
        let FactsSection { stored_len, plain_len, hash } = self.facts;
        if packed.len() != stored_len as usize || *blake3::hash(packed).as_bytes() != hash {
            return Err(damaged(file, "the manifest's facts are not those its head tells of"));
        }
        // Grows with what is there, not with what the head claims.
        let mut plain = Vec::new();
        let unpacked = zstd::stream::read::Decoder::new(packed).and_then(|decoder| {
            std::io::copy(&mut std::io::Read::take(decoder, u64::from(plain_len) + 1), &mut plain)
        });
        match unpacked {
            Ok(len) if len == u64::from(plain_len) && plain_len <= MAX_FACTS_BYTES => Ok(plain),
            _ => Err(damaged(file, "the manifest's facts do not unpack")),
        }
    }
}

pub(super) fn damaged(file: &Path, what: &str) -> LogError {
    Damage { file: file.to_path_buf(), offset: 0, what: what.to_owned(), positions: None }.into()
}

fn push<const N: usize>(out: &mut Vec<u8>, fields: [u64; N]) {
    fields.into_iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
}

fn push_range(out: &mut Vec<u8>, range: &Range<u64>) {
    push(out, [range.start, range.end]);
}

fn take_range(fields: &mut FieldReader<'_>) -> Option<Range<u64>> {
    let range = fields.u64()?..fields.u64()?;
    (range.start <= range.end).then_some(range)
}

fn push_times(out: &mut Vec<u8>, times: &RangeInclusive<i64>) {
    push(out, [times.start().cast_unsigned(), times.end().cast_unsigned()]);
}

fn take_times(fields: &mut FieldReader<'_>) -> Option<RangeInclusive<i64>> {
    Some(fields.i64()?..=fields.i64()?)
}

fn push_source(out: &mut Vec<u8>, source: &SealSource) {
    match source {
        SealSource::Hot { number, blocks, positions, chain } => {
            out.extend_from_slice(&HOT.to_le_bytes());
            push(out, [*number]);
            push_range(out, blocks);
            push_range(out, positions);
            out.extend_from_slice(chain);
        }
        SealSource::Sealed { id, root } => {
            out.extend_from_slice(&SEALED.to_le_bytes());
            push(out, [id.manifest]);
            out.extend_from_slice(&id.child.to_le_bytes());
            out.extend_from_slice(root);
        }
    }
}

fn take_source(fields: &mut FieldReader<'_>) -> Option<SealSource> {
    match fields.u32()? {
        HOT => Some(SealSource::Hot {
            number: fields.u64()?,
            blocks: take_range(fields)?,
            positions: take_range(fields)?,
            chain: fields.array()?,
        }),
        SEALED => {
            let id = SegmentId { manifest: fields.u64()?, child: fields.u32()? };
            Some(SealSource::Sealed { id, root: fields.array()? })
        }
        _ => None,
    }
}

fn take_lost(fields: &mut FieldReader<'_>) -> Option<Lost> {
    let positions = take_range(fields)?;
    Some(Lost { positions, what: str::from_utf8(fields.sized_bytes()?).ok()?.to_owned() })
}

fn push_child(out: &mut Vec<u8>, child: &Child) {
    push_bytes(out, child.class.as_bytes());
    out.extend_from_slice(&child.root);
    push(out, [child.bytes, child.rows, child.batches]);
    push_range(out, &child.positions);
    push_times(out, &child.received);
    push_times(out, &child.times);
}

fn take_child(fields: &mut FieldReader<'_>) -> Option<Child> {
    Some(Child {
        class: str::from_utf8(fields.sized_bytes()?).ok()?.to_owned(),
        root: fields.array()?,
        bytes: fields.u64()?,
        rows: fields.u64()?,
        batches: fields.u64()?,
        positions: take_range(fields)?,
        received: take_times(fields)?,
        times: take_times(fields)?,
    })
}
