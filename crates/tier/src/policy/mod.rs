//! Retention policies: what moves when, and what is deleted when, for which devices and schemas.
//!
//! A [`PolicySet`] is read from TOML ([`PolicySet::parse`]; `config/retention.toml` is the commented default). Of its
//! policies the first whose selector matches applies, and the last, which has no selector, is the default:
//!
//! ```
//! use icecore_tier::policy::{Labels, PolicySet};
//!
//! let text = r#"
//!     [[policy]]
//!     name   = "vibration"
//!     match  = { schema = "vibration*", not = { device = "lab-*" } }
//!     delete = { after = "90d", undo = "7d" }
//!
//!     [[policy]]
//!     name   = "default"
//!     delete = "never"
//! "#;
//! let policies = PolicySet::parse("retention.toml", text)?;
//! assert_eq!(policies.resolve("vibration", "pump-7", &Labels::new()).name, "vibration");
//! assert_eq!(policies.resolve("vibration", "lab-7", &Labels::new()).name, "default");
//! # Ok::<(), icecore_tier::policy::PolicyError>(())
//! ```

mod amount;
mod changes;
mod check;
mod document;
mod life;
mod parse;
mod selector;
mod share;
mod windows;

pub use amount::{InvalidPeriod, Period};
pub use changes::{Change, Changes, Comparison};
pub use check::{Check, Known, Matched, Remark};
pub use document::PolicyError;
use icecore_wire::Schema;
pub use selector::{Labels, Selector};

/// Policies a set may have. Each is a child of its own in every sealed file, and they are tried in turn.
pub const MAX_POLICIES: usize = 256;
/// Cold stages, and rollups, a policy may have.
pub const MAX_STAGES: usize = 8;
/// Different stores and classes that the policies of a set may name, all together.
pub const MAX_PLACES: usize = 32;
/// Bytes of a policy file.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// The policies of a server, in the order in which they are tried. Never empty; the last matches everything.
///
/// What is rolled up has a policy of its own for each rollup of a policy, behind those that were written: `vibration@1m` is for the
/// windows of a minute of what `vibration` is for. It is where the raw data is, and for as long as the rollup says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySet {
    policies: Vec<Policy>,
    /// How many of them were written.
    written: usize,
}

/// One retention policy. Ages count from the received time of an event, see [`AgeBy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it is for; `None` in the default policy, which is for everything else.
    pub selector: Option<Selector>,
    /// 0 to 100: while the disk is nearly full, the local data of the least important policies goes first.
    pub importance: u8,
    /// Which time ages count from.
    pub age_by: AgeBy,
    /// Where in object storage the data belongs at which age, ascending by age; the last stage reached holds.
    pub cold: Vec<Cold>,
    /// When local copies go of what is in object storage.
    pub local: Local,
    /// Windows that are kept instead of the raw data, ascending by width.
    pub rollup: Vec<Rollup>,
    /// When the data is deleted; `None` is never.
    pub delete: Option<Delete>,
}

/// Which time the age of an event counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgeBy {
    /// The server's clock at receipt.
    #[default]
    Received,
    /// The device's clock, but never later than receipt. Nothing is deleted within `grace` of its receipt, whatever the
    /// device's clock said.
    Event {
        /// How long everything is kept after its receipt.
        grace: Period,
    },
}

/// A place in object storage, and the age from which the data belongs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cold {
    /// The age.
    pub after: Period,
    /// The name of the store in the server's configuration.
    pub store: String,
    /// The storage class; `None` is the store's usual one.
    pub class: Option<String>,
}

/// When local copies go. Without any of the three, they stay for as long as the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// The age at which they go.
    pub drop_after: Option<Period>,
    /// Bytes of local copies this policy may have; beyond, the oldest go.
    pub max_bytes: Option<u64>,
    /// Bytes that are to stay free on the disk; with less, local copies go, least important policy first and oldest first.
    pub min_free: Option<u64>,
}

/// Windows of statistics that stand in for the raw data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollup {
    /// The width of a window, from [`Rollup::NARROWEST`] to [`Rollup::WIDEST`].
    pub every: Period,
    /// The age at which the windows are deleted; `None` is never.
    pub delete_after: Option<Period>,
    /// Whether the distribution of gauges is kept as well.
    pub quantiles: bool,
}

