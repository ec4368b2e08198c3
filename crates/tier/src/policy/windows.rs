//! The policies of what is rolled up.

use super::{AgeBy, Delete, Local, Period, Policy, PolicySet, Rollup};

impl Rollup {
    /// The narrowest windows.
    pub const NARROWEST: Period = Period::seconds(1);
    /// The widest windows.
    pub const WIDEST: Period = Period::days(1);

    /// The policy of these windows of what `raw` is for.
    fn policy(&self, raw: &Policy) -> Policy {
        let undo = raw.delete.map_or(Policy::USUAL_UNDO, |delete| delete.undo);
        let delete = self.delete_after.map(|after| Delete { after: Some(after), max_bytes: None, undo });
        let is_reached = |after: Period| self.delete_after.is_none_or(|deleted| after < deleted);
        let cold: Vec<_> = raw.cold.iter().filter(|stage| is_reached(stage.after)).cloned().collect();
        Policy {
            name: format!("{}@{}", raw.name, self.every),
            selector: None,
            importance: raw.importance,
            // A window is made at the earliest when the first of its events was received, and deleted long after.
            age_by: AgeBy::Received,
            // Without a copy elsewhere the local one is the only one.
            local: if cold.is_empty() { Local::default() } else { raw.local },
            cold,
            rollup: Vec::new(),
            delete,
        }
    }
}

impl Policy {
    /// Of the policy of what is rolled up, the name of that of the raw data, and the width of the windows. Names that are written
    /// have no `@`.
    #[must_use]
    pub fn windows(&self) -> Option<(&str, &str)> {
        self.name.split_once('@')
    }

    /// For how long it keeps what it is for, whatever its size.
    fn keeps(&self) -> Period {
        self.delete.and_then(|delete| delete.after).unwrap_or(Period::LONGEST)
    }
}

impl PolicySet {
    /// The set with these policies.
    pub(super) fn of(mut policies: Vec<Policy>) -> Self {
        let written = policies.len();
        let windows = |policy: &Policy| {
            let policies = policy.rollup.iter().map(|rollup| rollup.policy(policy));
            policies.collect::<Vec<_>>()
        };
        let windows: Vec<Policy> = policies.iter().flat_map(windows).collect();
        policies.extend(windows);
        Self { policies, written }
    }

    /// The place of the policy for windows this wide of what the policy at `raw` is for. Where that has no such rollup any more, it is
    /// the one of its own that keeps longest: what was promised when there was one is not known here.
    pub(super) fn place_of_windows(&self, raw: usize, every: &str) -> usize {
        let before: usize = self.policies[..raw].iter().map(|policy| policy.rollup.len()).sum();
        let first = self.written + before;
        let own = first..first + self.policies[raw].rollup.len();
        let is_it = |place: &usize| self.policies[*place].windows().is_some_and(|(_, width)| width == every);
        let longest = || own.clone().chain([raw]).max_by_key(|place| self.policies[*place].keeps());
        own.clone().find(is_it).or_else(longest).unwrap_or(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Labels;
    use super::*;

    const TEXT: &str = r#"
        [[policy]]
        name = "first"
        match = { schema = "a*" }
        rollup = [{ every = "60s", delete_after = "2d" }, { every = "1h", delete_after = "never", quantiles = true }]
        cold = [{ after = "6h", store = "s" }]
        local = { drop_after = "12h" }
        delete = { after = "1d", undo = "2h" }

        [[policy]]
        name = "vibration"
        match = { schema = "vib*", labels = { site = "oslo" } }
        cold = [{ after = "6h", store = "s" }, { after = "90d", store = "s", class = "COLD" }]
        rollup = [{ every = "1m", delete_after = "90d" }]
        delete = "never"

        [[policy]]
        name = "default"
        delete = { max_bytes = "1MB" }
    "#;

    #[test]
    fn windows_have_a_policy_of_their_own_where_the_raw_data_is() {
        let policies = PolicySet::parse("p", TEXT).unwrap();
        assert_eq!(policies.written().len(), 3);
        let oslo = Labels::from([("site".to_owned(), "oslo".to_owned())]);
        let name = |schema: &str, labels: &Labels| policies.resolve(schema, "d", labels).name.clone();
        assert_eq!(name("ab@1m", &oslo), "first@1m");
        assert_eq!(name("ab@1h", &oslo), "first@1h");
        assert_eq!(name("vib@1m", &oslo), "vibration@1m");
        // A rollup that is not there any more: what keeps longest.
        assert_eq!(name("ab@1d", &oslo), "first@1h");
        assert_eq!(name("vib@1h", &oslo), "vibration");
        assert_eq!(name("vib@1m", &Labels::new()), "default");
        let minutes = policies.get("first@1m").unwrap();
        let delete = minutes.delete.unwrap();
        assert_eq!((delete.after, delete.undo), (Some(Period::days(2)), Period::hours(2)));
        assert_eq!((minutes.cold.len(), minutes.local.drop_after), (1, Some(Period::hours(12))));
        assert_eq!(policies.get("first@1h").unwrap().delete, None);
        // Ages that the windows do not reach are none of theirs.
        assert_eq!(policies.get("vibration@1m").unwrap().cold.len(), 1);
    }
}
