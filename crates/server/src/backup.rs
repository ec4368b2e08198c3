//! `icecore backup`: what a lost machine cannot be made anew without, besides what the worker keeps in the bucket.
//!
//! A backup is one object, `backups/<time>.json`, that is created once: the configuration, the policies, the certificates and
//! keys, and the registry, each by its path below the configuration's directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use icecore_schema::Declared;
use icecore_tier::store::{Store, Waiting};
use serde::{Deserialize, Serialize};

use crate::certificates::{write_public, write_secret};
use crate::config::{Config, Tls};
use crate::table::counted;
use crate::{instant, stores};

/// Where backups are in a store.
const BACKUPS: &str = "backups";
/// Version of the object; a later one is refused.
const VERSION: u32 = 1;

/// The files of a server, as one object holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backup {
    backup: u32,
    /// When it was made, in RFC 3339.
    pub(crate) time: String,
    /// Text by path, relative to the directory of the configuration.
    files: BTreeMap<PathBuf, SavedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedFile {
    /// Whether only its owner may read it.
    secret: bool,
    text: String,
}

/// Puts a backup into the store of the journal.
pub(crate) fn run(file: &Path, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(name) = config.journal() else {
        bail!("no store is configured; add [store.NAME] to {}", file.display());
    };
    let store = &stores::open(config)?[name];
    let now = instant::now();
    let backup = Backup::of(file, config, now)?;
    let object = format!("{BACKUPS}/{now:020}.json");
    let content = serde_json::to_vec(&backup).context("a backup is text")?;
    stores::waiting()?.wait(store.put_new(&object, content.into()))?;
    writeln!(out, "{} in {object} of store `{name}`", counted(backup.files.len() as u64, "file"))?;
    if backup.files.values().any(|file| file.secret) {
        writeln!(out, "private keys are among them: who may read the store can enroll devices")?;
    }
    Ok(())
}

impl Backup {
    /// What there is of the files; those outside of the configuration's directory are told and left out.
    fn of(file: &Path, config: &Config, now: i64) -> anyhow::Result<Self> {
        let directory = file.parent().unwrap_or(Path::new(""));
        let Tls { ca, ca_key, certificate, key } = &config.tls;
        let registry = config.data.dir.join("registry.jsonl");
        let public = [file, &config.tier.policies, ca, certificate, &registry].map(|path| (path, false));
        let secret = [ca_key.as_path(), key].map(|path| (path, true));
        let declared = Declared::load(&config.schemas.dir)?;
        let schemas = declared.lineages().map(|lineage| (lineage.file(), false));
        let mut files = BTreeMap::new();
        for (path, secret) in public.into_iter().chain(secret).chain(schemas) {
            let text = match fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
            };
            match path.strip_prefix(directory) {
                Ok(path) if is_below(path) => _ = files.insert(path.to_owned(), SavedFile { secret, text }),
                _ => eprintln!(
                    "warning: {} is not in {}, and was left out",
                    path.display(),
                    directory.display()
                ),
            }
        }
        Ok(Self { backup: VERSION, time: instant::display_seconds(now), files })
    }

    /// The newest one of a store.
    pub(crate) fn newest(store: &Store, waiting: &Waiting) -> anyhow::Result<Self> {
        let mut newest = None;
        waiting.wait(store.list(BACKUPS, |object| newest = newest.take().max(Some(object.path))))?;
        let newest = newest.with_context(|| {
            format!("there is no backup in {}; `icecore backup` on the machine makes one", store.name())
        })?;
        let content = waiting.wait(store.get(&newest))?;
        let backup: Self =
            serde_json::from_slice(&content).with_context(|| format!("{newest} is no backup"))?;
        ensure!(backup.backup == VERSION, "{newest} was written by a later version of Icecore");
        Ok(backup)
    }

    /// Writes the files below `directory`, which must have none of them.
    pub(crate) fn restore(&self, directory: &Path) -> anyhow::Result<()> {
        for path in self.files.keys() {
            ensure!(
                is_below(path),
                "the backup has a file {}, which is not below the directory",
                path.display()
            );
            let path = directory.join(path);
            ensure!(!path.exists(), "{} exists already; nothing was changed", path.display());
        }
        for (path, SavedFile { secret, text }) in &self.files {
            let path = directory.join(path);
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            match secret {
                true => write_secret(&path, text)?,
                false => write_public(&path, text)?,
            }
        }
        Ok(())
    }
}

/// Whether a path leads below where it starts, and nowhere else.
fn is_below(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["../evil", "/evil", "a/../../evil"] {
            let file = SavedFile { secret: false, text: String::new() };
            let files = BTreeMap::from([(PathBuf::from(path), file)]);
            let backup = Backup { backup: VERSION, time: String::new(), files };
            let error = backup.restore(&directory.path().join("a")).unwrap_err().to_string();
            assert!(error.contains("not below the directory"), "{error}");
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
