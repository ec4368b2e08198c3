//! Splits: a segment whose events belong to several policies becomes one of each.

use std::ops::ControlFlow;
use std::sync::Arc;

use icecore_log::{SealPlan, Sealing};
use icecore_wire::{DeviceName, Schema};

use super::trouble::Trouble;
use super::{Round, Worker};
use crate::plan::{Action, Kind, Plan};
use crate::policy::PolicySet;

impl Worker {
    /// Splits what the plan says; tells whether there are new manifests. What is in object storage only is read there, and what
    /// comes of it is local.
    pub(super) fn split(
        &mut self,
        round: &mut Round<'_>,
        plan: &Plan,
        policies: &PolicySet,
    ) -> Result<bool, Trouble> {
        let before = round.pass.split;
        for action in plan.actions.iter().filter(|action| action.kind == Kind::Split) {
            if !self.patience.may_try(action.segment, round.moment.now) {
                continue;
            }
            let split = self.split_one(round, action, policies);
            self.settle(round, action.segment, "split", split);
        }
        Ok(round.pass.split > before)
    }

    fn split_one(
        &mut self,
        round: &mut Round<'_>,
        action: &Action,
        policies: &PolicySet,
    ) -> Result<(), Trouble> {
        let (bytes, free) = (action.bytes, round.moment.free);
        if bytes > free / 2 {
            return Err(Trouble::NoRoom { bytes, free });
        }
        let labels = round.labels;
        let classify = |schema: &Schema, device: &DeviceName, received: i64| -> Arc<str> {
            let device = device.as_str();
            Arc::from(&*policies.resolve(schema.name(), device, labels(device, received)).name)
        };
        let mut pace = |_| ControlFlow::Continue(());
        let now = round.moment.now;
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &classify, pace: &mut pace, now };
        if let Sealing::Done(_) = self.sealer.split(action.segment, plan)? {
            round.pass.split += 1;
        }
        Ok(())
    }
}
