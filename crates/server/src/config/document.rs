//! From TOML text and environment variables to a [`Config`], with the place of every mistake.

use std::ops::Range;

use anyhow::{Context, anyhow, bail};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Config, ENVIRONMENT_PREFIX, Store};

/// The section whose tables have free names.
const STORES: &str = "store";

/// Reads `text`, the content of the file called `name`, then applies `overrides` (variable name and value).
pub(super) fn read(
    name: &str,
    text: &str,
    overrides: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<Config> {
    let known = Known::new()?;
    let at = |span: Range<usize>, message: String| {
        anyhow!("{name}:{}: {message}", line_and_column(text, span.start))
    };
    let failed = |error: toml::de::Error| at(error.span().unwrap_or_default(), error.message().to_owned());

    let document = DeTable::parse(text).map_err(failed)?;
    if let Some((span, message)) = unknown_key(document.get_ref(), &known) {
        return Err(at(span, message));
    }
    let mut config: Config = toml::from_str(text).map_err(failed)?;
    for (variable, value) in overrides {
        config = override_key(&config, &known, &variable, &value)?;
    }
    if let Some(name) = config.store.iter().find(|(_, store)| store.url.is_empty()).map(|(name, _)| name) {
        let message = format!(
            "[{STORES}.{name}] lacks url: write url = \"s3://bucket/prefix\" or url = \"file:///directory\""
        );
        let stores = document.get_ref().get(STORES).and_then(|stores| stores.get_ref().as_table());
        let place =
            stores.and_then(|stores| stores.keys().find(|key| key.get_ref() == name)).map(Spanned::span);
        return Err(at(place.unwrap_or_default(), message));
    }
    Ok(config)
}

/// The keys that there are.
struct Known {
    sections: Table,
    /// Of each store.
    store: Table,
}

impl Known {
    fn new() -> anyhow::Result<Self> {
        let context = "the default configuration is a TOML table";
        let sections = Table::try_from(Config::default()).context(context)?;
        Ok(Self { sections, store: Table::try_from(Store::default()).context(context)? })
    }
}

/// The first key of `document` that no [`Config`] has, with its place and the nearest that exists.
fn unknown_key(document: &DeTable<'_>, known: &Known) -> Option<(Range<usize>, String)> {
    for (section, content) in document {
        let path = section.get_ref();
        let Some(Value::Table(keys)) = known.sections.get(path.as_ref()) else {
            return Some((
                section.span(),
                format!("unknown section [{path}]{}", nearest(path, &known.sections)),
            ));
        };
        let unknown = match content.get_ref() {
            DeValue::Table(stores) if path == STORES => stores.iter().find_map(|(name, store)| {
                unknown_in(&format!("{STORES}.{}", name.get_ref()), store.get_ref(), &known.store)
            }),
            content => unknown_in(path, content, keys),
        };
        if unknown.is_some() {
            return unknown;
        }
    }
    None
}

/// The first key in the section `path` that is none of `keys`.
fn unknown_in(path: &str, content: &DeValue<'_>, keys: &Table) -> Option<(Range<usize>, String)> {
    // What is not a section at all is for the typed pass to say.
    let key = content.as_table()?.keys().find(|key| !keys.contains_key(key.get_ref().as_ref()))?;
    let message = format!("unknown key {} in [{path}]{}", key.get_ref(), nearest(key.get_ref(), keys));
    Some((Spanned::span(key), message))
}

/// Applies `ICECORE__SECTION__KEY=value`, or `ICECORE__STORE__NAME__KEY=value`. The value is read as TOML where that fits
/// the key, else as text.
fn override_key(config: &Config, known: &Known, variable: &str, value: &str) -> anyhow::Result<Config> {
    let path = variable.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(variable).to_lowercase();
    let (section, key) = path.split_once("__").with_context(|| {
        format!("environment variable {variable}: expected {ENVIRONMENT_PREFIX}SECTION__KEY, two underscores apart")
    })?;
    let Some(Value::Table(keys)) = known.sections.get(section) else {
        let nearest = nearest(section, &known.sections);
        bail!("environment variable {variable}: unknown section [{section}]{nearest}");
    };
    let (path, key, keys) = match key.split_once("__") {
        Some((name, key)) if section == STORES => (vec![section, name], key, &known.store),
        None if section == STORES => {
            bail!("environment variable {variable}: expected {ENVIRONMENT_PREFIX}STORE__NAME__KEY")
        }
        _ => (vec![section], key, keys),
    };
    if !keys.contains_key(key) {
        let path = path.join(".");
        bail!("environment variable {variable}: unknown key {key} in [{path}]{}", nearest(key, keys));
    }

    let with = |value: Value| -> Result<Config, toml::de::Error> {
        let mut root = Table::try_from(config).expect("a configuration is a TOML table");
        let table = path.iter().fold(&mut root, |table, name| {
            let section = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
            section.as_table_mut().expect("every section is a table")
        });
        table.insert(key.to_owned(), value);
        root.try_into()
    };
    let literal = DeValue::parse(value).ok().and_then(|_| format!("v = {value}").parse::<Table>().ok());
    let literal = literal.and_then(|mut table| table.remove("v"));
    if let Some(config) = literal.and_then(|literal| with(literal).ok()) {
        return Ok(config);
    }
    with(Value::String(value.to_owned()))
        .map_err(|error| anyhow!("environment variable {variable}={value}: {}", error.message()))
}

/// ", did you mean …?" where a known key is near enough, else the list of all.
fn nearest(key: &str, known: &Table) -> String {
    let near =
        known.keys().map(|name| (strsim::jaro_winkler(key, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((similarity, name)) if similarity > 0.75 => format!("; did you mean {name}?"),
        _ => format!("; known are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

/// Line and column, from 1, of the character at byte `offset`.
fn line_and_column(text: &str, offset: usize) -> String {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, overrides: &[(&str, &str)]) -> String {
        let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        format!("{:#}", read("ice.toml", text, overrides).unwrap_err())
    }

    #[test]
    fn mistakes_name_line_and_column() {
        let cases = [
            ("[listn]\nquic = 1\n", "ice.toml:1:2: unknown section [listn]; did you mean listen?"),
            ("[listen]\nquick = \"a\"\n", "ice.toml:2:1: unknown key quick in [listen]; did you mean quic?"),
            ("[listen]\n\nquic = \"nowhere\"\n", "ice.toml:3:8: invalid socket address syntax"),
            (
                "[data]\nreserve = \"lots\"\n",
                "ice.toml:2:11: expected a size such as \"64MiB\", not \"lots\"",
            ),
            (
                "[data]\nreserve = true\n",
                "ice.toml:2:11: expected a size such as \"64MiB\", or a number of bytes",
            ),
            ("[log]\ncompression = 99\n", "ice.toml:2:15: expected a zstd level from -50 to 19, not 99"),
            ("log = 3\n", "ice.toml:1:7: invalid type: integer `3`, expected struct Log"),
            (
                "[flight]\nlisten = \"4435\"\n",
                "ice.toml:2:10: expected \"off\", or an address such as \"127.0.0.1:4435\", not \"4435\"",
            ),
            (
                "[flight]\nlisten = \"0.0.0.0:4435\"\n",
                "ice.toml:2:10: Flight SQL has no tokens yet, and is served on loopback addresses only, not on 0.0.0.0:4435; \
                 listen on 127.0.0.1:4435",
            ),
            (
                "[store.cold]\nurl = \"file:///a\"\nuri = 1\n",
                "ice.toml:3:1: unknown key uri in [store.cold]; did you mean url?",
            ),
            (
                "[tier]\noff_peak = \"night\"\n",
                "ice.toml:2:12: expected a time of the day in UTC such as \"01:00-05:30\", not \"night\"; or \"any\"",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text, &[]), expected);
        }
        let no_url = error("[store.cold]\nbandwidth = \"1MB\"\n", &[]);
        assert!(no_url.starts_with("ice.toml:1:8: [store.cold] lacks url: write "), "{no_url}");
        let no_such_price =
            error("[store.cold]\nurl = \"file:///a\"\nprices = { usual = { gb = 1 } }\n", &[]);
        assert!(no_such_price.starts_with("ice.toml:3:22: unknown field `gb`"), "{no_such_price}");
        assert!(error("[data\n", &[]).starts_with("ice.toml:1:6: "), "{}", error("[data\n", &[]));
        assert!(error("[data]\nx-y-z = 1\n", &[]).ends_with("known are dir, reserve"));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let overrides = [
            ("ICECORE__LISTEN__QUIC", "0.0.0.0:9"),
            ("ICECORE__LOG__COMPRESSION", "-3"),
            ("ICECORE__FLIGHT__LISTEN", "[::1]:4435"),
        ];
        let overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config =
            read("ice.toml", "[listen]\nquic = \"127.0.0.1:1\"\n[log]\ncompression = 5\n", overrides)
                .unwrap();
        assert_eq!(config.listen.quic.to_string(), "0.0.0.0:9");
        assert_eq!(config.log.compression, -3);
        assert_eq!(config.flight.listen.unwrap().to_string(), "[::1]:4435");
    }

    #[test]
    fn the_environment_adds_stores_and_overrides_their_keys() {
        let overrides = [
            ("ICECORE__STORE__COLD__BANDWIDTH", "1MB"),
            ("ICECORE__STORE__COLD__OPTIONS", "{ region = \"here\" }"),
            ("ICECORE__STORE__COLD__URL", "s3://bucket"),
        ];
        let overrides = overrides.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = read("ice.toml", "[store.archive]\nurl = \"file:///a\"\n", overrides).unwrap();
        assert_eq!(config.store["archive"].url, "file:///a");
        let cold = &config.store["cold"];
        assert_eq!((&*cold.url, cold.bandwidth.as_u64()), ("s3://bucket", 1_000_000));
        assert_eq!(cold.options["region"], "here");
    }

    #[test]
    fn a_mistake_in_the_environment_names_the_variable() {
        let cases = [
            (
                "ICECORE__LISTEN__QUIC",
                "x",
                "environment variable ICECORE__LISTEN__QUIC=x: invalid socket address syntax",
            ),
            (
                "ICECORE__LISTEN__PORT",
                "1",
                "environment variable ICECORE__LISTEN__PORT: unknown key port in [listen]",
            ),
            (
                "ICECORE__LSTEN__QUIC",
                "1",
                "environment variable ICECORE__LSTEN__QUIC: unknown section [lsten]",
            ),
            (
                "ICECORE__STORE__COLD",
                "1",
                "environment variable ICECORE__STORE__COLD: expected ICECORE__STORE__NAME__KEY",
            ),
            (
                "ICECORE__STORE__COLD__PORT",
                "1",
                "environment variable ICECORE__STORE__COLD__PORT: unknown key port in [store.cold]",
            ),
            ("ICECORE__LISTEN", "1", "environment variable ICECORE__LISTEN: expected ICECORE__SECTION__KEY"),
        ];
        for (variable, value, expected) in cases {
            let message = error("", &[(variable, value)]);
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
