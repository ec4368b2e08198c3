//! What a directory holds, and adding to it in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::HiveExport;
use crate::ReplayError;

/// Hidden from readers of the directory: names that begin so are passed over by all of them.
const STATE: &str = "_icecore.json";
/// What the file is written as before it is whole.
const STATE_UNFINISHED: &str = "_icecore.json.unfinished";
/// What stands behind the names of files that do not count yet.
pub(super) const UNFINISHED: &str = ".unfinished";
const FORMAT: u64 = 1;

/// The state of a directory, which is locked while this lives.
#[derive(Debug)]
pub(super) struct Published {
    directory: PathBuf,
    lock: File,
    log: String,
    question: Value,
    position: u64,
}

impl Published {
    /// Opens the directory, which may be new, and brings to an end what a run that was killed had begun.
    pub(super) fn open(export: &HiveExport, log: Option<[u8; 16]>) -> Result<Self, ReplayError> {
        let directory = export.directory.clone();
        let failed =
            |what| move |source| ReplayError::Export { what, directory: export.directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed("make"))?;
        let lock = File::options().append(true).create(true).open(directory.join("_icecore.lock"));
        let lock = lock.map_err(failed("lock"))?;
        if lock.try_lock().is_err() {
            return Err(ReplayError::ExportRuns { directory });
        }
        let log = log.map(u128::from_be_bytes).map_or_else(String::new, |log| format!("{log:032x}"));
        let mut published = Self { directory, lock, log, question: question(export), position: 0 };
        match fs::read(published.directory.join(STATE)) {
            Ok(text) => published.read(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error)),
        }
        clear(&published.directory).map_err(failed("clear"))?;
        Ok(published)
    }

    /// Positions up to here are in the directory.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Adds `files`, given by the names they shall have, and with them what the log has up to `position`.
    pub(super) fn publish(&mut self, position: u64, files: &[PathBuf]) -> Result<(), ReplayError> {
        self.position = position;
        let failed = self.failed("write to");
        self.write(files).map_err(&failed)?;
        self.name(files).map_err(&failed)?;
        self.write(&[]).map_err(&failed)
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> ReplayError + use<> {
        let directory = self.directory.clone();
        move |source| ReplayError::Export { what, directory: directory.clone(), source }
    }

    fn read(&mut self, text: &[u8]) -> Result<(), ReplayError> {
        let other = |why: String| ReplayError::OtherExport { directory: self.directory.clone(), why };
        let unread =
            || other(format!("{STATE} cannot be read; if it was changed, export to another directory"));
        let state: Value = serde_json::from_slice(text).map_err(|_| unread())?;
        if state["format"] != FORMAT {
            return Err(other(format!("{STATE} was written by a later version of Icecore")));
        }
        if state["log"] != *self.log {
            return Err(other("it holds the events of another log".to_owned()));
        }
        if state["question"] != self.question {
            let (before, now) = (&state["question"], &self.question);
            return Err(other(format!("it was made for {before}, and this is for {now}")));
        }
        self.position = state["position"].as_u64().ok_or_else(unread)?;
        let files = state["publish"].as_array().ok_or_else(unread)?;
        let files: Option<Vec<PathBuf>> = files.iter().map(|file| Some(file.as_str()?.into())).collect();
        let files = files.ok_or_else(unread)?;
        if !files.is_empty() {
            let failed = self.failed("write to");
            self.name(&files).map_err(&failed)?;
            self.write(&[]).map_err(&failed)?;
        }
        Ok(())
    }

    /// Gives files their names; some may have them already.
    fn name(&self, files: &[PathBuf]) -> io::Result<()> {
        for file in files {
            let path = self.directory.join(file);
            match fs::rename(unfinished(&path), &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {}
                renamed => renamed?,
            }
        }
        let mut directories: Vec<_> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
        directories.sort_unstable();
        directories.dedup();
        directories
            .into_iter()
            .try_for_each(|directory| File::open(self.directory.join(directory))?.sync_all())
    }

    /// Writes the state; `files` are those that get their names next.
    fn write(&self, files: &[PathBuf]) -> io::Result<()> {
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        let state = json!({
            "format": FORMAT,
            "log": self.log,
            "question": self.question,
            "position": self.position,
            "publish": files,
        });
        let unfinished = self.directory.join(STATE_UNFINISHED);
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{state:#}")?;
        file.sync_all()?;
        fs::rename(unfinished, self.directory.join(STATE))?;
        File::open(&self.directory)?.sync_all()
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Closing the file would do it too.
        let _ = self.lock.unlock();
    }
}

/// What was asked for: what is added later has to answer the same.
fn question(export: &HiveExport) -> Value {
    let query = &export.query;
    let by: &[&str] = if export.by_device { &["date", "device"] } else { &["date"] };
    json!({
        "device": query.devices.as_str(),
        "schema": query.schemas.as_str(),
        "from": query.times.from,
        "to": query.times.to,
        "as_written": query.as_written,
        "partition_by": by,
    })
}

/// The name that a file has before it counts.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Removes what a run that was killed has left in `directory` and below.
fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear(&entry.path())?;
        } else if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
