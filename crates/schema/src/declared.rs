//! The schemas that files declare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use icecore_wire::Schema;

use crate::document::{self, DeclarationError, nearest};
use crate::upcast::Step;

/// One schema's versions.
#[derive(Debug, Clone)]
pub struct Lineage {
    file: PathBuf,
    /// Ascending; never empty.
    versions: Vec<Version>,
}

/// One version and how the one before becomes it.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) schema: Arc<Schema>,
    pub(crate) step: Option<Arc<Step>>,
}

impl Lineage {
    pub(crate) fn new(file: &Path, versions: Vec<Version>) -> Self {
        Self { file: file.to_owned(), versions }
    }

    /// The file that declares it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The declared versions, ascending.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &Arc<Schema>> + ExactSizeIterator {
        self.versions.iter().map(|version| &version.schema)
    }

    /// The newest declared version.
    pub fn newest(&self) -> &Arc<Schema> {
        &self.versions[self.versions.len() - 1].schema
    }

    pub(crate) fn steps(&self) -> &[Version] {
        &self.versions
    }
}

/// All declared schemas, by name.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    lineages: BTreeMap<String, Lineage>,
}

/// Why a schema does not go with what is declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Nothing of this name is declared.
    #[error("schema {name} is not declared{near}")]
    UnknownName {
        /// The name.
        name: String,
        /// "; did you mean …?", or nothing.
        near: String,
    },
    /// The name is declared, this version of it is not.
    #[error("{} declares version {versions} of {name}, not {version}", file.display())]
    UnknownVersion {
        /// The name.
        name: String,
        /// The version.
        version: u32,
        /// The declared ones.
        versions: String,
        /// The file that declares them.
        file: PathBuf,
    },
    /// This version is declared as something else.
    #[error("{} declares {declared}, and this is {found}", file.display())]
    OtherDefinition {
        /// The declared definition.
        declared: String,
        /// This one.
        found: String,
        /// The file that declares it.
        file: PathBuf,
    },
    /// A version after the newest declared one that does not follow from it by itself.
    #[error("{found} does not follow from {declared} in {}: {why}", file.display())]
    DoesNotFollow {
        /// The newest declared definition.
        declared: String,
        /// This one.
        found: String,
        /// What is in the way.
        why: String,
        /// The file that declares the former.
        file: PathBuf,
    },
}

impl Declared {
    /// Reads every `*.toml` in `directory`; a directory that is not there declares nothing.
    ///
    /// # Errors
    /// For the first file that cannot be read or has a mistake in it.
    pub fn load(directory: &Path) -> Result<Self, DeclarationError> {
        let unread = |file: &Path, error: io::Error| DeclarationError {
            file: file.to_owned(),
            place: None,
            message: format!("cannot be read: {error}"),
        };
        let mut files = match fs::read_dir(directory) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unread(directory, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unread(directory, error)),
        };
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        let mut declared = Self::default();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|error| unread(&file, error))?;
            declared.add(&file, &text)?;
        }
        Ok(declared)
    }

    /// Adds the schema that the `text` of `file` declares.
    ///
    /// # Errors
    /// For a mistake in the text, or if another file declares a schema of that name.
    pub fn add(&mut self, file: &Path, text: &str) -> Result<(), DeclarationError> {
        let lineage = document::lineage(file, text)?;
        let name = lineage.newest().name();
        if let Some(other) = self.lineages.get(name) {
            let message = format!("schema {name} is declared in {} already", other.file.display());
            return Err(DeclarationError { file: file.to_owned(), place: None, message });
        }
        self.lineages.insert(name.to_owned(), lineage);
        Ok(())
    }

    /// The declared schemas, by name.
    pub fn lineages(&self) -> impl Iterator<Item = &Lineage> {
        self.lineages.values()
    }

    /// What is declared of the schema called `name`.
    pub fn lineage(&self, name: &str) -> Option<&Lineage> {
        self.lineages.get(name)
    }

    /// Whether `schema` goes with what is declared: it is a declared version, or (unless `only_declared`) one that nothing
    /// is declared of, or one after the newest declared version that follows from it without an upcast.
    pub fn check(&self, schema: &Schema, only_declared: bool) -> Result<(), Misfit> {
        let (name, version) = (schema.name(), schema.version());
        let Some(lineage) = self.lineage(name) else {
            let names: Vec<&str> = self.lineages.keys().map(String::as_str).collect();
            let unknown = || Misfit::UnknownName { name: name.to_owned(), near: nearest(name, &names) };
            return if only_declared { Err(unknown()) } else { Ok(()) };
        };
        let file = lineage.file.clone();
        let newest = lineage.newest();
        match lineage.versions().find(|declared| declared.version() == version) {
            Some(declared) if declared.id() == schema.id() => Ok(()),
            Some(declared) => Err(Misfit::OtherDefinition {
                declared: declared.to_string(),
                found: schema.to_string(),
                file,
            }),
            None if only_declared || version < newest.version() => {
                let versions: Vec<String> =
                    lineage.versions().map(|declared| declared.version().to_string()).collect();
                let (name, versions) = (name.to_owned(), versions.join(", "));
                Err(Misfit::UnknownVersion { name, version, versions, file })
            }
            None => Step::automatic(newest, schema).map(|_| ()).map_err(|why| Misfit::DoesNotFollow {
                declared: newest.to_string(),
                found: schema.to_string(),
                why,
                file,
            }),
        }
    }
}
