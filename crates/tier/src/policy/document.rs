//! TOML tables that are read key by key, with the place of every mistake.

use std::fmt;
use std::ops::Range;

use bytesize::ByteSize;
use icecore_wire::Glob;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::amount::Period;

/// What is wrong in a policy file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A file's name and text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'t> {
    pub(super) name: &'t str,
    pub(super) text: &'t str,
}

impl Source<'_> {
    /// A mistake at these bytes of the text.
    pub(super) fn error(self, place: Range<usize>, message: impl Into<String>) -> PolicyError {
        let before = &self.text[..self.text.floor_char_boundary(place.start)];
        let (lines, line) = before.rsplit_once('\n').unwrap_or(("", before));
        let line_breaks = if line.len() < before.len() { lines.matches('\n').count() + 1 } else { 0 };
        PolicyError {
            file: self.name.to_owned(),
            line: line_breaks + 1,
            column: line.chars().count() + 1,
            message: message.into(),
        }
    }
}

/// A table of the file, all of whose keys are known ones.
#[derive(Debug)]
pub(super) struct Section<'t> {
    source: Source<'t>,
    /// How messages call it.
    what: &'static str,
    place: Range<usize>,
    keys: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// The table `value`, called `what`; refuses keys that are not `known`.
    pub(super) fn new(
        source: Source<'t>,
        what: &'static str,
        value: &'t Spanned<DeValue<'t>>,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let DeValue::Table(keys) = value.get_ref() else {
            let found = value.get_ref().type_str();
            return Err(source.error(value.span(), format!("expected {what}, {{ … }}, not a {found}")));
        };
        Self::of(source, what, value.span(), keys, known)
    }

    /// The same of a table that is at hand.
    pub(super) fn of(
        source: Source<'t>,
        what: &'static str,
        place: Range<usize>,
        keys: &'t DeTable<'t>,
        known: &[&str],
    ) -> Result<Self, PolicyError> {
        let unknown = keys.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let message = format!("unknown key {} in {what}{}", key.get_ref(), nearest(key.get_ref(), known));
            return Err(source.error(key.span(), message));
        }
        Ok(Self { source, what, place, keys })
    }

    /// A mistake in this table that has no closer place.
    pub(super) fn error(&self, message: impl Into<String>) -> PolicyError {
        self.source.error(self.place.clone(), message)
    }

    /// A mistake at the value of `key`, which is in this table, or else at the table.
    pub(super) fn error_at(&self, key: &str, message: impl Into<String>) -> PolicyError {
        let place = self.value(key).map_or_else(|| self.place.clone(), Spanned::span);
        self.source.error(place, message)
    }

    /// What `key` says, whatever it is.
    pub(super) fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.keys.get(key)
    }

    /// The text that `key` says.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'t str>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(Some(text)),
            other => Err(self.error_at(key, format!("expected a text in {key}, not {}", described(other)))),
        }
    }

    /// The text that `key` must say.
    pub(super) fn wanted(&self, key: &str, example: &str) -> Result<&'t str, PolicyError> {
        self.text(key)?.ok_or_else(|| self.error(format!("{} lacks {key}: write {example}", self.what)))
    }

    /// The length of time that `key` says.
    pub(super) fn period(&self, key: &str) -> Result<Option<Period>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) => number.as_str(), // has no unit: the message says how it is written
            other => {
                let message = format!("expected a length of time such as \"90d\", not {}", described(other));
                return Err(self.error_at(key, message));
            }
        };
        text.parse().map(Some).map_err(|error| self.error_at(key, format!("{key}: {error}")))
    }

    /// The number of bytes that `key` says.
    pub(super) fn bytes(&self, key: &str) -> Result<Option<u64>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let bytes = match value.get_ref() {
            DeValue::String(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        bytes.map(Some).ok_or_else(|| {
            let found = described(value.get_ref());
            self.error_at(
                key,
                format!("{key}: expected a size such as \"500GB\", or a number of bytes, not {found}"),
            )
        })
    }

    /// The whole number in `range` that `key` says.
    pub(super) fn number(&self, key: &str, range: Range<u8>) -> Result<Option<u8>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
        number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            let (first, last) = (range.start, range.end - 1);
            let found = described(value.get_ref());
            self.error_at(key, format!("{key}: expected a whole number from {first} to {last}, not {found}"))
        })
    }

    /// The truth value that `key` says.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.get_ref().as_bool().map(Some).ok_or_else(|| {
            let found = described(value.get_ref());
            self.error_at(key, format!("{key}: expected true or false, not {found}"))
        })
    }

    /// The table that `key` says.
    pub(super) fn section(
        &self,
        key: &str,
        what: &'static str,
        known: &[&str],
    ) -> Result<Option<Self>, PolicyError> {
        self.value(key).map(|value| Section::new(self.source, what, value, known)).transpose()
    }

    /// The tables that `key` lists; `max` of them at most, and one at least where the key is there.
    pub(super) fn sections(
        &self,
        key: &str,
        what: &'static str,
        known: &[&str],
        max: usize,
    ) -> Result<Vec<Self>, PolicyError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Some(list) = value.get_ref().as_array() else {
            let found = described(value.get_ref());
            return Err(self.error_at(key, format!("{key}: expected a list, [{{ … }}, …], not {found}")));
        };
        if list.is_empty() || list.len() > max {
            let message = format!("{key}: {} entries; leave {key} out, or write 1 to {max}", list.len());
            return Err(self.error_at(key, message));
        }
        list.iter().map(|value| Section::new(self.source, what, value, known)).collect()
    }

    /// The glob, or list of globs, in `value`, which `key` says.
    pub(super) fn globs(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Glob>, PolicyError> {
        let glob = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::String(text) if !text.is_empty() => Ok(Glob::new(text)),
            other => {
                let message =
                    format!("{key}: expected a name or glob, or a list of them, not {}", described(other));
                Err(self.source.error(value.span(), message))
            }
        };
        match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                let message =
                    format!("{key}: an empty list matches nothing; leave {key} out to match everything");
                Err(self.source.error(value.span(), message))
            }
            DeValue::Array(list) => list.iter().map(glob).collect(),
            _ => Ok(vec![glob(value)?]),
        }
    }
}

/// What a value is, as messages say it.
fn described(value: &DeValue<'_>) -> impl fmt::Display {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        other => format!("a {}", other.type_str()),
    }
}

/// ", did you mean …?" where a known word is near enough, else the list of all.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let similarity = |known: &&&str| strsim::jaro_winkler(word, known);
    match known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b))) {
        Some(near) if similarity(&near) > 0.75 => format!("; did you mean {near}?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}
