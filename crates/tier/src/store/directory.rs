//! What a directory wants beyond its client: to be told from another one in its place, and to be rid of what a crash has left.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory of a store.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// What tells it from others: its inode, which stays the same when its file system is mounted again.
    inode: u64,
}

impl Directory {
    /// The directory at `path`, which is made if it is not there.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let inode = fs::metadata(&path)?.ino();
        Ok(Self { path, inode })
    }

    /// Whether it is still there; otherwise why not. The client would make a directory that is gone anew, and an empty one where
    /// a file system is no longer mounted is as good to it as any.
    pub(super) fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if found.ino() == self.inode => Ok(()),
            Ok(_) => Err(format!(
                "{path} is another directory than at the start: is its file system mounted? If it was replaced on purpose, \
                 start again"
            )),
            Err(error) => Err(format!("{path}: {error}")),
        }
    }

    /// Removes the files below `under` that an upload has begun and a crash has left, which no listing shows; returns how
    /// many. Nobody may write there meanwhile.
    pub(super) fn remove_unfinished(&self, under: &str) -> io::Result<u64> {
        let files = match fs::read_dir(self.path.join(under)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            files => files?,
        };
        let mut removed = 0;
        for file in files {
            let path = file?.path();
            if is_unfinished(&path) {
                fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The client writes an object as `NAME#1`, or a higher number, until it is whole.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_directory_in_its_place_is_told_from_it() {
        let root = tempfile::tempdir().unwrap();
        let (path, away) = (root.path().join("nas"), root.path().join("away"));
        let directory = Directory::open(path.clone()).unwrap();
        assert_eq!(directory.check(), Ok(()));
        fs::rename(&path, &away).unwrap();
        assert!(directory.check().unwrap_err().contains("nas: No such file"));
        fs::create_dir(&path).unwrap();
        assert!(directory.check().unwrap_err().contains("is its file system mounted?"));
        fs::remove_dir(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        assert_eq!(directory.check(), Ok(()));
    }

    #[test]
    fn only_what_is_unfinished_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path().to_owned()).unwrap();
        assert_eq!(directory.remove_unfinished("segments").unwrap(), 0);
        fs::create_dir(root.path().join("segments")).unwrap();
        for name in ["0-0.ice", "0-0.ice#1", "0-0.ice#12", "odd#", "odd#1x"] {
            fs::write(root.path().join("segments").join(name), "").unwrap();
        }
        assert_eq!(directory.remove_unfinished("segments").unwrap(), 2);
        assert_eq!(directory.remove_unfinished("segments").unwrap(), 0);
    }
}
