//! The epoch of a device in a file.

use icecore_device::{DeviceName, Epoch, SchemaId};

use crate::csv_file::Mapping;

/// Separates these hashes from all others. It changes whenever the cut into batches does: an epoch's sequences must
/// always come in the same batches.
const CONTEXT: &str = "icecore 2026 epoch of a device in a csv file, cut 1";

/// A function of everything that decides a device's events and their batches: the file's content, the schema, which
/// columns were the device and the time, and the device.
pub(super) fn of(content: &blake3::Hash, schema: SchemaId, mapping: &Mapping, device: &DeviceName) -> Epoch {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(content.as_bytes());
    hasher.update(schema.as_bytes());
    for text in [&mapping.device_field, &mapping.time_field, device.as_str()] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut epoch = [0; 16];
    hasher.finalize_xof().fill(&mut epoch);
    Epoch::from_bytes(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_makes_another_epoch_and_the_same_parts_the_same() {
        let mapping =
            |device: &str, time: &str| Mapping { device_field: device.into(), time_field: time.into() };
        let epoch = |content: &[u8], schema: u8, mapping: Mapping, device: &str| {
            of(&blake3::hash(content), SchemaId::from_bytes([schema; 16]), &mapping, &device.parse().unwrap())
        };
        let first = epoch(b"jan", 1, mapping("ab", "c"), "d");
        assert_eq!(first, epoch(b"jan", 1, mapping("ab", "c"), "d"));
        assert_eq!(
            first.to_string(),
            "18a7ce24af24c78632198411fdd88073",
            "frozen: files sent by older versions stay known"
        );
        let others = [
            epoch(b"feb", 1, mapping("ab", "c"), "d"),
            epoch(b"jan", 2, mapping("ab", "c"), "d"),
            epoch(b"jan", 1, mapping("a", "bc"), "d"),
            epoch(b"jan", 1, mapping("ab", "c"), "e"),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
