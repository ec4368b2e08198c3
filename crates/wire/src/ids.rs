//! Names and numbers that identify things: devices, epochs, schemas, contents.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::MAX_DEVICE_NAME_BYTES;

/// Bytes of [`DeviceName::path_segment`]: most file systems take 255, and callers add a suffix.
const MAX_SEGMENT_BYTES: usize = 240;

/// A device's name: 1–128 bytes of UTF-8 without control characters. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(Arc<str>);

/// Why a text is not a device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The text is empty.
    #[error("a device name needs at least one character")]
    Empty,
    /// The text is longer than [`crate::limits::MAX_DEVICE_NAME_BYTES`].
    #[error("a device name of {0} bytes is longer than 128")]
    TooLong(usize),
    /// The text holds a control character.
    #[error("a device name must not hold the control character {0:?}")]
    Control(char),
    /// The bytes are not UTF-8 (after percent-decoding).
    #[error("a device name must be UTF-8, percent-encoded where it stands in a URI")]
    NotUtf8,
}

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one segment of a file path: percent-encoded, at most 240 bytes long (a longer one is
    /// cut and ends in a digest of the whole).
    pub fn path_segment(&self) -> String {
        let mut segment = self.percent_encoded();
        if segment.len() > MAX_SEGMENT_BYTES {
            let digest = Digest::of(self.0.as_bytes());
            // Everything is ASCII; `~` never stands in an encoded name, so a cut one collides with no other.
            segment.truncate(MAX_SEGMENT_BYTES - 33);
            segment.push_str(&format!("~{digest}"));
        }
        segment
    }

    /// The name percent-encoded, as it stands in a certificate's URI; [`Self::from_percent_encoded`] reads it back.
    pub fn percent_encoded(&self) -> String {
        let mut encoded = String::with_capacity(self.0.len());
        for (i, byte) in self.0.bytes().enumerate() {
            // A dot in front would make a hidden file, or `.` and `..`.
            let plain =
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && i > 0);
            if plain {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    }

    /// Reads a name from its percent-encoded form.
    pub fn from_percent_encoded(text: &str) -> Result<Self, InvalidName> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'%' {
                let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let digits =
                    digits.and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(InvalidName::NotUtf8)?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| InvalidName::NotUtf8)?);
                rest = &tail[2..];
            } else {
                bytes.push(first);
                rest = tail;
            }
        }
        Self::try_from(std::str::from_utf8(&bytes).map_err(|_| InvalidName::NotUtf8)?)
    }
}

impl TryFrom<&str> for DeviceName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > MAX_DEVICE_NAME_BYTES {
            return Err(InvalidName::TooLong(name.len()));
        }
        match name.chars().find(|c| c.is_control()) {
            Some(control) => Err(InvalidName::Control(control)),
            None => Ok(Self(name.into())),
        }
    }
}

impl FromStr for DeviceName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::try_from(name)
    }
}

impl Borrow<str> for DeviceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DeviceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits, found {0:?}")]
pub struct InvalidHex(String);

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, InvalidHex> {
                let invalid = || InvalidHex(text.chars().take(64).collect());
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(invalid());
                }
                u128::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| invalid())
            }
        }
    };
}

id128! {
    /// One incarnation of a device's spool. Shown as 32 hexadecimal digits.
    Epoch
}

id128! {
    /// The identity of a schema: BLAKE3 of its canonical form, cut to 128 bits.
    SchemaId
}

id128! {
    /// The identity of a batch's content: BLAKE3 of the payload, cut to 128 bits.
    Digest
}

impl Epoch {
    /// A new epoch from the operating system's random numbers.
    ///
    /// Panics when there are none: without them, new data could be mistaken for old.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system must provide random numbers");
        Self(bytes)
    }

    /// How the epochs begin that a server writes by itself. No device may attach one: one that begins so by chance is as
    /// likely as one in 2⁶⁴.
    const DERIVED: [u8; 8] = *b"rollups\0";

    /// The epoch of what the server of this log derives from the events of `device`, as the schema of this name. It is always
    /// the same one, so that whoever derives it again goes on with its sequences.
    #[must_use]
    pub fn derived(log: &[u8; 16], device: &DeviceName, schema: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("icecore 2026 epoch of a derived schema");
        hasher.update(log);
        hasher.update(&(device.as_str().len() as u64).to_le_bytes());
        hasher.update(device.as_str().as_bytes());
        hasher.update(schema.as_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&Self::DERIVED);
        bytes[8..].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(bytes)
    }

    /// Whether it is one of the server's own, of what it derived from a device's events.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        self.0.starts_with(&Self::DERIVED)
    }
}

impl SchemaId {
    /// The id of the schema with this canonical form.
    pub(crate) fn of(canonical: &[u8]) -> Self {
        Self(hash128(canonical))
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hash128(bytes))
    }
}

/// BLAKE3 cut to its first 128 bits.
fn hash128(bytes: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(bytes);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(DeviceName::try_from(""), Err(InvalidName::Empty));
        assert_eq!(DeviceName::try_from("a\nb"), Err(InvalidName::Control('\n')));
        assert_eq!(DeviceName::try_from("x".repeat(129).as_str()), Err(InvalidName::TooLong(129)));
        assert!(DeviceName::try_from("x".repeat(128).as_str()).is_ok());
        assert!(DeviceName::try_from("Zürich/roof 1 🌡").is_ok());
    }

    #[test]
    fn path_segments_are_safe_and_short() {
        let segment = |name: &str| DeviceName::try_from(name).unwrap().path_segment();
        assert_eq!(segment("site/a b.1"), "site%2Fa%20b.1");
        assert_eq!(segment(".."), "%2E.");
        let long = segment(&"/".repeat(128));
        assert_eq!(long.len(), 240);
        assert_ne!(long, segment(&format!("{}x", "/".repeat(127))));
    }

    #[test]
    fn broken_percent_encoding_is_refused() {
        for text in ["%", "%1", "%zz", "%+1", "%FF"] {
            assert_eq!(DeviceName::from_percent_encoded(text), Err(InvalidName::NotUtf8), "{text}");
        }
        assert_eq!(DeviceName::from_percent_encoded("%00"), Err(InvalidName::Control('\0')));
    }

    #[test]
    fn derived_epochs_are_told_by_their_beginning_and_differ() {
        let derived =
            |log, device: &str, schema| Epoch::derived(&[log; 16], &device.parse().unwrap(), schema);
        let epoch = derived(1, "pump", "vibration@1m");
        assert_eq!(epoch.to_string(), "726f6c6c7570730073ed73d7c816443f", "frozen: it is in logs");
        assert!(epoch.is_derived() && !Epoch::random().is_derived());
        for other in [derived(2, "pump", "vibration@1m"), derived(1, "pumpv", "ibration@1m")] {
            assert_ne!(epoch, other);
        }
    }

    #[test]
    fn hex_is_strict() {
        let epoch = Epoch::random();
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        for text in ["", "+0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeg"] {
            assert!(text.parse::<Epoch>().is_err(), "{text}");
        }
        assert_ne!(epoch, Epoch::random());
    }

    proptest! {
        #[test]
        fn percent_encoding_round_trips(name in "\\PC{1,32}") {
            let name = DeviceName::try_from(name.as_str()).unwrap();
            prop_assert_eq!(DeviceName::from_percent_encoded(&name.percent_encoded()), Ok(name));
        }
    }
}
