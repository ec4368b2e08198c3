//! Numbers in as few bytes as they need: seven bits a byte, the lowest first; the highest bit says that another follows.

/// Appends a number, in one to ten bytes.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front; `None` when it does not end, or needs more than 64 bits.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_needs_more_than_64_bits_is_no_number() {
        let mut highest = Vec::new();
        put(&mut highest, u64::MAX);
        assert_eq!(highest, [[0xff; 9].as_slice(), &[1]].concat());
        assert_eq!(take(&mut &highest[..9]), None);
        highest[9] = 2;
        assert_eq!(take(&mut &highest[..]), None);
        assert_eq!(take(&mut &[0xff; 11][..]), None);
        assert_eq!(take(&mut &[][..]), None);
    }

    proptest! {
        #[test]
        fn numbers_survive(values in prop::collection::vec(any::<(u64, u32)>(), 0..20)) {
            let values: Vec<u64> = values.into_iter().map(|(value, shift)| value >> (shift % 64)).collect();
            let mut bytes = Vec::new();
            values.iter().for_each(|value| put(&mut bytes, *value));
            let mut left = &bytes[..];
            let read: Vec<u64> = values.iter().map_while(|_| take(&mut left)).collect();
            prop_assert_eq!(read, values);
            prop_assert!(left.is_empty());
        }
    }
}
