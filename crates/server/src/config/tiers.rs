//! Sections `[tier]` and `[store.NAME]`: what moves sealed segments, and where to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use icecore_tier::plan::{OffPeak, Prices};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{as_bytes, as_text, duration, size};

/// What moves sealed segments.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Tier {
    /// The proposal: what applies is in the catalog.
    pub(crate) policies: PathBuf,
    #[serde(deserialize_with = "duration", serialize_with = "as_text")]
    pub(crate) interval: Duration,
    #[serde(deserialize_with = "off_peak", serialize_with = "off_peak_as_text")]
    pub(crate) off_peak: Option<OffPeak>,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) cache: ByteSize,
    journal: String,
}

/// A place in object storage.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Store {
    pub(crate) url: String,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) bandwidth: ByteSize,
    pub(crate) options: BTreeMap<String, String>,
    prices: Prices,
}

/// The word for deletions at any time of the day.
const ANY_TIME: &str = "any";

impl Default for Tier {
    fn default() -> Self {
        Self {
            policies: "retention.toml".into(),
            interval: Duration::from_mins(10),
            off_peak: None,
            cache: ByteSize::gib(1),
            journal: String::new(),
        }
    }
}

impl Tier {
    /// Which of the stores has the journal and the manifests; `None` where there are no stores.
    pub(super) fn journal<'s>(
        &'s self,
        stores: &'s BTreeMap<String, Store>,
    ) -> Result<Option<&'s str>, String> {
        let names = || stores.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match (&*self.journal, stores.len()) {
            ("", 0) => Ok(None),
            ("", 1) => Ok(stores.keys().next().map(String::as_str)),
            ("", _) => {
                Err(format!("[tier] lacks journal: say which of the stores keeps the journal: {}", names()))
            }
            (named, _) if stores.contains_key(named) => Ok(Some(named)),
            (named, 0) => Err(format!("[tier] journal is {named:?}, but there is no [store.{named}]")),
            (named, _) => {
                Err(format!("[tier] journal is {named:?}, which is none of the stores: {}", names()))
            }
        }
    }
}

impl Store {
    /// What it costs: as the configuration says, or else the list prices of S3 where it is that.
    pub(crate) fn prices(&self) -> Prices {
        let is_s3 = self.url.starts_with("s3://") && !self.options.contains_key("endpoint");
        match self.prices == Prices::default() && is_s3 {
            true => Prices::of_s3(),
            false => self.prices.clone(),
        }
    }
}

fn off_peak<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffPeak>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = |error| de::Error::custom(format!("{error}; or {ANY_TIME:?}"));
    if text == ANY_TIME { Ok(None) } else { text.parse().map(Some).map_err(expected) }
}

fn off_peak_as_text<S: Serializer>(window: &Option<OffPeak>, serializer: S) -> Result<S::Ok, S::Error> {
    match window {
        Some(window) => window.serialize(serializer),
        None => serializer.serialize_str(ANY_TIME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_in_the_only_store_or_in_the_one_that_is_named() {
        let stores = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), Store::default())).collect();
        let journal = |named: &str, names: &[&str]| {
            let tier = Tier { journal: named.to_owned(), ..Tier::default() };
            tier.journal(&stores(names)).map(|name| name.map(str::to_owned))
        };
        assert_eq!(journal("", &[]), Ok(None));
        assert_eq!(journal("", &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(journal("b", &["a", "b"]), Ok(Some("b".to_owned())));
        assert!(journal("", &["a", "b"]).unwrap_err().ends_with(": a, b"));
        assert!(journal("c", &["a", "b"]).is_err() && journal("c", &[]).is_err());
    }

    #[test]
    fn prices_of_s3_are_known() {
        let store = |url: &str, endpoint: &[(&str, &str)]| {
            let options = endpoint.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Store { url: url.to_owned(), options: options.collect(), ..Store::default() }
        };
        assert_eq!(store("s3://b", &[]).prices(), Prices::of_s3());
        assert_eq!(store("file:///b", &[]).prices(), Prices::default());
        assert_eq!(store("s3://b", &[("endpoint", "http://127.0.0.1:1")]).prices(), Prices::default());
    }
}
