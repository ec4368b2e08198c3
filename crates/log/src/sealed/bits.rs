//! Bits, one a row, least significant first.

use std::ops::Range;

use super::{Decoded, section};

const STORED: u8 = 0;
const ZSTD: u8 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes they lie in; bits behind the last one are zero.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        self.bytes[self.len / 8] |= u8::from(bit) << (self.len % 8);
        self.len += 1;
    }

    /// Adds `count` equal bits.
    pub(super) fn extend(&mut self, bit: bool, count: usize) {
        let mut left = count;
        while left > 0 && !self.len.is_multiple_of(8) {
            self.push(bit);
            left -= 1;
        }
        self.bytes.resize(self.bytes.len() + left / 8, if bit { 0xff } else { 0 });
        self.len += left / 8 * 8;
        (0..left % 8).for_each(|_| self.push(bit));
    }

    pub(super) fn get(&self, index: usize) -> bool {
        self.bytes[index / 8] >> (index % 8) & 1 == 1
    }

    pub(super) fn iter(&self, range: Range<usize>) -> impl Iterator<Item = bool> + '_ {
        range.map(|index| self.get(index))
    }

    /// How many bits of `range` are set.
    pub(super) fn count(&self, range: Range<usize>) -> usize {
        let (from, to) = (range.start.next_multiple_of(8), range.end / 8 * 8);
        if from >= to {
            return self.iter(range).filter(|bit| *bit).count();
        }
        let whole: u32 = self.bytes[from / 8..to / 8].iter().map(|byte| byte.count_ones()).sum();
        let edges = self.iter(range.start..from).chain(self.iter(to..range.end));
        whole as usize + edges.filter(|bit| *bit).count()
    }

    pub(super) fn pack(&self) -> Vec<u8> {
        let packed = section::compress(&self.bytes);
        let (tag, content) =
            if packed.len() < self.bytes.len() { (ZSTD, &packed) } else { (STORED, &self.bytes) };
        let mut out = vec![tag];
        out.extend_from_slice(content);
        out
    }

    pub(super) fn unpack(packed: &[u8], len: usize) -> Decoded<Self> {
        let (tag, content) = packed.split_first().ok_or("no bits")?;
        let bytes = match *tag {
            STORED if content.len() == len.div_ceil(8) => content.to_vec(),
            ZSTD => section::decompress(content, len.div_ceil(8))?,
            _ => return Err("bits are neither stored nor compressed as they should be".into()),
        };
        match bytes.last() {
            Some(last) if !len.is_multiple_of(8) && last >> (len % 8) != 0 => {
                Err("bits are set behind the last row".into())
            }
            _ => Ok(Self { bytes, len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_what_was_pushed() {
        for len in [0, 1, 7, 8, 9, 1000] {
            let mut bits = Bits::default();
            (0..len).for_each(|index| bits.push(index % 3 == 0));
            bits.extend(true, 21);
            bits.extend(false, 5);
            assert_eq!(bits.len(), len + 26);
            for start in 0..bits.len().min(40) {
                let range = start..bits.len();
                assert_eq!(bits.count(range.clone()), bits.iter(range).filter(|bit| *bit).count());
            }
            assert_eq!(Bits::unpack(&bits.pack(), bits.len()), Ok(bits.clone()));
            assert!(Bits::unpack(&bits.pack(), bits.len() + 8).is_err());
        }
    }
}
