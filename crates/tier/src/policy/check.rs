//! What a policy set makes of the devices and data there are.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use icecore_wire::Glob;

use crate::figures::{count, counted, size};

use super::document::nearest;
use super::{Labels, Period, Policy, PolicySet, Selector};

/// Events of one device and schema that a server has.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The schema's name.
    pub schema: &'a str,
    /// The device's name.
    pub device: &'a str,
    /// The device's labels.
    pub labels: &'a Labels,
    /// How many events.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What each policy of a set applies to, and what is odd about the set. Prints itself for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// For each policy, in the order of the set.
    pub matched: Vec<Matched>,
    /// What the operator may not have meant.
    pub remarks: Vec<Remark>,
}

/// What one policy applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The policy.
    pub policy: String,
    /// Its selector in words.
    pub selects: String,
    /// What it does with the data, in words.
    pub life: String,
    /// Devices with events this policy applies to.
    pub devices: u64,
    /// Those events.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something about a policy that was perhaps not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The policy can apply to nothing, ever: an earlier one selects all of the same.
    Shadowed {
        /// The policy.
        policy: String,
        /// The earlier one.
        by: String,
    },
    /// All that the policy selects goes to earlier ones today, of which this is the first.
    Preceded {
        /// The policy.
        policy: String,
        /// The earlier one.
        by: String,
    },
    /// Nothing there is today is selected by the policy.
    MatchesNothing {
        /// The policy.
        policy: String,
    },
    /// A cold stage comes at the age at which the data is deleted, so it is never used.
    NeverCold {
        /// The policy.
        policy: String,
        /// The age.
        after: Period,
    },
    /// No device has a label with this key.
    UnknownLabel {
        /// The policy.
        policy: String,
        /// The key.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// No schema has such a name.
    UnknownSchema {
        /// The policy.
        policy: String,
        /// The glob.
        glob: String,
        /// What may have been meant.
        hint: String,
    },
    /// The server's configuration has no store of this name.
    UnknownStore {
        /// The policy.
        policy: String,
        /// The store.
        store: String,
        /// What may have been meant.
        hint: String,
    },
}

