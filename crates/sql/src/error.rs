//! What can go wrong with a statement.

use std::error::Error;
use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use icecore_log::LogError;
use icecore_replay::{AsOfError, ReplayError};

/// A statement was not understood, or could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The log cannot be opened.
    #[error("{0}")]
    Open(Box<dyn Error + Send + Sync>),
    /// The log cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// States as they were cannot be told.
    #[error(transparent)]
    States(#[from] AsOfError),
    /// The statement is no SQL, or asks for what there is not.
    #[error("{message}{}", at(*place))]
    Statement {
        /// What is wrong with it.
        message: String,
        /// Where, if that is known.
        place: Option<Place>,
    },
    /// The statement would change something.
    #[error("{0} is refused: events are only read here; use SELECT, WITH, VALUES, EXPLAIN, DESCRIBE or SHOW")]
    Writes(String),
    /// The statement takes more memory than it may.
    #[error("the statement takes more memory than it may: {0}; ask for less at once, or allow it more")]
    Memory(String),
    /// It could not be carried out.
    #[error("{0}")]
    Execution(String),
}

/// A place in the text of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The character in the line, from 1.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

fn at(place: Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!(" (at {place})"))
}

impl SqlError {
    /// Whether it is damage, around which can be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Replay(ReplayError::Log(LogError::Damaged(_))))
    }

    pub(crate) fn statement(message: impl Into<String>) -> Self {
        Self::Statement { message: message.into(), place: None }
    }
}

/// An error of ours goes through the engine, and comes out as it was.
impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(error) => match error.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => match other.downcast::<DataFusionError>() {
                    Ok(engine) => (*engine).into(),
                    Err(other) => Self::Execution(other.to_string()),
                },
            },
            DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => (*error).into(),
            DataFusionError::ArrowError(error, told) => match *error {
                ArrowError::ExternalError(error) => DataFusionError::External(error).into(),
                error => {
                    Self::Execution(DataFusionError::ArrowError(Box::new(error), told).strip_backtrace())
                }
            },
            DataFusionError::Shared(error) => Self::shared(&error),
            DataFusionError::Collection(errors) if !errors.is_empty() => {
                errors.into_iter().next().map_or_else(|| Self::Execution(String::new()), Self::from)
            }
            DataFusionError::SQL(error, _) => Self::syntax(&error.to_string()),
            DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => {
                Self::statement(first_part(&message))
            }
            DataFusionError::ResourcesExhausted(message) => Self::Memory(first_part(&message)),
            DataFusionError::Execution(message) => Self::Execution(first_part(&message)),
            error => Self::Execution(error.strip_backtrace()),
        }
    }
}

impl SqlError {
    /// An error that others have, too: what it says, in its own words.
    fn shared(error: &DataFusionError) -> Self {
        let root = error.find_root();
        match root {
            DataFusionError::External(error) => match error.downcast_ref::<Self>() {
                // The kind matters to those who ask whether it is damage.
                Some(Self::Replay(ReplayError::Log(LogError::Damaged(damage)))) => {
                    Self::Replay(LogError::Damaged(damage.clone()).into())
                }
                _ => Self::Execution(error.to_string()),
            },
            DataFusionError::ResourcesExhausted(message) => Self::Memory(first_part(message)),
            DataFusionError::Execution(message) => Self::Execution(first_part(message)),
            root => Self::Execution(root.strip_backtrace()),
        }
    }

    /// What the parser says, which ends with the place.
    fn syntax(message: &str) -> Self {
        let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
        let split = message.rsplit_once(" at Line: ").and_then(|(what, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            Some((what, Place { line: line.parse().ok()?, column: column.parse().ok()? }))
        });
        let (what, place) = split.map_or((message, None), |(what, place)| (what, Some(place)));
        Self::Statement { message: format!("this is no SQL that is understood: {what}"), place }
    }
}

/// Without a backtrace, if there is one behind the message.
fn first_part(message: &str) -> String {
    message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_goes_through_the_engine_comes_out_as_it_was() {
        let ours = || SqlError::Writes("DROP TABLE".into());
        let wrapped = DataFusionError::Context("while".into(), Box::new(ours().into()));
        assert!(matches!(wrapped.into(), SqlError::Writes(_)));
        let shared = DataFusionError::Shared(Arc::new(ours().into()));
        assert_eq!(SqlError::from(shared).to_string(), ours().to_string());
        let arrow = ArrowError::ExternalError(Box::new(DataFusionError::from(ours())));
        let said = SqlError::from(DataFusionError::ArrowError(Box::new(arrow), None)).to_string();
        assert!(said.contains("DROP TABLE is refused"), "{said}");
    }

    #[test]
    fn a_mistake_has_a_place() {
        let said =
            SqlError::syntax("sql parser error: Expected: an expression, found: FROM at Line: 2, Column: 8");
        assert_eq!(
            said.to_string(),
            "this is no SQL that is understood: Expected: an expression, found: FROM (at line 2, column 8)"
        );
    }
}