/// When data is deleted: at an age, beyond a size, or both, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete {
    /// The age at which it is decided.
    pub after: Option<Period>,
    /// Bytes this policy may have, in whichever tier; beyond, the oldest go. What a hold protects does not count.
    pub max_bytes: Option<u64>,
    /// For how long the decision can be taken back; the bytes go after it.
    pub undo: Period,
}

impl Policy {
    /// The importance of a policy that says nothing of it.
    pub const USUAL_IMPORTANCE: u8 = 50;
    /// The undo window of a policy that says nothing of it.
    pub const USUAL_UNDO: Period = Period::days(7);
    /// The grace of a policy that says nothing of it.
    pub const USUAL_GRACE: Period = Period::days(30);

    /// The instant from which ages count, of data with these greatest received and event times. Instants here and below
    /// are nanoseconds since the Unix epoch.
    #[must_use]
    pub fn born(&self, received: i64, event: i64) -> i64 {
        match self.age_by {
            AgeBy::Received => received,
            AgeBy::Event { .. } => event.min(received),
        }
    }

    /// The instant at which the deletion of such data is decided by its age; `None` is never.
    #[must_use]
    pub fn deletion(&self, received: i64, event: i64) -> Option<i64> {
        let due = self.delete?.after?.after(self.born(received, event));
        Some(match self.age_by {
            AgeBy::Received => due,
            AgeBy::Event { grace } => due.max(grace.after(received)),
        })
    }
}

impl PolicySet {
    /// Reads `text`, the content of the file called `name`.
    ///
    /// # Errors
    /// The first mistake, with its line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        parse::policies(name, text).map(Self::of)
    }

    /// The policies, in the order in which they are tried, and then those of what is rolled up.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policies that the text has, in the order in which they are tried.
    #[must_use]
    pub fn written(&self) -> &[Policy] {
        &self.policies[..self.written]
    }

    /// The policy with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// The policy that applies to events of this schema and device, with the labels the device had at receipt.
    #[must_use]
    pub fn resolve(&self, schema: &str, device: &str, labels: &Labels) -> &Policy {
        &self.policies[self.place(schema, device, labels)]
    }

    /// The place of that policy among all.
    fn place(&self, schema: &str, device: &str, labels: &Labels) -> usize {
        let matches = |schema: &str| {
            let matches = |policy: &Policy| match &policy.selector {
                Some(selector) => selector.matches(schema, device, labels),
                None => true,
            };
            self.written().iter().position(matches).expect("the last policy has no selector")
        };
        match Schema::split_derived(schema) {
            Some((raw, every)) => self.place_of_windows(matches(raw), every),
            None => matches(schema),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000_000_000;
    const NOW: i64 = 20_000 * DAY;

    fn deletion(age_by: &str, received: i64, event: i64) -> Option<i64> {
        let text = format!("[[policy]]\nname = \"all\"\ndelete = {{ after = \"90d\" }}\n{age_by}");
        PolicySet::parse("p", &text).unwrap().policies()[0].deletion(received, event)
    }

    #[test]
    fn received_time_is_what_ages_count_from() {
        for event in [0, NOW - 5_000 * DAY, NOW, NOW + 20_000 * DAY] {
            assert_eq!(deletion("", NOW, event), Some(NOW + 90 * DAY));
        }
    }

    #[test]
    fn event_time_neither_wipes_1970_and_2013_nor_pins_2063() {
        let by_event = "age_by = \"event\"\ngrace = \"14d\"\n";
        assert_eq!(
            deletion(by_event, NOW, 0),
            Some(NOW + 14 * DAY),
            "a device without a clock has its grace"
        );
        assert_eq!(deletion(by_event, NOW, NOW - 5_000 * DAY), Some(NOW + 14 * DAY), "and so has a backfill");
        assert_eq!(deletion(by_event, NOW, NOW - 30 * DAY), Some(NOW + 60 * DAY));
        assert_eq!(
            deletion(by_event, NOW, NOW + 20_000 * DAY),
            Some(NOW + 90 * DAY),
            "never later than received"
        );
    }
}
