//! Sessions: what a client wants of all its statements, and what it hears of them.
//!
//! A session is a cookie, as Flight has it. What the client wants stands in the cookie itself, so that nothing is forgotten by forgetting a
//! session; the server keeps what the last answer of each covers, of the newest few. Clients without cookies say what they want in headers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Response, Status};

use super::status::{self, invalid};
use crate::catalog::{CATALOG, EVENTS};

/// The cookie of sessions, as Flight names it.
const COOKIE: &str = "arrow_flight_session_id";
/// Sessions whose last coverage is kept.
const KEPT: usize = 256;
/// Hexadecimal digits of a session's name.
const DIGITS: usize = 32;

/// The header, and the session option, by which an answer that is not complete is an error.
const COMPLETE: (&str, &str) = ("icecore-require-complete", "require_complete");
/// The header, and the session option, by which damage is read around.
const SKIP: (&str, &str) = ("icecore-skip-damaged", "skip_damaged");
/// The session option that tells what the last answer covers.
const COVERAGE: &str = "coverage";

/// What a client wants of a statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// An answer that is not complete is an error.
    pub(super) complete: bool,
    /// Damage is read around, and in the coverage.
    pub(super) skip_damaged: bool,
}

impl Wants {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            complete: self.complete || other.complete,
            skip_damaged: self.skip_damaged || other.skip_damaged,
        }
    }
}

/// A call: the session that it is of, and what is wanted of its statement.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The name of the session; `None` where the client has no cookie.
    session: Option<String>,
    /// What the session wants.
    of_session: Wants,
    /// What the call wants.
    pub(super) wants: Wants,
}

impl Call {
    /// Reads the headers of a call.
    ///
    /// # Errors
    /// When one of ours is not understood.
    pub(super) fn of(headers: &MetadataMap) -> Result<Self, Status> {
        let (session, of_session) = match cookie(headers).and_then(|value| session(&value)) {
            Some((session, wants)) => (Some(session), wants),
            None => (None, Wants::default()),
        };
        let wants = Wants {
            complete: flag(headers, COMPLETE.0)?.unwrap_or(of_session.complete),
            skip_damaged: flag(headers, SKIP.0)?.unwrap_or(of_session.skip_damaged),
        };
        Ok(Self { session, of_session, wants })
    }

    /// Answers it; a client that has no session is offered one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn answer<T>(&self, message: T) -> Result<Response<T>, Status> {
        match self.session {
            Some(_) => Ok(Response::new(message)),
            None => self.answer_with(message, self.of_session),
        }
    }

    /// Answers it, and has the session want this from now on.
    fn answer_with<T>(&self, message: T, wants: Wants) -> Result<Response<T>, Status> {
        let name = match &self.session {
            Some(session) => session.clone(),
            None => new_name()?,
        };
        let complete = if wants.complete { "c" } else { "" };
        let skip = if wants.skip_damaged { "s" } else { "" };
        set_cookie(message, &format!("{COOKIE}={name}-{complete}{skip}"))
    }
}

fn set_cookie<T>(message: T, cookie: &str) -> Result<Response<T>, Status> {
    let mut response = Response::new(message);
    let cookie = AsciiMetadataValue::try_from(cookie).map_err(|error| Status::internal(error.to_string()))?;
    response.metadata_mut().insert("set-cookie", cookie);
    Ok(response)
}

fn new_name() -> Result<String, Status> {
    let mut name = [0; DIGITS / 2];
    getrandom::fill(&mut name).map_err(|error| Status::internal(error.to_string()))?;
    Ok(name.iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    }))
}

/// The value of the cookie of sessions.
fn cookie(headers: &MetadataMap) -> Option<String> {
    let cookies = headers.get_all("cookie").iter().filter_map(|cookies| cookies.to_str().ok());
    let mut cookies =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.split_once('='));
    cookies
        .find(|(name, _)| name.trim() == COOKIE)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// The name in a cookie, and what it says the session wants; `None` if it is none of ours.
fn session(cookie: &str) -> Option<(String, Wants)> {
    let (name, wants) = cookie.split_once('-')?;
    let is_ours = name.len() == DIGITS && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_ours.then(|| {
        (name.to_owned(), Wants { complete: wants.contains('c'), skip_damaged: wants.contains('s') })
    })
}

