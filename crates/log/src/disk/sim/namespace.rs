//! Names: as processes see them, and as the disk would show them after a power failure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    /// The number of the inode.
    File(usize),
}

/// A change of directories, made as one.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Link { path: PathBuf, node: Node },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Debug, Clone, Default)]
pub(super) struct Namespace {
    visible: Names,
    durable: Names,
    /// What makes the durable names the visible ones, in order.
    pending: Vec<Change>,
}

impl Namespace {
    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        match self.visible.get(path) {
            Some(Node::File(inode)) => Some(*inode),
            Some(Node::Dir) | None => None,
        }
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        is_dir(&self.visible, path)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.visible.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Dir => None,
        })
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.is_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = self.files().map(|(path, _)| path).filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn change(&mut self, change: Change) -> io::Result<()> {
        if change.dirs().into_iter().any(|dir| !self.is_dir(&dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        apply(&change, &mut self.visible)?;
        self.pending.push(change);
        Ok(())
    }

    /// Makes the changes of one directory durable.
    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut self.pending) {
            if change.dirs().iter().any(|touched| touched == dir) {
                // What it is about may itself not be durable: then neither is this change.
                let _ = apply(&change, &mut self.durable);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    /// Of the changes that are not durable, the first few of each directory survive.
    pub(super) fn lose_power(&mut self, survival: f64, rng: &mut Rng) {
        let mut ended = BTreeSet::new();
        for change in std::mem::take(&mut self.pending) {
            let dirs = change.dirs();
            if dirs.iter().any(|dir| ended.contains(dir)) || rng.f64() >= survival {
                ended.extend(dirs);
            } else {
                let _ = apply(&change, &mut self.durable);
            }
        }
        // What lies in a directory that was lost is lost. Parents sort before their children.
        let mut left = Names::new();
        for (path, node) in std::mem::take(&mut self.durable) {
            if path.parent().is_none_or(|parent| is_dir(&left, parent)) {
                left.insert(path, node);
            }
        }
        self.durable = left;
        self.visible.clone_from(&self.durable);
    }
}

impl Change {
    /// The directories it changes.
    fn dirs(&self) -> Vec<PathBuf> {
        let paths = match self {
            Self::Link { path, .. } | Self::Unlink { path } => vec![path],
            Self::Rename { from, to } => vec![from, to],
        };
        paths.into_iter().filter_map(|path| Some(path.parent()?.to_owned())).collect()
    }
}

/// The root always exists.
fn is_dir(names: &Names, path: &Path) -> bool {
    path.parent().is_none() || path == Path::new("") || names.get(path) == Some(&Node::Dir)
}

fn apply(change: &Change, names: &mut Names) -> io::Result<()> {
    match change {
        Change::Link { path, node } => {
            names.insert(path.clone(), *node);
        }
        Change::Unlink { path } => {
            names.remove(path).ok_or(ErrorKind::NotFound)?;
        }
        Change::Rename { from, to } => {
            let node = names.remove(from).ok_or(ErrorKind::NotFound)?;
            names.insert(to.clone(), node);
        }
    }
    Ok(())
}