impl PolicySet {
    /// What the policies apply to among the events `known`, each device and schema at most once, and what is odd about them.
    /// `stores` are the names of the stores in the server's configuration.
    #[must_use]
    pub fn check(&self, stores: &[&str], known: &[Known<'_>]) -> Check {
        let mut devices = vec![HashSet::new(); self.policies.len()];
        let mut amounts = vec![(0, 0); self.policies.len()];
        for known in known {
            let place = self.place(known.schema, known.device, known.labels);
            devices[place].insert(known.device);
            amounts[place].0 += known.rows;
            amounts[place].1 += known.bytes;
        }
        let matched = self.policies.iter().zip(&devices).zip(amounts);
        let matched = matched.map(|((policy, devices), (rows, bytes))| Matched {
            policy: policy.name.clone(),
            selects: match (&policy.selector, policy.windows()) {
                (_, Some((raw, every))) => format!("windows of {every} of what {raw} is for"),
                (Some(selector), None) => selector.to_string(),
                (None, None) => "everything else".to_owned(),
            },
            life: policy.life(),
            devices: devices.len() as u64,
            rows,
            bytes,
        });
        let names = Names::of(known);
        let mut remarks = Vec::new();
        for (place, policy) in self.policies.iter().enumerate() {
            let Some(selector) = &policy.selector else { continue };
            remarks.extend(self.reach(place, selector, devices[place].is_empty(), known));
            remarks.extend(names.unknown(policy, selector));
        }
        for policy in self.written() {
            let deleted = policy.delete.and_then(|delete| delete.after);
            if let Some(stage) = policy.cold.iter().find(|stage| Some(stage.after) == deleted) {
                remarks.push(Remark::NeverCold { policy: policy.name.clone(), after: stage.after });
            }
            let stores_named: BTreeSet<&str> = policy.cold.iter().map(|stage| stage.store.as_str()).collect();
            for store in stores_named.into_iter().filter(|store| !stores.contains(store)) {
                let hint = if stores.is_empty() {
                    "; none are configured".to_owned()
                } else {
                    nearest(store, stores)
                };
                remarks.push(Remark::UnknownStore {
                    policy: policy.name.clone(),
                    store: store.to_owned(),
                    hint,
                });
            }
        }
        Check { matched: matched.collect(), remarks }
    }

    /// What is to be said of the policy at `place` if it applies to nothing.
    fn reach(&self, place: usize, selector: &Selector, idle: bool, known: &[Known<'_>]) -> Option<Remark> {
        let policy = self.policies[place].name.clone();
        let before = self.policies[..place].iter();
        let mut covers =
            before.filter(|other| other.selector.as_ref().is_some_and(|other| other.covers(selector)));
        if let Some(by) = covers.next() {
            return Some(Remark::Shadowed { policy, by: by.name.clone() });
        }
        if !idle {
            return None;
        }
        let selected = known.iter().find(|known| selector.matches(known.schema, known.device, known.labels));
        Some(match selected {
            Some(known) => {
                let by = self.resolve(known.schema, known.device, known.labels).name.clone();
                Remark::Preceded { policy, by }
            }
            None => Remark::MatchesNothing { policy },
        })
    }
}

/// The names that exist.
struct Names<'a> {
    schemas: BTreeSet<&'a str>,
    keys: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(known: &[Known<'a>]) -> Self {
        Self {
            schemas: known.iter().map(|known| known.schema).collect(),
            keys: known.iter().flat_map(|known| known.labels.keys()).map(String::as_str).collect(),
        }
    }

    /// The names in a selector that nothing has. Says nothing where nothing exists at all.
    fn unknown(&self, policy: &Policy, selector: &Selector) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if self.schemas.is_empty() {
            return remarks;
        }
        let hint = |word: &str, names: &BTreeSet<&str>| match names.is_empty() {
            true => String::new(),
            // The list of all names could be long; a dozen of them give the idea.
            false => nearest(word, &names.iter().copied().take(12).collect::<Vec<_>>()),
        };
        for part in selector.parts() {
            for key in part.labels.keys().filter(|key| !self.keys.contains(key.as_str())) {
                let (policy, hint) = (policy.name.clone(), hint(key, &self.keys));
                remarks.push(Remark::UnknownLabel { policy, key: key.clone(), hint });
            }
            let exists = |glob: &&Glob| !self.schemas.iter().any(|schema| glob.matches(schema));
            for glob in part.schemas.iter().filter(exists) {
                let hint = hint(glob.as_str().trim_matches('*'), &self.schemas);
                let (policy, glob) = (policy.name.clone(), glob.to_string());
                remarks.push(Remark::UnknownSchema { policy, glob, hint });
            }
        }
        remarks
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for matched in &self.matched {
            let Matched { policy, selects, life, devices, rows, bytes } = matched;
            let devices = counted(*devices, "device");
            writeln!(f, "{policy}: {devices}, {}, {}", counted(*rows, "event"), size(*bytes))?;
            writeln!(f, "  for {selects}; {life}")?;
        }
        if !self.remarks.is_empty() {
            writeln!(f, "\n{} to look at:", count(self.remarks.len() as u64))?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(f, "  {remark}"))
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadowed { policy, by } => {
                write!(f, "{policy} never applies: {by}, before it, selects all that it selects")
            }
            Self::Preceded { policy, by } => {
                write!(
                    f,
                    "{policy} applies to nothing: all that it selects today goes to policies before it, such as {by}"
                )
            }
            Self::MatchesNothing { policy } => write!(f, "{policy} applies to nothing there is today"),
            Self::NeverCold { policy, after } => {
                write!(
                    f,
                    "{policy}: the cold stage at {after} is never used: the data is deleted at the same age"
                )
            }
            Self::UnknownLabel { policy, key, hint } => {
                write!(f, "{policy}: no device has a label {key}{hint}")
            }
            Self::UnknownSchema { policy, glob, hint } => {
                write!(f, "{policy}: no schema is called {glob}{hint}")
            }
            Self::UnknownStore { policy, store, hint } => {
                write!(
                    f,
                    "{policy}: no store is called {store}{hint}; add [store.{store}] to the server's configuration"
                )
            }
        }
    }
}