/// A header that is true or false.
fn flag(headers: &MetadataMap, name: &str) -> Result<Option<bool>, Status> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let value = value.to_str().unwrap_or_default();
    let value = truth(value)
        .ok_or_else(|| invalid(format!("header {name}: expected true or false, not {value:?}")))?;
    Ok(Some(value))
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// What the last answers of sessions cover, the newest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<VecDeque<(String, String)>>>);

impl Sessions {
    /// Keeps what an answer covers.
    pub(super) fn note(&self, call: &Call, coverage: &str) {
        let Some(session) = &call.session else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| known != session);
        kept.push_front((session.clone(), coverage.to_owned()));
        kept.truncate(KEPT);
    }

    fn coverage(&self, call: &Call) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(known, _)| Some(known) == call.session.as_ref());
        found.map(|(_, coverage)| coverage.clone())
    }

    /// The action `GetSessionOptions`.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn options(&self, call: &Call) -> Result<Response<Vec<u8>>, Status> {
        let text = |value: &str| OptionValue { value: Some(Value::Text(value.to_owned())) };
        let truth = |value| OptionValue { value: Some(Value::Truth(value)) };
        let mut options = BTreeMap::from([
            ("catalog".to_owned(), text(CATALOG)),
            ("schema".to_owned(), text(EVENTS)),
            (COMPLETE.1.to_owned(), truth(call.of_session.complete)),
            (SKIP.1.to_owned(), truth(call.of_session.skip_damaged)),
        ]);
        if let Some(coverage) = self.coverage(call) {
            options.insert(COVERAGE.to_owned(), text(&coverage));
        }
        call.answer(Options { options }.encode_to_vec())
    }

    /// The action `CloseSession`.
    ///
    /// # Errors
    /// Never: nothing hangs on a session.
    pub(super) fn close(&self, call: &Call) -> Result<Response<Vec<u8>>, Status> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| Some(known) != call.session.as_ref());
        let closed = Closed { status: CLOSED }.encode_to_vec();
        set_cookie(closed, &format!("{COOKIE}=; Max-Age=0"))
    }
}

/// The action `SetSessionOptions`: what does not go is told by name, and the rest is done.
///
/// # Errors
/// When the request cannot be understood.
pub(super) fn set_options(call: &Call, request: &[u8]) -> Result<Response<Vec<u8>>, Status> {
    let request =
        Options::decode(request).map_err(|error| status::undecodable("the session options", error))?;
    let (mut wants, mut errors) = (call.of_session, BTreeMap::new());
    for (name, OptionValue { value }) in request.options {
        let done = match name.as_str() {
            "catalog" => value.is_none_or(|value| value.is_text(CATALOG)),
            "schema" => value.is_none_or(|value| value.is_text(EVENTS)),
            _ if name == COMPLETE.1 => set(&mut wants.complete, value),
            _ if name == SKIP.1 => set(&mut wants.skip_damaged, value),
            _ => {
                errors.insert(name, OptionError { value: INVALID_NAME });
                continue;
            }
        };
        if !done {
            errors.insert(name, OptionError { value: INVALID_VALUE });
        }
    }
    call.answer_with(OptionErrors { errors }.encode_to_vec(), wants)
}

/// Sets, or erases, what is true or false; false if the value is neither.
fn set(flag: &mut bool, value: Option<Value>) -> bool {
    let value = match value {
        None => Some(false),
        Some(Value::Truth(value)) => Some(value),
        Some(Value::Text(text)) => truth(&text),
        Some(_) => None,
    };
    value.map(|value| *flag = value).is_some()
}

// The messages of `Flight.proto` about sessions, which the library lacks.

const CLOSED: i32 = 1;
const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

/// `SetSessionOptionsRequest`, and `GetSessionOptionsResult`.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(btree_map = "string, message", tag = "1")]
    options: BTreeMap<String, OptionValue>,
}

/// `SessionOptionValue`
#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Number(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

impl Value {
    fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(value) if value.as_str() == text)
    }
}

/// `SessionOptionValue.StringListValue`
#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

