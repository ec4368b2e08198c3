//! Codes: why something is refused.

use std::fmt;

/// Why something is refused. The numbers and names are frozen; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The peer broke a rule of the protocol.
    ProtocolViolation,
    /// The peer speaks no version that this side speaks.
    UnsupportedVersion,
    /// The batch does not pass validation.
    MalformedBatch,
    /// The batch's schema was not announced on its stream.
    UnknownSchema,
    /// Another definition of the same schema name and version is known.
    SchemaConflict,
    /// The schema does not follow from its older version.
    SchemaIncompatible,
    /// The server takes declared schemas only, and this is none.
    SchemaUndeclared,
    /// Sequences that are stored or refused came again with other content or another cut.
    SequenceConflict,
    /// The batch would open more disjoint ranges than are kept for an epoch.
    TooManyRanges,
    /// The device has more open epochs than are kept.
    TooManyEpochs,
    /// The connection has more devices attached than are allowed.
    TooManyAliases,
    /// The batch is larger than the server takes.
    TooLarge,
    /// The identity is not in the registry.
    NotEnrolled,
    /// The identity may not write for this device.
    NotGranted,
    /// The identity was revoked.
    Revoked,
    /// The certificate has expired.
    Expired,
    /// Another session took over the device.
    TakenOver,
    /// Sessions keep taking a device over from each other.
    IdentityConflict,
    /// The server has more work than it can take.
    Overloaded,
    /// The server has no disk space to make events durable.
    DiskFull,
    /// The server is stopping.
    ShuttingDown,
    /// Something failed in the server.
    Internal,
    /// More events or bytes a second than the identity or the device is allowed.
    RateLimited,
    /// The schema's name is one that only the server itself writes.
    SchemaReserved,
    /// A number that a newer peer knows.
    Unrecognized(u16),
}

impl Code {
    /// The number on the wire and in the log.
    pub const fn number(self) -> u16 {
        match self {
            Self::ProtocolViolation => 1,
            Self::UnsupportedVersion => 2,
            Self::MalformedBatch => 3,
            Self::UnknownSchema => 4,
            Self::SchemaConflict => 5,
            Self::SchemaIncompatible => 6,
            Self::SchemaUndeclared => 7,
            Self::SequenceConflict => 8,
            Self::TooManyRanges => 9,
            Self::TooManyEpochs => 10,
            Self::TooManyAliases => 11,
            Self::TooLarge => 12,
            Self::NotEnrolled => 13,
            Self::NotGranted => 14,
            Self::Revoked => 15,
            Self::Expired => 16,
            Self::TakenOver => 17,
            Self::IdentityConflict => 18,
            Self::Overloaded => 19,
            Self::DiskFull => 20,
            Self::ShuttingDown => 21,
            Self::Internal => 22,
            Self::RateLimited => 23,
            Self::SchemaReserved => 24,
            Self::Unrecognized(number) => number,
        }
    }

    /// The code of a number; numbers of newer versions become [`Code::Unrecognized`].
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::ProtocolViolation,
            2 => Self::UnsupportedVersion,
            3 => Self::MalformedBatch,
            4 => Self::UnknownSchema,
            5 => Self::SchemaConflict,
            6 => Self::SchemaIncompatible,
            7 => Self::SchemaUndeclared,
            8 => Self::SequenceConflict,
            9 => Self::TooManyRanges,
            10 => Self::TooManyEpochs,
            11 => Self::TooManyAliases,
            12 => Self::TooLarge,
            13 => Self::NotEnrolled,
            14 => Self::NotGranted,
            15 => Self::Revoked,
            16 => Self::Expired,
            17 => Self::TakenOver,
            18 => Self::IdentityConflict,
            19 => Self::Overloaded,
            20 => Self::DiskFull,
            21 => Self::ShuttingDown,
            22 => Self::Internal,
            23 => Self::RateLimited,
            24 => Self::SchemaReserved,
            _ => Self::Unrecognized(number),
        }
    }

    /// The name, such as `sequence_conflict`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProtocolViolation => "protocol_violation",
            Self::UnsupportedVersion => "unsupported_version",
            Self::MalformedBatch => "malformed_batch",
            Self::UnknownSchema => "unknown_schema",
            Self::SchemaConflict => "schema_conflict",
            Self::SchemaIncompatible => "schema_incompatible",
            Self::SchemaUndeclared => "schema_undeclared",
            Self::SequenceConflict => "sequence_conflict",
            Self::TooManyRanges => "too_many_ranges",
            Self::TooManyEpochs => "too_many_epochs",
            Self::TooManyAliases => "too_many_aliases",
            Self::TooLarge => "too_large",
            Self::NotEnrolled => "not_enrolled",
            Self::NotGranted => "not_granted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TakenOver => "taken_over",
            Self::IdentityConflict => "identity_conflict",
            Self::Overloaded => "overloaded",
            Self::DiskFull => "disk_full",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
            Self::RateLimited => "rate_limited",
            Self::SchemaReserved => "schema_reserved",
            Self::Unrecognized(_) => "unrecognized",
        }
    }

    /// Whether trying again with the same content can never succeed. (An identity may be enrolled, granted or renewed
    /// meanwhile, so what concerns it is not permanent.)
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::ProtocolViolation
                | Self::UnsupportedVersion
                | Self::MalformedBatch
                | Self::UnknownSchema
                | Self::SchemaConflict
                | Self::SchemaIncompatible
                | Self::SchemaUndeclared
                | Self::SchemaReserved
                | Self::SequenceConflict
                | Self::TooLarge
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(number) => write!(f, "code {number}"),
            code => f.pad(code.name()),
        }
    }
}
