//! Policies: what is promised to which VMs, journalled like everything that an administrator decides.
//!
//! What a policy says and whom it is for is the pure crate `policy`'s; when its runs start is `schedule`'s.

mod event;
mod points;
mod registry;
mod scope;
mod service;
mod simulate;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_policy::Policy;
use stillwater_types::{Fault, Reason};

use crate::event::Part;

pub use event::PolicyEvent;
pub use registry::Registry;
pub use scope::Scopes;

/// One policy that was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What it says.
    pub policy: Arc<Policy>,
    /// Since when there is one of that name.
    pub since: Timestamp,
    /// Since when it says what it says.
    pub changed_at: Timestamp,
}

/// Every policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    policies: BTreeMap<String, Applied>,
}

impl Policies {
    /// Every policy, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Applied> + '_ {
        self.policies.values()
    }

    /// The policy of that name.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub fn find(&self, name: &str) -> Result<&Applied, Fault> {
        self.policies.get(name).ok_or_else(|| {
            let message = "no policy has that name; `stillwater policy list` shows them";
            Fault::new(Reason::PolicyNotFound, message).with("policy", name)
        })
    }
}

impl Part for Policies {
    type Event = PolicyEvent;

    fn check(&self, _at: Timestamp, event: &PolicyEvent) -> Result<(), Fault> {
        match event {
            PolicyEvent::Applied { .. }
            | PolicyEvent::Expired { .. }
            | PolicyEvent::ExpiryRefused { .. } => Ok(()),
            PolicyEvent::Removed { name } => self.find(name).map(|_| ()),
        }
    }

    fn apply(&mut self, at: Timestamp, event: &PolicyEvent) {
        match event {
            PolicyEvent::Applied { policy } => {
                let before = self.policies.get(&policy.name);
                let applied = Applied {
                    policy: Arc::new(Policy::clone(policy)),
                    since: before.map_or(at, |before| before.since),
                    changed_at: at,
                };
                self.policies.insert(policy.name.clone(), applied);
            }
            PolicyEvent::Removed { name } => {
                self.policies.remove(name);
            }
            // For whoever reads the journal: the repositories know what exists.
            PolicyEvent::Expired { .. } | PolicyEvent::ExpiryRefused { .. } => {}
        }
    }
}
