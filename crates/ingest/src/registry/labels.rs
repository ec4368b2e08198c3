//! What operators wrote beside the names of devices, and when.

use std::collections::BTreeMap;

/// The labels of one name: `site` = `oslo`.
pub type Labels = BTreeMap<String, String>;

/// Every set of labels that a name ever had, so that data can be judged by those it had at receipt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelHistory(BTreeMap<String, Vec<(i64, Labels)>>);

impl LabelHistory {
    /// From `time` on (nanoseconds since the Unix epoch), `name` has `labels`.
    pub(super) fn set(&mut self, name: &str, time: i64, labels: &Labels) {
        let history = self.0.entry(name.to_owned()).or_default();
        if history.last().is_none_or(|(_, last)| last != labels) {
            history.push((time, labels.clone()));
        }
    }

    /// The labels that `name` had at `time` (nanoseconds since the Unix epoch); `None` = no labels yet.
    #[must_use]
    pub fn at(&self, name: &str, time: i64) -> Option<&Labels> {
        // In the order of the file: where the clock stepped back, what was written later holds.
        let history = self.0.get(name)?;
        history.iter().rev().find(|(since, _)| *since <= time).map(|(_, labels)| labels)
    }

    /// The labels that `name` has now; `None` = it never had any.
    #[must_use]
    pub fn now(&self, name: &str) -> Option<&Labels> {
        self.0.get(name)?.last().map(|(_, labels)| labels)
    }

    /// Every name that ever had labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Labels {
        Labels::from([("site".to_owned(), name.to_owned())])
    }

    #[test]
    fn data_is_judged_by_the_labels_at_receipt() {
        let mut history = LabelHistory::default();
        history.set("pump", 100, &site("oslo"));
        history.set("pump", 200, &site("bergen"));
        assert_eq!(history.at("pump", 99), None);
        assert_eq!(history.at("pump", 100), Some(&site("oslo")));
        assert_eq!(history.at("pump", 199), Some(&site("oslo")));
        assert_eq!(history.at("pump", 200), Some(&site("bergen")));
        assert_eq!(history.now("pump"), Some(&site("bergen")));
        assert_eq!(history.now("valve"), None);
    }

    #[test]
    fn what_was_written_last_holds_where_the_clock_stepped_back() {
        let mut history = LabelHistory::default();
        history.set("pump", 200, &site("oslo"));
        history.set("pump", 100, &site("bergen"));
        assert_eq!(history.at("pump", 300), Some(&site("bergen")));
    }
}
