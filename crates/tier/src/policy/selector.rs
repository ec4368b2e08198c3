//! Which events a policy is for.

use std::collections::BTreeMap;
use std::fmt;

use icecore_wire::Glob;

/// Labels of a device: keys and values.
pub type Labels = BTreeMap<String, String>;

/// What a policy is for: events whose schema, device and labels all match, and which `not` does not match. A part that
/// is not there matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Names of schemas, one of which must match; empty is any.
    pub schemas: Vec<Glob>,
    /// Names of devices, one of which must match; empty is any.
    pub devices: Vec<Glob>,
    /// For each of these keys the device must have a label, and one of the globs must match its value.
    pub labels: BTreeMap<String, Vec<Glob>>,
    /// What is left out: events that match all of its parts.
    pub not: Option<Box<Selector>>,
}

impl Selector {
    /// Whether events of this schema and device, with these labels at receipt, are selected.
    #[must_use]
    pub fn matches(&self, schema: &str, device: &str, labels: &Labels) -> bool {
        let any =
            |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        let label =
            |(key, globs): (&String, &Vec<Glob>)| labels.get(key).is_some_and(|value| any(globs, value));
        any(&self.schemas, schema)
            && any(&self.devices, device)
            && self.labels.iter().all(label)
            && !self.not.as_ref().is_some_and(|not| not.matches(schema, device, labels))
    }

    /// Whether everything that `other` selects is selected by this one too, as far as the texts show it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let label = |(key, wide): (&String, &Vec<Glob>)| {
            other.labels.get(key).is_some_and(|narrow| any_covers(wide, narrow))
        };
        let leaves_no_more_out = match (&self.not, &other.not) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(this), Some(other)) => other.covers(this),
        };
        any_covers(&self.schemas, &other.schemas)
            && any_covers(&self.devices, &other.devices)
            && self.labels.iter().all(label)
            && leaves_no_more_out
    }

    /// This selector and the one in its `not`.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.not.as_deref())
    }
}

/// Whether each of `narrow` is covered by one of `wide`, where none at all is any name.
fn any_covers(wide: &[Glob], narrow: &[Glob]) -> bool {
    let covered = |glob: &Glob| wide.iter().any(|wide| wide.covers(glob));
    wide.is_empty() || if narrow.is_empty() { covered(&Glob::any()) } else { narrow.iter().all(covered) }
}

/// Says it in words: `schema vibration*, label site oslo or bergen, but not device lab-*`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |globs: &[Glob]| globs.iter().map(Glob::as_str).collect::<Vec<_>>().join(" or ");
        let mut parts = Vec::new();
        if !self.schemas.is_empty() {
            parts.push(format!("schema {}", list(&self.schemas)));
        }
        if !self.devices.is_empty() {
            parts.push(format!("device {}", list(&self.devices)));
        }
        parts.extend(self.labels.iter().map(|(key, globs)| format!("label {key} {}", list(globs))));
        f.write_str(&if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") })?;
        match &self.not {
            Some(not) => write!(f, ", but not {not}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn globs() -> impl Strategy<Value = Vec<Glob>> {
        vec("[ab?*]{1,3}".prop_map(|text| Glob::new(&text)), 0..3)
    }

    fn flat() -> impl Strategy<Value = Selector> {
        let labels = btree_map("[xy]", globs().prop_filter("never empty", |globs| !globs.is_empty()), 0..2);
        let make = |(schemas, devices, labels)| Selector { schemas, devices, labels, not: None };
        (globs(), globs(), labels).prop_map(make)
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let with =
            |(selector, not): (Selector, Option<Selector>)| Selector { not: not.map(Box::new), ..selector };
        (flat(), proptest::option::of(flat())).prop_map(with)
    }

    proptest! {
        #[test]
        fn what_covers_a_selector_selects_all_of_it(
            wide in selector(), narrow in selector(),
            schema in "[ab]{0,3}", device in "[ab]{0,3}", labels in btree_map("[xy]", "[ab]{0,3}", 0..2),
        ) {
            let both = Selector { not: narrow.not.clone(), ..wide.clone() };
            for wide in [wide, both] {
                if wide.covers(&narrow) && narrow.matches(&schema, &device, &labels) {
                    prop_assert!(wide.matches(&schema, &device, &labels), "{wide} / {narrow}");
                }
            }
        }

        #[test]
        fn a_selector_covers_itself(selector in selector()) {
            // But for what the texts of globs do not show: a `?` takes no `*`.
            prop_assert!(selector.covers(&selector));
        }
    }
}
