//! Errors, as gRPC has them.

use arrow_flight::error::FlightError;
use datafusion::arrow::error::ArrowError;
use icecore_log::LogError;
use icecore_replay::{AsOfError, ReplayError};
use tonic::{Code, Status};

use crate::SqlError;

/// Bytes of a message: it travels in a header, and clients refuse long ones, with the error.
const MESSAGE: usize = 4_000;

/// What is said to whoever wants to change something.
pub(super) const READ_ONLY: &str = "events are only read here; devices write them";

/// The same error, with the kind that clients tell apart.
pub(super) fn of(error: &SqlError) -> Status {
    let code = match error {
        SqlError::Statement { .. } => Code::InvalidArgument,
        SqlError::Writes(_) => Code::Unimplemented,
        SqlError::Memory(_) => Code::ResourceExhausted,
        SqlError::States(AsOfError::Refused(_)) => Code::FailedPrecondition,
        SqlError::Replay(ReplayError::Log(LogError::Damaged(_) | LogError::Absent { .. })) => Code::DataLoss,
        SqlError::Open(_) | SqlError::Replay(_) | SqlError::States(_) => Code::Unavailable,
        SqlError::Execution(_) => Code::Internal,
    };
    Status::new(code, shortened(&error.to_string(), MESSAGE))
}

/// What is wrong with a call.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

/// Bytes of a client that are not what they should be.
pub(super) fn undecodable(what: &str, error: impl std::fmt::Display) -> Status {
    invalid(shortened(&format!("{what} cannot be understood: {error}"), MESSAGE))
}

/// An answer that was made, and could not be written.
pub(super) fn unwritable(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        error => Status::internal(error.to_string()),
    }
}

/// The same for what is not yet written for the wire.
pub(super) fn unwritten(error: ArrowError) -> Status {
    unwritable(error.into())
}

/// The beginning of a text.
pub(super) fn shortened(text: &str, bytes: usize) -> String {
    match text.len() > bytes {
        true => format!("{} …", &text[..text.floor_char_boundary(bytes)]),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_where_a_character_ends() {
        assert_eq!(shortened("äöü", 3), "ä …");
        assert_eq!(shortened("äöü", 6), "äöü");
        let long = SqlError::Execution("ü".repeat(MESSAGE));
        assert!(of(&long).message().len() < MESSAGE + 8);
    }

    #[test]
    fn kinds_of_errors_are_told_apart() {
        assert_eq!(of(&SqlError::statement("there is no table x")).code(), Code::InvalidArgument);
        assert_eq!(of(&SqlError::Writes("DROP TABLE".into())).code(), Code::Unimplemented);
        let absent =
            LogError::Absent { id: icecore_log::SegmentId { manifest: 0, child: 0 }, positions: 0..1 };
        assert_eq!(of(&ReplayError::from(absent).into()).code(), Code::DataLoss);
    }
}
