//! Numbers in as many bytes as they need: seven bits a byte, least significant first, the top bit set on all but the last.

use super::Decoded;

pub(super) fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Signed numbers alternate: 0, -1, 1, -2, 2…
pub(super) fn push_signed(out: &mut Vec<u8>, number: i64) {
    push(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// A length and so many bytes.
pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads them back, from the front of a byte string.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn number(&mut self) -> Decoded<u64> {
        let mut number = 0;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(number);
            }
        }
        Err("a number is cut short or too long".into())
    }

    pub(super) fn signed(&mut self) -> Decoded<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of at most `most`, which `what` says.
    pub(super) fn at_most(&mut self, most: u64, what: &str) -> Decoded<u64> {
        match self.number()? {
            number if number <= most => Ok(number),
            number => Err(format!("{what}: {number}, more than {most}")),
        }
    }

    /// As [`Fields::at_most`], to count or index with.
    pub(super) fn size(&mut self, most: usize, what: &str) -> Decoded<usize> {
        self.at_most(most as u64, what).map(|number| number as usize)
    }

    /// A count of things of which each takes at least one of the bytes that are left.
    pub(super) fn count(&mut self, what: &str) -> Decoded<usize> {
        let most = self.rest.len();
        self.size(most, what)
    }

    pub(super) fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("it ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length and so many bytes.
    pub(super) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.count("a length")?;
        self.take(len)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or("it ends early")?;
        self.rest = rest;
        Ok(*array)
    }

    /// What is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_come_back() {
        let mut out = Vec::new();
        for number in [0, 0x7f, 0x80, u64::MAX] {
            push(&mut out, number);
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            push_signed(&mut out, number);
        }
        let mut fields = Fields::new(&out);
        for number in [0, 0x7f, 0x80, u64::MAX] {
            assert_eq!(fields.number(), Ok(number));
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(fields.signed(), Ok(number));
        }
        assert_eq!(fields.end(), Ok(()));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(Fields::new(&[0x80; 12]).number().is_err());
        assert!(Fields::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number().is_err());
        assert!(Fields::new(&[]).number().is_err());
        assert!(Fields::new(&[5, 1]).bytes().is_err());
    }
}
