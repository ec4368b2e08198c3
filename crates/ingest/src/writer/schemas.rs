//! Every schema that the log holds a batch of, and whether another one fits beside them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use icecore_schema::{Declared, Misfit};
use icecore_wire::{Code, Schema, SchemaId};

/// Most schemas one log takes. A fleet has dozens; this keeps a device that invents names from filling memory.
const MAX_SCHEMAS: usize = 65_536;

/// The schemas in the log, by name and version.
#[derive(Debug, Default)]
pub(super) struct SchemaBook {
    known: HashSet<SchemaId>,
    versions: HashMap<String, BTreeMap<u32, Arc<Schema>>>,
    declared: Declared,
    only_declared: bool,
}

impl SchemaBook {
    /// Takes a schema in that the log already holds.
    pub(super) fn learn(&mut self, schema: &Arc<Schema>) {
        if self.known.insert(schema.id()) {
            let versions = self.versions.entry(schema.name().to_owned()).or_default();
            versions.insert(schema.version(), Arc::clone(schema));
        }
    }

    /// Goes by what is declared from now on; if `only`, nothing else is taken. What the log holds has to agree.
    pub(super) fn declare(&mut self, declared: Declared, only: bool) -> Result<(), Misfit> {
        // What was taken before only declared schemas were may go on to be there.
        for schema in self.versions.values().flat_map(BTreeMap::values) {
            declared.check(schema, false)?;
        }
        (self.declared, self.only_declared) = (declared, only);
        Ok(())
    }

    /// Whether batches of `schema` may be stored: it is known, or it follows from the version before it and
    /// leads to the version after it. The server's `own` ones are as the schemas that they were derived from, which were judged.
    pub(super) fn admit(&self, schema: &Schema, own: bool) -> Result<(), (Code, String)> {
        if own {
            return Ok(());
        }
        if let Some((raw, _)) = Schema::split_derived(schema.name()) {
            let name = schema.name();
            let message = format!(
                "schema name `{name}` has an `@`, which is for what the server itself derives from `{raw}`; choose another name"
            );
            return Err((Code::SchemaReserved, message));
        }
        if self.known.contains(&schema.id()) && !self.only_declared {
            return Ok(());
        }
        if let Err(misfit) = self.declared.check(schema, self.only_declared) {
            let code = match misfit {
                Misfit::UnknownName { .. } => Code::SchemaUndeclared,
                Misfit::UnknownVersion { .. } if self.only_declared => Code::SchemaUndeclared,
                Misfit::UnknownVersion { .. } | Misfit::OtherDefinition { .. } => Code::SchemaConflict,
                Misfit::DoesNotFollow { .. } => Code::SchemaIncompatible,
            };
            return Err((code, misfit.to_string()));
        }
        if self.known.contains(&schema.id()) {
            return Ok(());
        }
        if self.known.len() >= MAX_SCHEMAS {
            return Err((
                Code::Overloaded,
                format!("the log holds {MAX_SCHEMAS} schemas, no more are taken"),
            ));
        }
        let version = schema.version();
        let declared = self.declared.lineage(schema.name()).map(|lineage| lineage.newest().version());
        let Some(versions) = self.versions.get(schema.name()).filter(|_| declared < Some(version)) else {
            return Ok(());
        };
        // How declared versions follow from each other, their file says.
        let undeclared = declared.map_or(0, |newest| newest + 1);
        if let Some(other) = versions.get(&version) {
            let (name, known, new) = (schema.name(), other.id(), schema.id());
            let message = format!(
                "schema `{name}` version {version} is known as {known}, and this definition of it is {new}; \
                 give the changed definition a new version"
            );
            return Err((Code::SchemaConflict, message));
        }
        let older =
            versions.range(undeclared..version).next_back().map(|(_, older)| older.check_evolution(schema));
        let newer = versions.range(version..).next().map(|(_, newer)| schema.check_evolution(newer));
        for check in [older, newer].into_iter().flatten() {
            check.map_err(|e| (Code::SchemaIncompatible, e.to_string()))?;
        }
        Ok(())
    }
}
