//! Answers for policies: convert, call, convert.

use async_trait::async_trait;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_types::Fault;

use super::Registry;
use crate::node::actor;

#[async_trait]
impl api::PolicyService for Registry {
    async fn apply_policy(
        &self,
        peer: &Peer,
        request: api::ApplyPolicyRequest,
    ) -> Result<api::ApplyPolicyResponse, Fault> {
        self.apply(actor(peer), request).await
    }

    async fn list_policies(&self, _peer: &Peer) -> Result<Vec<api::Policy>, Fault> {
        self.list()
    }

    async fn get_policy(&self, _peer: &Peer, name: String) -> Result<api::Policy, Fault> {
        self.show(&name)
    }

    async fn remove_policy(&self, peer: &Peer, name: String) -> Result<(), Fault> {
        self.remove(actor(peer), name).await
    }

    async fn list_policy_members(
        &self,
        _peer: &Peer,
        name: String,
    ) -> Result<Vec<api::PolicyMember>, Fault> {
        self.members(&name).await
    }

    async fn simulate_policy(
        &self,
        _peer: &Peer,
        request: api::SimulatePolicyRequest,
    ) -> Result<api::SimulatePolicyResponse, Fault> {
        self.simulate(request).await
    }

    async fn list_policy_points(
        &self,
        _peer: &Peer,
        request: api::ListPolicyPointsRequest,
    ) -> Result<api::ListPolicyPointsResponse, Fault> {
        self.points(request).await
    }
}
