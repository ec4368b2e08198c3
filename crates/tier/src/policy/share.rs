//! Which part of a segment belongs to which policy.

use crate::segment::{Content, Share};

use super::{Labels, Policy, PolicySet};

impl PolicySet {
    /// The shares of a segment of `bytes` with these contents: the largest first, then in the order of the policies. Bytes
    /// are in proportion to the events and add up to `bytes`. `labels` tells those of the device at receipt.
    #[must_use]
    pub fn shares<'a>(
        &self,
        bytes: u64,
        contents: &[Content],
        labels: impl Fn(&Content) -> &'a Labels,
    ) -> Vec<Share> {
        let mut rows = vec![0_u64; self.policies.len()];
        for content in contents {
            rows[self.place(&content.schema, &content.device, labels(content))] += content.rows;
        }
        let total: u64 = rows.iter().sum();
        let part = |rows: u64| part(bytes, rows, total);
        let shared = self.policies.iter().zip(rows).filter(|(_, rows)| *rows > 0);
        let share =
            |(policy, rows): (&Policy, u64)| Share { policy: policy.name.clone(), rows, bytes: part(rows) };
        let mut shares: Vec<Share> = shared.map(share).collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.rows)); // stable
        let left = bytes - shares.iter().map(|share| share.bytes).sum::<u64>();
        if let Some(first) = shares.first_mut() {
            first.bytes += left;
        }
        shares
    }
}

/// The part of `bytes` that `rows` of `all` rows have, rounded down.
pub(super) fn part(bytes: u64, rows: u64, all: u64) -> u64 {
    (u128::from(bytes) * u128::from(rows) / u128::from(all.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use crate::segment::Span;

    use super::*;

    #[test]
    fn shares_add_up() {
        let text = "[[policy]]\nname = \"a\"\nmatch = { schema = \"a\" }\ndelete = \"never\"\n\
                    [[policy]]\nname = \"rest\"\ndelete = \"never\"\n";
        let policies = PolicySet::parse("p", text).unwrap();
        let labels = Labels::new();
        let content = |schema: &str| Content {
            schema: schema.to_owned(),
            device: "d".to_owned(),
            received: Span { first: 0, last: 0 },
            rows: 1,
        };
        let contents = ["a", "b", "c"].map(content);
        let shares = policies.shares(100, &contents, |_| &labels);
        let shares: Vec<_> =
            shares.into_iter().map(|share| (share.policy, share.rows, share.bytes)).collect();
        assert_eq!(shares, [("rest".to_owned(), 2, 67), ("a".to_owned(), 1, 33)]);
        assert_eq!(policies.shares(100, &[], |_| &labels), []);
    }
}
