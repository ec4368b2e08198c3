//! Every version that is stored or declared, and what each reads as.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use icecore_wire::{Schema, SchemaId};

use crate::declared::Version;
use crate::upcast::Step;
use crate::{Declared, Misfit, Upcast};

/// What events of each stored schema read as: the newest version of the same name that is stored or declared.
#[derive(Debug, Default)]
pub struct Evolution {
    upcasts: HashMap<SchemaId, Arc<Upcast>>,
}

impl Evolution {
    /// The evolution of the `stored` schemas by what is declared, and by themselves where nothing is.
    ///
    /// # Errors
    /// When a stored schema is not what is declared under its name and version: a file was changed, or belongs to another log.
    pub fn new(declared: &Declared, stored: &[Arc<Schema>]) -> Result<Self, Misfit> {
        let mut lineages: BTreeMap<&str, BTreeMap<u32, Version>> = BTreeMap::new();
        for schema in stored {
            declared.check(schema, false)?;
            let version = Version { schema: Arc::clone(schema), step: None };
            lineages.entry(schema.name()).or_default().insert(schema.version(), version);
        }
        let mut upcasts = HashMap::new();
        for (name, versions) in &mut lineages {
            let known = declared.lineage(name).map_or(&[][..], |lineage| lineage.steps());
            versions.extend(known.iter().map(|version| (version.schema.version(), version.clone())));
            upcasts.extend(upcasts_of(versions.values()));
        }
        Ok(Self { upcasts })
    }

    /// How events of `schema` read as its newest version; `None` if they are as they are: of the newest version, or of one that
    /// no newer one follows from.
    pub fn upcast(&self, schema: SchemaId) -> Option<&Arc<Upcast>> {
        self.upcasts.get(&schema)
    }
}

/// From newest to oldest, each version's steps are its own to the next and those of the next.
fn upcasts_of<'v>(versions: impl DoubleEndedIterator<Item = &'v Version>) -> Vec<(SchemaId, Arc<Upcast>)> {
    let mut upcasts = Vec::new();
    let mut versions = versions.rev();
    let Some(mut newer) = versions.next() else { return upcasts };
    let (mut target, mut steps): (_, Vec<Arc<Step>>) = (Arc::clone(&newer.schema), Vec::new());
    for version in versions {
        let step =
            newer.step.clone().or_else(|| Step::automatic(&version.schema, &newer.schema).ok().map(Arc::new));
        match step {
            Some(step) => steps.insert(0, step),
            // Taken before definitions were checked: what is older stays as it is.
            None => (target, steps) = (Arc::clone(&version.schema), Vec::new()),
        }
        if !steps.is_empty() {
            upcasts.push((version.schema.id(), Arc::new(Upcast::new(Arc::clone(&target), steps.clone()))));
        }
        newer = version;
    }
    upcasts
}
