//! Into which retention class an event is sealed: the name of the policy that applies to it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use icecore_ingest::{LabelHistory, Labels, Registry, RegistryError};
use icecore_tier::policy::{PolicySet, Rollup};

/// The policies that apply, and the labels of devices: both change while the server runs.
pub(super) struct Classes {
    policies: RwLock<Arc<PolicySet>>,
    registry: Arc<Registry>,
}

/// The same, as they were at one moment.
pub(super) struct ClassOf {
    policies: Arc<PolicySet>,
    labels: LabelHistory,
    /// By name of the policy.
    names: HashMap<String, Arc<str>>,
    unlabelled: Labels,
}

impl Classes {
    pub(super) fn new(policies: PolicySet, registry: Arc<Registry>) -> Self {
        Self { policies: RwLock::new(Arc::new(policies)), registry }
    }

    /// From now on, these policies apply.
    pub(super) fn apply(&self, policies: PolicySet) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
    }

    /// The classes as they are now.
    ///
    /// # Errors
    /// When the registry cannot be read: then nobody knows the labels of devices.
    pub(super) fn now(&self) -> Result<ClassOf, RegistryError> {
        // Labels change without a handshake.
        self.registry.refresh()?;
        let policies = Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner));
        let names =
            policies.policies().iter().map(|policy| (policy.name.clone(), policy.name.as_str().into()));
        Ok(ClassOf {
            names: names.collect(),
            labels: self.registry.labels(),
            unlabelled: Labels::new(),
            policies,
        })
    }
}

impl ClassOf {
    /// Whether any policy wants anything rolled up.
    pub(super) fn rolls_up(&self) -> bool {
        self.policies.written().iter().any(|policy| !policy.rollup.is_empty())
    }

    /// How what `device` sent as `schema` and the server received at `received` is rolled up.
    pub(super) fn rollups(&self, schema: &str, device: &str, received: i64) -> &[Rollup] {
        &self.policies.resolve(schema, device, self.labels_at(device, received)).rollup
    }

    fn labels_at(&self, device: &str, received: i64) -> &Labels {
        self.labels.at(device, received).unwrap_or(&self.unlabelled)
    }

    /// The class of what `device` sent as `schema` and the server received at `received`, in nanoseconds since the Unix
    /// epoch: the labels of then decide.
    pub(super) fn class(&self, schema: &str, device: &str, received: i64) -> Arc<str> {
        let labels = self.labels_at(device, received);
        Arc::clone(&self.names[&self.policies.resolve(schema, device, labels).name])
    }
}
