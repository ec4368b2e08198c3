//! The configuration: a TOML file, overridden key by key from the environment.
//!
//! Every mistake is an error that names its place: file, line and column, or the environment variable.

mod document;
mod tiers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::instant;
pub(crate) use tiers::{Store, Tier};

/// What `icecore init` writes: every key with its default and what it means.
pub(crate) const COMMENTED: &str = include_str!("../../../../config/icecore.toml");
/// The retention policies that it writes beside, and those that apply before any were applied: everything is kept.
pub(crate) const RETENTION: &str = include_str!("../../../../config/retention.toml");

/// What is written where nothing listens.
pub(crate) const OFF: &str = "off";

/// Begins the name of an environment variable that overrides a key: `ICECORE__LISTEN__QUIC`.
const ENVIRONMENT_PREFIX: &str = "ICECORE__";

/// A complete, checked configuration; all paths are ready to use.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) flight: Flight,
    pub(crate) data: Data,
    pub(crate) tls: Tls,
    pub(crate) log: Log,
    pub(crate) seal: Seal,
    pub(crate) schemas: Schemas,
    pub(crate) snapshot: Snapshot,
    pub(crate) limits: Limits,
    pub(crate) tier: Tier,
    pub(crate) store: BTreeMap<String, Store>,
}

/// Addresses the server listens on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Listen {
    pub(crate) quic: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// Flight SQL.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Flight {
    #[serde(deserialize_with = "address_or_off", serialize_with = "address_as_text")]
    pub(crate) listen: Option<SocketAddr>,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) memory: ByteSize,
}

/// Where data lives.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Data {
    pub(crate) dir: PathBuf,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) reserve: ByteSize,
}

/// Certificates and keys, all PEM.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    pub(crate) ca_key: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// How the hot log is written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Log {
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) segment: ByteSize,
    #[serde(deserialize_with = "compression_level")]
    pub(crate) compression: i32,
}

/// When finished segments of the hot log become sealed ones.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Seal {
    #[serde(deserialize_with = "duration", serialize_with = "as_text")]
    pub(crate) after: Duration,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) backlog: ByteSize,
}

/// Which schemas devices may send.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Schemas {
    pub(crate) dir: PathBuf,
    pub(crate) mode: SchemaMode,
}

/// Whether schemas have to be declared in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SchemaMode {
    /// Devices announce what they like, as long as it goes with what is declared and stored.
    Open,
    /// Only declared versions are taken.
    Declared,
}

/// When snapshots of the state are written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    pub(crate) every_events: u64,
    #[serde(deserialize_with = "duration", serialize_with = "as_text")]
    pub(crate) every: Duration,
}

/// How much devices and gateways may send a second; 0 = no limit.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Limits {
    pub(crate) device_events: u64,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) device_bytes: ByteSize,
    pub(crate) gateway_events: u64,
    #[serde(deserialize_with = "size", serialize_with = "as_bytes")]
    pub(crate) gateway_bytes: ByteSize,
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { quic: loopback(4433), http: loopback(4434) }
    }
}

impl Default for Flight {
    fn default() -> Self {
        Self { listen: None, memory: ByteSize::mib(512) }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: "data".into(), reserve: ByteSize::mib(256) }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca: "tls/ca.pem".into(),
            ca_key: "tls/ca-key.pem".into(),
            certificate: "tls/server.pem".into(),
            key: "tls/server-key.pem".into(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { segment: ByteSize::mib(256), compression: 1 }
    }
}

impl Default for Seal {
    fn default() -> Self {
        Self { after: Duration::from_hours(1), backlog: ByteSize::gib(4) }
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self { dir: "schemas".into(), mode: SchemaMode::Open }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { every_events: 10_000_000, every: Duration::from_mins(5) }
    }
}

impl Config {
    /// Reads `file`, applies the environment of this process and makes paths relative to the file's directory.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!("cannot read the configuration {} (`icecore init --dir D` creates one)", file.display())
        })?;
        let overrides = std::env::vars().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX));
        let config = document::read(&file.display().to_string(), &text, overrides)?;
        config.tier.journal(&config.store).map_err(|wrong| anyhow!("{}: {wrong}", file.display()))?;
        Ok(config.relative_to(file.parent().unwrap_or(Path::new(""))))
    }

    /// Which of the stores has the journal and the manifests; `None` where there are no stores.
    pub(crate) fn journal(&self) -> Option<&str> {
        self.tier.journal(&self.store).expect("checked when it was loaded")
    }

    fn relative_to(mut self, directory: &Path) -> Self {
        let Tls { ca, ca_key, certificate, key } = &mut self.tls;
        let (policies, schemas) = (&mut self.tier.policies, &mut self.schemas.dir);
        for path in [&mut self.data.dir, ca, ca_key, certificate, key, policies, schemas] {
            *path = directory.join(&path);
        }
        self
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size such as \"64MiB\", or a number of bytes")]
    enum Size {
        Bytes(u64),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(ByteSize::b(bytes)),
        Size::Text(text) => {
            let expected = |_| de::Error::custom(format!("expected a size such as \"64MiB\", not {text:?}"));
            text.parse().map_err(expected)
        }
    }
}

/// Exactly: the text of a [`ByteSize`] is rounded.
fn as_bytes<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.as_u64())
}

/// A loopback address, for there are no tokens yet, or nothing.
fn address_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == OFF {
        return Ok(None);
    }
    let expected = |_| {
        de::Error::custom(format!("expected {OFF:?}, or an address such as \"127.0.0.1:4435\", not {text:?}"))
    };
    let address: SocketAddr = text.parse().map_err(expected)?;
    match address.ip().is_loopback() {
        true => Ok(Some(address)),
        false => Err(de::Error::custom(format!(
            "Flight SQL has no tokens yet, and is served on loopback addresses only, not on {address}; listen on 127.0.0.1:{}",
            address.port()
        ))),
    }
}

fn address_as_text<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(OFF),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    instant::parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", duration.as_secs_f64()))
}

/// zstd accepts −131072 to 22; beyond 19 it needs memory out of proportion, below −50 nothing gets faster.
fn compression_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let level = i32::deserialize(deserializer)?;
    if (-50..=19).contains(&level) {
        Ok(level)
    } else {
        Err(de::Error::custom(format!("expected a zstd level from -50 to 19, not {level}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_file_holds_exactly_the_defaults() {
        let written = document::read("icecore.toml", COMMENTED, []).unwrap();
        assert_eq!(written, Config::default());
        let is_key = |line: &&str| line.contains(" = ") && !line.starts_with('#');
        let keys = |text: &str| text.lines().filter(is_key).count();
        let every_key = toml::to_string(&Config::default()).unwrap();
        assert_eq!(keys(COMMENTED), keys(&every_key), "a key is missing from config/icecore.toml");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("icecore.toml");
        std::fs::write(&file, "[tls]\nca = \"/etc/ca.pem\"\n").unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.data.dir, directory.path().join("data"));
        assert_eq!(config.tls.ca, Path::new("/etc/ca.pem"));
    }
}
