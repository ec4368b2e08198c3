//! What goes wrong, as the client is told: problem details of RFC 9457.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use icecore_log::LogError;
use icecore_replay::ReplayError;
use icecore_tier::catalog::CatalogError;
use serde_json::{Value, json};
use tracing::warn;

/// An answer that is none, with what to do about it.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
}

/// Problems that clients can tell apart. The document of the API lists the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A parameter that is not understood.
    Parameter,
    /// Nothing of this name or at this address.
    NotFound,
    /// This address takes no such method.
    Method,
    /// The place in the log that was to be gone on from does not exist.
    Place,
    /// The answer would take events that were deleted by policy.
    Inexact,
    /// The request was sent to another host, or to an address on which the API is not served.
    Host,
    /// So much is being read that there is no room for more.
    Busy,
    /// Part of the data cannot be read.
    Unreadable,
    /// A mistake of the server's.
    Internal,
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Parameter => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Place | Self::Inexact => StatusCode::GONE,
            Self::Host => StatusCode::FORBIDDEN,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreadable | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The last part of `type`, and the title.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Parameter => ("invalid-parameter", "A parameter is not understood"),
            Self::NotFound => ("not-found", "There is no such thing"),
            Self::Method => ("method-not-allowed", "This address is only read"),
            Self::Place => ("unknown-place", "The log has no such place"),
            Self::Inexact => ("inexact", "Events that the answer takes were deleted by policy"),
            Self::Host => ("loopback-only", "The API is for this machine only"),
            Self::Busy => ("busy", "The server is reading as much as it may"),
            Self::Unreadable => ("unreadable", "Part of the data cannot be read"),
            Self::Internal => ("internal", "The server made a mistake"),
        }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// A parameter that is not understood.
    pub(super) fn parameter(name: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(Kind::Parameter, format!("{name}: {detail}"))
    }

    /// As JSON, for where it comes too late to be the status.
    pub(super) fn as_json(&self) -> Value {
        let (name, title) = self.kind.names();
        json!({
            "type": format!("urn:icecore:problem:{name}"),
            "title": title,
            "status": self.kind.status().as_u16(),
            "detail": self.detail,
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), Json(self.as_json())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        warn!(error = format!("{error:#}"), "a request to the API failed");
        Self::new(Kind::Unreadable, format!("{error:#}"))
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unknown { .. } => Self::new(Kind::NotFound, error.to_string()),
            error => anyhow::Error::from(error).into(),
        }
    }
}