/// `SetSessionOptionsResult`
#[derive(Clone, PartialEq, Message)]
struct OptionErrors {
    #[prost(btree_map = "string, message", tag = "1")]
    errors: BTreeMap<String, OptionError>,
}

/// `SetSessionOptionsResult.Error`
#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

/// `CloseSessionResult`
#[derive(Clone, PartialEq, Message)]
struct Closed {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(headers: &[(&'static str, &str)]) -> Result<Call, Status> {
        let mut map = MetadataMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Call::of(&map)
    }

    /// The session cookie that an answer sets.
    fn cookie_of<T>(response: &Response<T>) -> String {
        response.metadata().get("set-cookie").unwrap().to_str().unwrap().to_owned()
    }

    fn option(name: &str, value: Option<Value>) -> Vec<u8> {
        Options { options: [(name.to_owned(), OptionValue { value })].into() }.encode_to_vec()
    }

    #[test]
    fn what_a_session_wants_is_in_its_cookie() {
        let first = call(&[]).unwrap();
        let answered = set_options(&first, &option(COMPLETE.1, Some(Value::Text("true".into())))).unwrap();
        assert_eq!(answered.get_ref(), &OptionErrors::default().encode_to_vec());
        let cookie = cookie_of(&answered);
        let later = call(&[("cookie", &format!("other=1; {cookie}"))]).unwrap();
        assert_eq!(later.wants, Wants { complete: true, skip_damaged: false });
        assert!(later.answer(()).unwrap().metadata().get("set-cookie").is_none(), "it has one");
        let answered = set_options(&later, &option(COMPLETE.1, None)).unwrap();
        let cookie = cookie_of(&answered);
        let last = call(&[("cookie", &cookie)]).unwrap();
        assert_eq!((last.session, last.wants), (later.session, Wants::default()));
    }

    #[test]
    fn a_header_counts_more_than_the_session() {
        let cookie = format!("{COOKIE}={}-cs", "0".repeat(DIGITS));
        let headers = [("cookie", cookie.as_str()), (COMPLETE.0, "false")];
        assert_eq!(call(&headers).unwrap().wants, Wants { complete: false, skip_damaged: true });
        let refused = call(&[(SKIP.0, "perhaps")]).unwrap_err();
        assert!(refused.message().contains("expected true or false, not \"perhaps\""), "{refused:?}");
    }

    #[test]
    fn options_that_do_not_go_are_told() {
        let refused = |name: &str, value: Value| {
            let answered = set_options(&call(&[]).unwrap(), &option(name, Some(value))).unwrap();
            OptionErrors::decode(&answered.get_ref()[..])
                .unwrap()
                .errors
                .remove(name)
                .map(|error| error.value)
        };
        assert_eq!(refused("catalog", Value::Text(CATALOG.into())), None);
        assert_eq!(refused("schema", Value::Text("other".into())), Some(INVALID_VALUE));
        assert_eq!(refused(SKIP.1, Value::Integer(1)), Some(INVALID_VALUE));
        assert_eq!(refused(COVERAGE, Value::Text("{}".into())), Some(INVALID_NAME));
        assert!(set_options(&call(&[]).unwrap(), &[0xFF; 9]).is_err());
    }

    #[test]
    fn the_coverage_of_the_last_answer_is_told_to_its_session() {
        let sessions = Sessions::default();
        let named = |number: usize| call(&[("cookie", &format!("{COOKIE}={number:032x}-"))]).unwrap();
        let told = |call: &Call| {
            let options = Options::decode(&sessions.options(call).unwrap().get_ref()[..]).unwrap().options;
            options.get(COVERAGE).and_then(|option| option.value.clone())
        };
        for number in 0..=KEPT {
            sessions.note(&named(number), &format!("answer {number}"));
        }
        assert_eq!(told(&named(0)), None, "only so many are kept");
        assert_eq!(told(&named(KEPT)), Some(Value::Text(format!("answer {KEPT}"))));
        sessions.close(&named(KEPT)).unwrap();
        assert_eq!(told(&named(KEPT)), None);
        sessions.note(&call(&[]).unwrap(), "nobody's");
        assert_eq!(told(&call(&[]).unwrap()), None);
    }
}
