//! The parameters of a request: read strictly, and named where they are not understood.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use icecore_replay::parse_instant;
use icecore_wire::{DeviceName, Glob};
use jiff::Timestamp;

use super::problem::{Kind, Problem};
use crate::instant;

/// Bytes of a query string; longer ones are mistakes.
const LONGEST_QUERY: usize = 16 << 10;

/// What stands behind the `?`. Whoever handles a request takes what it knows, and refuses the [rest](Parameters::end).
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, Problem> {
        if query.len() > LONGEST_QUERY {
            let detail = format!("the query has {} bytes; at most {LONGEST_QUERY} are read", query.len());
            return Err(Problem::new(Kind::Parameter, detail));
        }
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// Takes every value of `name`.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(other, _)| other == name);
        self.0 = left;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes the one value of `name`, if there is one.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            more => Err(Problem::parameter(name, format_args!("it stands there {more} times"))),
        }
    }

    /// Takes a value of which `read` says what it is, or what was expected.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let value = self.text(name)?;
        value.map(|value| read(&value).map_err(|expected| Problem::parameter(name, expected))).transpose()
    }

    /// A number within these bounds.
    pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<Option<T>, Problem> {
        let expected = |text: &str| format!("expected a number from {least} to {most}, not {text:?}");
        self.read(name, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|number| digits && (least..=most).contains(number));
            number.ok_or_else(|| expected(text))
        })
    }

    /// A pattern for names; without one, every name matches.
    pub(super) fn glob(&mut self, name: &str) -> Result<Glob, Problem> {
        Ok(self.text(name)?.map_or_else(Glob::any, |pattern| Glob::new(&pattern)))
    }

    /// An end of a range of times: RFC 3339, nanoseconds, or relative to now. Events have times between 1677 and 2262, so that
    /// what is outside means their beginning or end.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<i64>, Problem> {
        self.read(name, |text| match (parse_instant(text, instant::now()), text.parse::<Timestamp>()) {
            (Ok(time), _) => Ok(time),
            (Err(_), Ok(outside)) => Ok(if outside.as_nanosecond() < 0 { i64::MIN } else { i64::MAX }),
            (Err(error), Err(_)) => Err(error.to_string()),
        })
    }

    /// One of some words, the first if there is none.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<T, Problem> {
        let read = |text: &str| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            found.ok_or_else(|| format!("expected one of {}, not {text:?}", known.join(", ")))
        };
        Ok(self.read(name, read)?.unwrap_or(words[0].1))
    }

    /// Everything that is known was taken.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let detail = format!("{name}: there is no such parameter here; /v1/openapi.json lists them");
                Err(Problem::new(Kind::Parameter, detail))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// The one name in a path, such as that of a device.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: FromPath,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_text = || Problem::new(Kind::Parameter, "the path is not UTF-8, percent-encoded");
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| not_text())?;
        let (name, value) = path.iter().next().ok_or_else(not_text)?;
        let nothing = |why| Problem::new(Kind::NotFound, format!("no {name} has such a name: {why}"));
        T::from_path(value).map(Self).map_err(nothing)
    }
}

/// What can stand in a path.
pub(super) trait FromPath: Sized {
    /// Reads it; otherwise says why there is no such thing.
    fn from_path(text: &str) -> Result<Self, String>;
}

impl FromPath for DeviceName {
    fn from_path(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: <Self as FromStr>::Err| error.to_string())
    }
}

impl FromPath for icecore_log::SegmentId {
    fn from_path(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: <Self as FromStr>::Err| error.to_string())
    }
}

/// Takes percent-encoding, and `+` for a space, off.
fn decode(text: &str) -> Result<String, Problem> {
    let wrong = |what: &str| Problem::new(Kind::Parameter, format!("{text:?} in the query {what}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit(), digit());
                let byte = high.zip(low).map(|(high, low)| (high * 16 + low) as u8);
                byte.ok_or_else(|| wrong("has a % without two hexadecimal digits"))?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::parse(query).unwrap()
    }

    fn detail(problem: &Problem) -> String {
        problem.as_json()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn values_are_decoded() {
        let mut query = parameters("a=1%2F2+3&b&&a=%C3%A5");
        assert_eq!(query.all("a"), ["1/2 3", "å"]);
        assert_eq!(query.text("b").unwrap().unwrap(), "");
        query.end().unwrap();
        for wrong in ["a=%2", "a=%zz", "%=1", "a=%ff", &"a".repeat(LONGEST_QUERY + 1)] {
            assert!(Parameters::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let twice = detail(&parameters("a=1&a=2").text("a").unwrap_err());
        assert_eq!(twice, "a: it stands there 2 times");
        let unknown = detail(&parameters("devcie=x").end().unwrap_err());
        assert!(unknown.starts_with("devcie: there is no such parameter"), "{unknown}");
        for wrong in ["limit=0", "limit=11", "limit=", "limit=+5", "limit=1.0"] {
            let detail = detail(&parameters(wrong).number("limit", 1, 10).unwrap_err());
            assert!(detail.starts_with("limit: expected a number from 1 to 10, not "), "{detail}");
        }
        assert_eq!(parameters("limit=7").number("limit", 1, 10).unwrap(), Some(7));
        assert_eq!(parameters("at=0651-08-07T01:06:49Z").time("at").unwrap(), Some(i64::MIN));
        assert_eq!(parameters("at=9000-01-01T00:00:00Z").time("at").unwrap(), Some(i64::MAX));
        let word = detail(&parameters("order=up").word("order", &[("log", 1), ("time", 2)]).unwrap_err());
        assert_eq!(word, "order: expected one of log, time, not \"up\"");
        assert!(
            detail(&parameters("at=noon").time("at").unwrap_err()).starts_with("at: \"noon\" is not a time")
        );
    }
}
