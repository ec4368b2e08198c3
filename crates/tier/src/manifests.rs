//! The manifests of a log, in a store: they are small, and with them at hand all the rest is found.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use icecore_log::Manifest;

use crate::store::{Store, StoreError, Waiting};

/// The directory of a store that has them.
pub(crate) const SHELF: &str = "manifests";

/// The path of a manifest's object.
pub(crate) fn object(number: u64) -> String {
    format!("{SHELF}/{number:012}.manifest")
}

/// The number of the manifest of this object, if it is one's.
fn parse_object(path: &str) -> Option<u64> {
    path.strip_prefix(SHELF)?.strip_prefix('/')?.strip_suffix(".manifest")?.parse().ok()
}

/// Copies the manifests of a store into the data directory `data`, which may be new; those that are there stay. Returns the
/// numbers of those in the store.
///
/// # Errors
/// When the store or the disk refuses.
pub fn fetch(store: &Store, waiting: &Waiting, data: &Path) -> Result<BTreeSet<u64>, StoreError> {
    let mut numbers = BTreeSet::new();
    waiting.wait(store.list(SHELF, |listed| numbers.extend(parse_object(&listed.path))))?;
    let directory = data.join(SHELF);
    fs::create_dir_all(&directory).map_err(local(&directory))?;
    for number in &numbers {
        let file = Manifest::path(data, *number);
        if !file.exists() {
            let content = waiting.wait(store.get(&object(*number)))?;
            write_durably(&file, &content).map_err(local(&file))?;
        }
    }
    File::open(&directory).and_then(|directory| directory.sync_all()).map_err(local(&directory))?;
    Ok(numbers)
}

/// Under its name only when it is whole: others may read beside.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_added_extension("tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

fn local(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    move |source| StoreError::Local { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_the_rest_is_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::of_url("memory://", &[]).unwrap();
        let waiting = Waiting::new(None).unwrap();
        let put = |path: &str, content: &'static [u8]| {
            waiting.wait(store.put_new(path, content.into())).unwrap();
        };
        put(&object(0), b"zero");
        put(&object(7), b"seven");
        put("manifests/notes.txt", b"no manifest");
        fs::create_dir(directory.path().join(SHELF)).unwrap();
        fs::write(Manifest::path(directory.path(), 0), "another").unwrap();

        let numbers = fetch(&store, &waiting, directory.path()).unwrap();
        assert_eq!(numbers, BTreeSet::from([0, 7]));
        let read = |number| fs::read_to_string(Manifest::path(directory.path(), number)).unwrap();
        assert_eq!((read(0), read(7)), ("another".to_owned(), "seven".to_owned()));
        assert_eq!(fs::read_dir(directory.path().join(SHELF)).unwrap().count(), 2);
    }
}
