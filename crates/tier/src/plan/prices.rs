//! What object storage costs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The price table of a store, in whichever currency. Everything is free that it does not name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// Of the store's usual class, and of classes that have no prices of their own.
    pub usual: Rates,
    /// Of its other classes, by name.
    pub class: BTreeMap<String, Rates>,
}

/// The prices of a storage class. A GB is 2³⁰ bytes here, as on the bills of the large providers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// A GB for a month of 730 hours.
    pub gb_month: f64,
    /// A thousand requests that write: objects, and parts of large ones.
    pub put_1000: f64,
    /// A thousand requests that read.
    pub get_1000: f64,
    /// A thousand requests that list.
    pub list_1000: f64,
    /// A thousand requests that delete.
    pub delete_1000: f64,
    /// A GB that is read.
    pub retrieval_gb: f64,
    /// Days that an object costs at least; who deletes it sooner pays for the rest.
    pub min_days: u32,
}

impl Prices {
    /// The list prices of S3 in us-east-1, without traffic, as of 2025; for a plan before anybody wrote prices down.
    #[must_use]
    pub fn of_s3() -> Self {
        let rates = |gb_month, put_1000, get_1000, retrieval_gb, min_days| Rates {
            gb_month,
            put_1000,
            get_1000,
            list_1000: 0.005,
            delete_1000: 0.0,
            retrieval_gb,
            min_days,
        };
        let classes = [
            ("STANDARD", rates(0.023, 0.005, 0.000_4, 0.0, 0)),
            ("STANDARD_IA", rates(0.012_5, 0.01, 0.001, 0.01, 30)),
            ("ONEZONE_IA", rates(0.01, 0.01, 0.001, 0.01, 30)),
            ("GLACIER_IR", rates(0.004, 0.02, 0.01, 0.03, 90)),
            ("GLACIER", rates(0.003_6, 0.03, 0.000_4, 0.01, 90)),
            ("DEEP_ARCHIVE", rates(0.000_99, 0.05, 0.000_4, 0.02, 180)),
        ];
        Self {
            usual: classes[0].1,
            class: classes.into_iter().map(|(name, rates)| (name.to_owned(), rates)).collect(),
        }
    }

    /// The prices of a class; `None` is the store's usual one.
    #[must_use]
    pub fn rates(&self, class: Option<&str>) -> Rates {
        class.and_then(|class| self.class.get(class)).copied().unwrap_or(self.usual)
    }
}

impl Rates {
    /// So many bytes for so many hours.
    pub(super) fn storage(&self, bytes: u64, hours: f64) -> f64 {
        gb(bytes) * self.gb_month * hours / 730.0
    }

    /// So many bytes read.
    pub(super) fn retrieval(&self, bytes: u64) -> f64 {
        gb(bytes) * self.retrieval_gb
    }

    /// What is left to pay for an object of so many bytes that was kept for so many days.
    pub(super) fn early(&self, bytes: u64, days: i32) -> f64 {
        let missing = f64::from(self.min_days) - f64::from(days.max(0));
        self.storage(bytes, missing.max(0.0) * 24.0)
    }
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_with_what_it_names() {
        let text = "usual = { gb_month = 0.02 }\nclass.COLD = { gb_month = 0.001, min_days = 90 }\n";
        let prices: Prices = toml::from_str(text).unwrap();
        assert_eq!(prices.rates(Some("COLD")).min_days, 90);
        assert_eq!(prices.rates(Some("WARM")), prices.usual);
        assert_eq!(prices.rates(None), Rates { gb_month: 0.02, ..Rates::default() });
        assert!(toml::from_str::<Prices>("usual = { gb = 1 }").is_err());
    }

    #[test]
    fn what_is_deleted_early_costs_the_rest() {
        let cold = Rates { gb_month: 0.73, min_days: 90, ..Rates::default() };
        let gb = 1 << 30;
        assert!((cold.storage(gb, 730.0) - 0.73).abs() < 1e-12);
        assert!((cold.early(gb, 60) - 0.72).abs() < 1e-12, "30 days of 24 hours");
        assert!(cold.early(gb, 90).abs() < 1e-12 && cold.early(gb, 1_000).abs() < 1e-12);
    }
}
