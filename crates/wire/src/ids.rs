//! Names and numbers that identify things: devices, epochs, schemas, contents.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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

    /// The name as one segment of a file path: percent-encoded, at most 240 bytes (longer ones end in a digest).
    pub fn path_segment(&self) -> String {
        unimplemented!()
    }

    /// The name percent-encoded, as it stands in a certificate's URI; [`Self::from_percent_encoded`] reads it back.
    pub fn percent_encoded(&self) -> String {
        unimplemented!()
    }

    /// Reads a name from its percent-encoded form.
    pub fn from_percent_encoded(text: &str) -> Result<Self, InvalidName> {
        let _ = text;
        unimplemented!()
    }
}

impl TryFrom<&str> for DeviceName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        let _ = name;
        unimplemented!()
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
    pub fn random() -> Self {
        unimplemented!()
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let _ = bytes;
        unimplemented!()
    }
}
