//! A policy in words.

use crate::figures::size;

use super::{AgeBy, Delete, Local, Policy};

impl Policy {
    /// What it does with its data, in the order of a life: `in archive from 6h; local until 2d; deleted after 90d, undo for
    /// 7d`.
    pub(super) fn life(&self) -> String {
        let mut parts = Vec::new();
        let stage = |stage: &super::Cold| {
            let class = stage.class.as_ref().map(|class| format!(" as {class}")).unwrap_or_default();
            format!("in {}{class} from {}", stage.store, stage.after)
        };
        parts.extend(self.cold.iter().map(stage));
        parts.extend(self.local.life());
        for rollup in &self.rollup {
            let kept = rollup.delete_after.map_or("ever".to_owned(), |after| after.to_string());
            parts.push(format!("windows of {} for {kept}", rollup.every));
        }
        parts.push(self.delete.map_or("kept for ever".to_owned(), Delete::life));
        if let AgeBy::Event { grace } = self.age_by {
            parts.push(format!("by event time, but {grace} at least"));
        }
        parts.join("; ")
    }
}

impl Local {
    fn life(self) -> Option<String> {
        let until = self.drop_after.map(|after| after.to_string());
        let beyond = self.max_bytes.map(|bytes| format!("beyond {}", size(bytes)));
        let full = self.min_free.map(|bytes| format!("less than {} free", size(bytes)));
        let ends: Vec<String> = [until, beyond, full].into_iter().flatten().collect();
        (!ends.is_empty()).then(|| format!("local until {}", ends.join(" or ")))
    }
}

impl Delete {
    fn life(self) -> String {
        let after = self.after.map(|after| format!("after {after}"));
        let beyond = self.max_bytes.map(|bytes| format!("beyond {}", size(bytes)));
        let when: Vec<String> = [after, beyond].into_iter().flatten().collect();
        format!("deleted {}, undo for {}", when.join(" or "), self.undo)
    }
}
