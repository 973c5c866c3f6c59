//! Which policies there are: apply, list, show, remove.

use std::collections::HashSet;

use stillwater_controller_api as api;
use stillwater_policy::{Change, Effect, Policy, diff, moves};
use stillwater_types::{Fault, Reason, Role};

use super::scope::{Look, Scopes, Seen};
use super::{Applied, PolicyEvent};
use crate::event::Actor;
use crate::memory::Memory;
use crate::retention::Expirer;

/// Applies and removes policies.
pub struct Registry {
    pub(super) memory: Memory,
    scopes: Scopes,
    pub(super) expirer: Expirer,
}

impl Registry {
    /// Keeps policies in `memory`; `scopes` knows whom they are for, `expirer` what becomes of their points.
    pub fn new(memory: Memory, scopes: Scopes, expirer: Expirer) -> Self {
        Self {
            memory,
            scopes,
            expirer,
        }
    }

    /// Applies a policy file, or only tells what that would change.
    ///
    /// # Errors
    /// `BAD_FIELD` with every key that cannot stand, `NO_REPOSITORY`, those of the vCenters.
    pub async fn apply(
        &self,
        by: Actor,
        request: api::ApplyPolicyRequest,
    ) -> Result<api::ApplyPolicyResponse, Fault> {
        let policy = parse(&request.file)?;
        refuse_unkept(&policy)?;
        let state = self.memory.state();
        let before = state.policies.find(&policy.name).ok();
        let before = before.map(|applied| applied.policy.as_ref());
        let is_there = state.nodes.iter().any(|node| {
            node.role == Role::Repository
                && node.removed_at.is_none()
                && node.name == policy.store.repository
        });
        if !is_there {
            let message = "no repository has the name in store.repository; `stillwater repository list` shows them";
            return Err(Fault::new(Reason::NoRepository, message)
                .with("repository", &policy.store.repository));
        }
        let look = self
            .scopes
            .look(before.into_iter().chain([&policy]))
            .await?;
        let changes = diff(before, &policy);
        let moved = moves(before, Some(&policy), &look.facts());
        let told = api::ApplyPolicyResponse {
            name: policy.name.clone(),
            is_new: before.is_none(),
            changes: changes.iter().map(change).collect(),
            enter: look.names(&moved.enter),
            leave: look.names(&moved.leave),
        };
        if !request.dry_run && !changes.is_empty() {
            let name = policy.name.clone();
            let policy = Box::new(policy);
            let event = PolicyEvent::Applied { policy };
            self.memory.append(by, event).await?;
            tracing::info!(policy = name, %by, "policy applied");
        }
        Ok(told)
    }

    /// Every policy.
    ///
    /// # Errors
    /// `BUG` when one cannot be written as a file: a list that lacks it would say that nothing is promised.
    pub fn list(&self) -> Result<Vec<api::Policy>, Fault> {
        self.memory.state().policies.iter().map(describe).collect()
    }

    /// One policy.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub fn show(&self, name: &str) -> Result<api::Policy, Fault> {
        describe(self.memory.state().policies.find(name)?)
    }

    /// Removes a policy. Points that it made stay.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`.
    pub async fn remove(&self, by: Actor, name: String) -> Result<(), Fault> {
        let event = PolicyEvent::Removed { name: name.clone() };
        self.memory.append(by, event).await?;
        tracing::info!(policy = name, %by, "policy removed");
        Ok(())
    }

    /// Which VMs a policy is for, and why.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`, those of the vCenters.
    pub async fn members(&self, name: &str) -> Result<Vec<api::PolicyMember>, Fault> {
        let state = self.memory.state();
        let policy = &state.policies.find(name)?.policy;
        let look = self.scopes.look([&**policy]).await?;
        Ok(look.vms.iter().map(|seen| member(policy, seen)).collect())
    }
}

/// Reads a policy file.
pub(super) fn parse(file: &str) -> Result<Policy, Fault> {
    Policy::parse(file).map_err(|error| Fault::new(Reason::BadField, error.to_string()))
}

/// What nobody keeps yet is refused: whoever wrote it would believe in it.
fn refuse_unkept(policy: &Policy) -> Result<(), Fault> {
    let unkept = [
        ("store.copies", !policy.store.copies.is_empty()),
        ("limits.bandwidth", policy.limits.bandwidth.is_some()),
    ];
    let keys = unkept.into_iter().filter(|(_, is_asked)| *is_asked);
    let keys: Vec<&str> = keys.map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let message = format!(
        "this release does not keep what these keys promise yet: {}; leave them out",
        keys.join(", ")
    );
    Err(Fault::new(Reason::NotSupported, message))
}

/// One vCenter that does not answer fails the question: who is in scope there is not known.
impl Look {
    fn names(&self, vms: &[stillwater_types::VmId]) -> Vec<String> {
        let vms: HashSet<&stillwater_types::VmId> = vms.iter().collect();
        let all = self.vms.iter().filter(|seen| vms.contains(&seen.facts.vm));
        all.map(|seen| seen.path.clone()).collect()
    }
}

fn member(policy: &Policy, seen: &Seen) -> api::PolicyMember {
    let verdict = policy.scope.verdict(&seen.facts);
    api::PolicyMember {
        vm_id: seen.facts.vm.clone(),
        path: seen.path.clone(),
        is_in: verdict.is_in(),
        why: super::scope::why(&verdict),
    }
}

fn describe(applied: &Applied) -> Result<api::Policy, Fault> {
    let Applied {
        policy,
        since,
        changed_at,
    } = applied;
    Ok(api::Policy {
        name: policy.name.clone(),
        promise: policy.schedule.when.to_string(),
        repository: policy.store.repository.clone(),
        priority: u32::from(policy.priority),
        since: *since,
        changed_at: *changed_at,
        file: policy
            .print()
            .map_err(|error| Fault::new(Reason::Bug, error.to_string()))?,
    })
}

fn change(change: &Change) -> api::PolicyChange {
    api::PolicyChange {
        key: change.key.as_str().to_owned(),
        before: change.before.clone(),
        after: change.after.clone(),
        is_weaker: change.effect == Effect::Weaker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scope: &str, more: &str, key: Option<&str>) {
        let text = format!(
            "name = 'gold'\n[[scope.include]]\n{scope}\n[schedule]\nrpo = '1h'\n[store]\nrepository = 'main'\n{more}"
        );
        let policy = Policy::parse(&text).expect("is a policy");
        let refused = refuse_unkept(&policy).err().map(|fault| fault.message);
        match key {
            Some(key) => assert!(refused.expect(key).contains(key), "{key}"),
            None => assert_eq!(refused, None),
        }
    }

    #[test]
    fn what_nobody_keeps_yet_is_refused_by_its_key() {
        let keep = "[retention]\nkeep-last = 3\n";
        check("name = '*'", keep, None);
        check("tag = 'Backup/Gold'", keep, None);
        let locked = format!("{keep}lock = '7d'");
        check("name = '*'", &locked, None);
        let copied = format!("copies = ['second']\n{keep}");
        check("name = '*'", &copied, Some("store.copies"));
        let slow = format!("{keep}[limits]\nbandwidth = '200MB/s'");
        check("name = '*'", &slow, Some("limits.bandwidth"));
    }
}
