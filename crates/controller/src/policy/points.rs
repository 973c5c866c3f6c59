//! What becomes of the points of a policy.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stillwater_controller_api as api;
use stillwater_types::{Fault, NodeId, PointId, Reason, VmId};

use super::Registry;
use crate::retention::{
    Budget, Fate, Held, Judged, Outlook, Present, Refusal, forecast, policies_of, why,
};

/// How many points are told at most: more is no answer for a person, and no message for gRPC.
const POINTS_MAX: usize = 10_000;
/// How far it is looked ahead, and how much of that is worked out for one question: a second or so.
const AHEAD: Budget = Budget {
    days: 366,
    units: 3_000_000,
};

impl Registry {
    /// What becomes of the points that a policy made or has a say in.
    ///
    /// # Errors
    /// `POLICY_NOT_FOUND`; `DEADLINE` when it is not known yet whom policies are for.
    pub async fn points(
        &self,
        request: api::ListPolicyPointsRequest,
    ) -> Result<api::ListPolicyPointsResponse, Fault> {
        self.memory.state().policies.find(&request.policy)?;
        let outlook = self.expirer.look().await?;
        let (now, memory) = (self.memory.now(), self.memory.clone());
        let tell = move || {
            let name = |repository: NodeId| {
                let state = memory.state();
                let node = state.nodes.find(repository);
                node.map(|node| node.name.clone()).unwrap_or_default()
            };
            tell(outlook, &request, now, name)
        };
        tokio::task::spawn_blocking(tell)
            .await
            .map_err(|_| Fault::new(Reason::Bug, "looking ahead panicked"))
    }
}

fn tell(
    outlook: Outlook,
    request: &api::ListPolicyPointsRequest,
    now: Timestamp,
    name: impl Fn(NodeId) -> String,
) -> api::ListPolicyPointsResponse {
    let Outlook {
        judged,
        refusals,
        promises,
        repositories,
    } = outlook;
    let present = Present {
        promises: &promises,
        repositories: &repositories,
        now,
    };
    let (mut points, mut left_off, mut budget) = (Vec::new(), 0_u32, AHEAD);
    for mut group in groups(judged) {
        let is_asked = group.iter().any(|judged| is_of(&judged.held, &request.vm));
        if !is_asked || !group.iter().any(|judged| concerns(judged, &request.policy)) {
            continue;
        }
        group.sort_by_key(|judged| (judged.held.at, judged.held.point));
        let held = group.iter().map(|judged| judged.held.clone());
        let gone = forecast(held.collect(), &present, &mut budget);
        for judged in group {
            if !concerns(&judged, &request.policy) {
                continue;
            }
            if points.len() == POINTS_MAX {
                left_off = left_off.saturating_add(1);
                continue;
            }
            let refusal = refusals.get(&judged.held.point);
            points.push(point(judged, refusal, &gone, &name));
        }
    }
    api::ListPolicyPointsResponse {
        points,
        left_off_count: left_off,
    }
}

/// The points of each VM on each repository, by the name that the VM had last.
fn groups(judged: Vec<Judged>) -> Vec<Vec<Judged>> {
    let mut groups: BTreeMap<(VmId, NodeId), Vec<Judged>> = BTreeMap::new();
    for judged in judged {
        let key = (judged.held.vm.clone(), judged.held.repository);
        groups.entry(key).or_default().push(judged);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_cached_key(|group| {
        let newest = group.iter().max_by_key(|judged| judged.held.at);
        newest.map(|judged| judged.held.vm_name.clone())
    });
    groups
}

/// Whether a point is of the VM that a text names, by id or name.
fn is_of(held: &Held, vm: &str) -> bool {
    vm.is_empty() || held.vm_name == vm || vm.parse().is_ok_and(|vm: VmId| held.vm == vm)
}

/// Whether the policy made the point or says something about it.
fn concerns(judged: &Judged, policy: &str) -> bool {
    judged.held.policy.as_deref() == Some(policy) || policies_of(&judged.fate).contains(policy)
}

fn point(
    judged: Judged,
    refusal: Option<&Refusal>,
    gone: &BTreeMap<PointId, Timestamp>,
    name: impl Fn(NodeId) -> String,
) -> api::PolicyPoint {
    let Judged { held, fate } = judged;
    let refused =
        |refusal: &Refusal| format!("{}; asked again at {:.0}", refusal.fault, refusal.again_at);
    api::PolicyPoint {
        point_id: held.point,
        why: why(&fate),
        is_expired: matches!(fate, Fate::Expire(_)),
        vm_id: held.vm,
        vm_name: held.vm_name,
        repository_name: name(held.repository),
        at: held.at,
        gone_by: gone.get(&held.point).copied(),
        refusal: refusal.map(refused),
    }
}
