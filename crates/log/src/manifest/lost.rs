//! What was in sealed segments that are lost: those sequences do not count as stored any more, so that devices send them again.
//!
//! A manifest says for ever what was sealed. Where a segment of it is nowhere any more, which an operator finds out when the catalog is
//! made anew, a file beside the manifest takes what only that segment had out of what the manifest tells.

use std::path::Path;

use icecore_wire::{DeviceName, Epoch, SequenceRanges};

use super::SealedFacts;
use super::codec::damaged;
use crate::disk::{Access, Disk};
use crate::error::LogError;
use crate::fields::{FieldReader, check_crc, push_bytes, push_crc};
use crate::record::Source;
use crate::segment::{Layout, unfinished};

const MAGIC: [u8; 8] = *b"ICE-LST\n";
const VERSION: u32 = 1;

/// What is lost of a source.
pub(crate) type LostRanges = (DeviceName, Epoch, SequenceRanges);

/// Puts on record what is lost of a manifest, in place of what was said before.
pub(crate) fn write(
    disk: &dyn Disk,
    layout: &Layout,
    number: u64,
    lost: &[(&Source, SequenceRanges)],
) -> Result<(), LogError> {
    let mut bytes = Vec::from(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(lost.len() as u32).to_le_bytes());
    for (source, ranges) in lost {
        push_bytes(&mut bytes, source.device.as_str().as_bytes());
        bytes.extend_from_slice(source.epoch.as_bytes());
        bytes.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
        for range in ranges {
            bytes.extend_from_slice(&range.start.to_le_bytes());
            bytes.extend_from_slice(&range.end.to_le_bytes());
        }
    }
    push_crc(&mut bytes, 0);
    let path = layout.lost(number);
    let unfinished = unfinished(&path);
    let file = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
    file.write_at(&bytes, 0).map_err(LogError::io("write", &unfinished))?;
    file.sync().map_err(LogError::io("sync", &unfinished))?;
    disk.rename(&unfinished, &path).map_err(LogError::io("rename", &unfinished))?;
    disk.sync_dir(&layout.manifests).map_err(LogError::io("sync", &layout.manifests))
}

/// Takes back that anything of a manifest is lost.
pub(crate) fn remove(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<(), LogError> {
    let path = layout.lost(number);
    match disk.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LogError::io("remove", &path)(error))
        }
        _ => Ok(()),
    }
}

/// What is lost of a manifest; mostly nothing.
pub(super) fn read(disk: &dyn Disk, layout: &Layout, number: u64) -> Result<Vec<LostRanges>, LogError> {
    let path = layout.lost(number);
    let file = match disk.open(&path, Access::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(LogError::io("open", &path))?,
    };
    let len = file.len().map_err(LogError::io("read the length of", &path))?;
    let mut bytes = vec![0; len as usize];
    let len = file.read_at(&mut bytes, 0).map_err(LogError::io("read", &path))?;
    decode(&bytes[..len], &path)
}

fn decode(bytes: &[u8], path: &Path) -> Result<Vec<LostRanges>, LogError> {
    let content = check_crc(bytes).ok_or_else(|| damaged(path, "its checksum does not fit"))?;
    let mut fields = FieldReader::new(content);
    if fields.array() != Some(MAGIC) {
        return Err(damaged(path, "this says of no manifest what is lost"));
    }
    let version = fields.u32();
    if version != Some(VERSION) {
        let what = format!("version {version:?} is not known here; a later version of Icecore wrote it");
        return Err(LogError::Foreign { file: path.to_path_buf(), what });
    }
    decode_sources(fields).ok_or_else(|| damaged(path, "what is lost is not consistent"))
}

fn decode_sources(mut fields: FieldReader<'_>) -> Option<Vec<LostRanges>> {
    let mut lost = Vec::new();
    for _ in 0..fields.u32()? {
        let device = DeviceName::try_from(str::from_utf8(fields.sized_bytes()?).ok()?).ok()?;
        let epoch = Epoch::from_bytes(fields.array()?);
        let mut ranges = SequenceRanges::new();
        for _ in 0..fields.u32()? {
            let range = fields.u64()?..fields.u64()?;
            if range.is_empty() || range.start < ranges.next() {
                return None;
            }
            ranges.insert(range);
        }
        lost.push((device, epoch, ranges));
    }
    fields.rest().is_empty().then_some(lost)
}

impl SealedFacts {
    /// The same without what is lost.
    pub(super) fn without(mut self, lost: &[LostRanges]) -> Self {
        for (device, epoch, ranges) in lost {
            let of = |source: &Source| source.device == *device && source.epoch == *epoch;
            self.sources
                .iter_mut()
                .filter(|facts| of(&facts.source))
                .for_each(|facts| facts.stored.remove_all(ranges));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RealDisk;

    /// Frozen: later versions must read it.
    #[test]
    fn it_is_written_as_it_always_was() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path());
        std::fs::create_dir(&layout.manifests).unwrap();
        let source = Source { device: "a".parse().unwrap(), epoch: Epoch::from_bytes([7; 16]), number: 0 };
        write(&RealDisk, &layout, 3, &[(&source, SequenceRanges::from(5..9))]).unwrap();
        let mut expected = Vec::from(*b"ICE-LST\n\x01\0\0\0\x01\0\0\0\x01\0\0\0a");
        expected.extend([7; 16]);
        expected.extend(*b"\x01\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0");
        let written = std::fs::read(layout.lost(3)).unwrap();
        assert_eq!(written[..written.len() - 4], expected);
        assert_eq!(layout.lost(3), data.path().join("manifests/000000000003.lost"));
    }

    proptest! {
        #[test]
        fn what_is_lost_is_read_as_it_was_written(
            sources in prop::collection::vec((0..9_u8, prop::collection::vec((0_u64..1_000, 1_u64..50), 0..5)), 0..5),
        ) {
            let data = tempfile::tempdir().unwrap();
            let layout = Layout::new(data.path());
            std::fs::create_dir(&layout.manifests).unwrap();
            prop_assert!(read(&RealDisk, &layout, 3).unwrap().is_empty());
            let of = |(number, ranges): &(u8, Vec<(u64, u64)>)| {
                let source = Source {
                    device: format!("pump/{number}").parse().unwrap(),
                    epoch: Epoch::from_bytes([*number; 16]),
                    number: 0,
                };
                (source, ranges.iter().map(|(start, len)| *start..start + len).collect::<SequenceRanges>())
            };
            let sources: Vec<(Source, SequenceRanges)> = sources.iter().map(of).collect();
            let written: Vec<_> = sources.iter().map(|(source, ranges)| (source, ranges.clone())).collect();
            write(&RealDisk, &layout, 3, &written).unwrap();
            let found = read(&RealDisk, &layout, 3).unwrap();
            let expected: Vec<LostRanges> =
                sources.into_iter().map(|(source, ranges)| (source.device, source.epoch, ranges)).collect();
            prop_assert_eq!(found, expected);

            let path = layout.lost(3);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(matches!(read(&RealDisk, &layout, 3), Err(LogError::Damaged(_))));
            remove(&RealDisk, &layout, 3).unwrap();
            prop_assert!(read(&RealDisk, &layout, 3).unwrap().is_empty());
        }
    }
}
