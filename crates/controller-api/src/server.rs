//! What a controller must be able to do, one trait per service.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, PointId, Role, RunId};

use crate::model::*;

/// Attempts to protect or to restore.
#[async_trait]
pub trait RunService: Send + Sync + 'static {
    /// Starts a run and answers at once. Idempotent by `request_id`.
    async fn start_run(&self, peer: &Peer, request: StartRunRequest) -> Result<Run, Fault>;

    /// Tells what a restore of a VM would do, without doing it.
    async fn plan_restore_vm(
        &self,
        peer: &Peer,
        request: PlanRestoreVmRequest,
    ) -> Result<PlanRestoreVmResponse, Fault>;

    /// Tells what a restore over the VM's own disks would do, without doing it.
    async fn plan_restore_in_place(
        &self,
        peer: &Peer,
        request: PlanRestoreInPlaceRequest,
    ) -> Result<PlanRestoreInPlaceResponse, Fault>;

    /// Tells one run.
    async fn get_run(&self, peer: &Peer, run_id: RunId) -> Result<Run, Fault>;

    /// Lists runs, newest first.
    async fn list_runs(
        &self,
        peer: &Peer,
        request: ListRunsRequest,
    ) -> Result<ListRunsResponse, Fault>;

    /// Streams the run when it changes and about once a second; ends after its final state.
    async fn watch_run(
        &self,
        peer: &Peer,
        run_id: RunId,
    ) -> Result<BoxStream<'static, Result<Run, Fault>>, Fault>;

    /// Asks a run to stop, whatever its stage. Idempotent.
    async fn cancel_run(&self, peer: &Peer, run_id: RunId) -> Result<Run, Fault>;
}

/// Holders of a certificate of the cluster.
#[async_trait]
pub trait NodeService: Send + Sync + 'static {
    /// Enrols a node. The only call that needs no certificate; `remote` is where it came from, for
    /// rate limits.
    async fn join_cluster(
        &self,
        remote: Option<SocketAddr>,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Fault>;

    /// Gives a node a new certificate for the role and name it has.
    async fn renew_certificate(
        &self,
        peer: &Peer,
        certificate_request: Bytes,
    ) -> Result<RenewCertificateResponse, Fault>;

    /// Hears that a node lives and what it can do.
    async fn send_heartbeat(
        &self,
        peer: &Peer,
        request: SendHeartbeatRequest,
    ) -> Result<SendHeartbeatResponse, Fault>;

    /// Lists the nodes.
    async fn list_nodes(&self, peer: &Peer) -> Result<Vec<Node>, Fault>;

    /// Shuts a node out: its certificate is refused from now on.
    async fn remove_node(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault>;

    /// Gives a proxy no new work. Idempotent.
    async fn drain_proxy(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault>;

    /// Gives a proxy work again. Idempotent.
    async fn undrain_proxy(&self, peer: &Peer, node_id: NodeId) -> Result<(), Fault>;
}

/// What a person must look at.
#[async_trait]
pub trait AlarmService: Send + Sync + 'static {
    /// Lists the alarms that stand, oldest first; when asked for, also the last ones that are over.
    async fn list_alarms(
        &self,
        peer: &Peer,
        request: ListAlarmsRequest,
    ) -> Result<Vec<Alarm>, Fault>;
}

/// What is to be protected and how well.
#[async_trait]
pub trait PolicyService: Send + Sync + 'static {
    /// Applies a policy file, or only tells what that would change.
    async fn apply_policy(
        &self,
        peer: &Peer,
        request: ApplyPolicyRequest,
    ) -> Result<ApplyPolicyResponse, Fault>;

    /// Every policy, by name.
    async fn list_policies(&self, peer: &Peer) -> Result<Vec<Policy>, Fault>;

    /// The policy of that name.
    async fn get_policy(&self, peer: &Peer, name: String) -> Result<Policy, Fault>;

    /// Removes a policy; its points stay.
    async fn remove_policy(&self, peer: &Peer, name: String) -> Result<(), Fault>;

    /// Every VM with whether the policy of that name is for it, and why.
    async fn list_policy_members(
        &self,
        peer: &Peer,
        name: String,
    ) -> Result<Vec<PolicyMember>, Fault>;

    /// What a policy would keep, day by day.
    async fn simulate_policy(
        &self,
        peer: &Peer,
        request: SimulatePolicyRequest,
    ) -> Result<SimulatePolicyResponse, Fault>;

    /// What becomes of the points that a policy made or has a say in.
    async fn list_policy_points(
        &self,
        peer: &Peer,
        request: ListPolicyPointsRequest,
    ) -> Result<ListPolicyPointsResponse, Fault>;
}

/// What happened.
#[async_trait]
pub trait EventService: Send + Sync + 'static {
    /// A page of the newest events that are wanted, newest first.
    async fn list_events(
        &self,
        peer: &Peer,
        request: ListEventsRequest,
    ) -> Result<ListEventsResponse, Fault>;

    /// Streams events as they happen, oldest first; does not end by itself.
    async fn watch_events(
        &self,
        peer: &Peer,
        request: WatchEventsRequest,
    ) -> Result<BoxStream<'static, Result<Event, Fault>>, Fault>;
}

/// What policies promise to each VM.
#[async_trait]
pub trait JobService: Send + Sync + 'static {
    /// A page of the jobs of every policy, or of one.
    async fn list_jobs(
        &self,
        peer: &Peer,
        request: ListJobsRequest,
    ) -> Result<ListJobsResponse, Fault>;
}

/// Join tokens.
#[async_trait]
pub trait TokenService: Send + Sync + 'static {
    /// Makes a token for one node of `role`.
    async fn create_token(&self, peer: &Peer, role: Role) -> Result<CreateTokenResponse, Fault>;
}

/// Restore points as the repositories keep them.
#[async_trait]
pub trait PointService: Send + Sync + 'static {
    /// Lists points, newest first.
    async fn list_points(
        &self,
        peer: &Peer,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault>;

    /// Tells one point with its disks and evidence.
    async fn get_point(&self, peer: &Peer, point_id: PointId) -> Result<GetPointResponse, Fault>;

    /// Tells the configuration that a point keeps of its VM.
    async fn get_point_configuration(
        &self,
        peer: &Peer,
        point_id: PointId,
    ) -> Result<PointConfiguration, Fault>;

    /// Locks a point for longer; answers the lock that counts.
    async fn lock_point(&self, peer: &Peer, request: LockPointRequest) -> Result<Point, Fault>;

    /// Asks the repository to delete a point.
    async fn delete_point(&self, peer: &Peer, point_id: PointId) -> Result<(), Fault>;
}

/// Repositories, their soundness and what they protect.
#[async_trait]
pub trait RepositoryService: Send + Sync + 'static {
    /// Lists the repositories.
    async fn list_repositories(&self, peer: &Peer) -> Result<Vec<Repository>, Fault>;

    /// Tells one repository, asked now.
    async fn get_repository(
        &self,
        peer: &Peer,
        node_id: NodeId,
    ) -> Result<GetRepositoryResponse, Fault>;

    /// Starts a task. Idempotent by `task_id`.
    async fn start_task(
        &self,
        peer: &Peer,
        request: StartTaskRequest,
    ) -> Result<StartTaskResponse, Fault>;

    /// Tells a task's state as it changes; ends after the final one.
    async fn watch_task(
        &self,
        peer: &Peer,
        request: WatchTaskRequest,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault>;

    /// Asks a task to stop.
    async fn cancel_task(&self, peer: &Peer, request: CancelTaskRequest) -> Result<Task, Fault>;

    /// Passes a signed statement on to the repository that it names.
    async fn submit_statement(
        &self,
        peer: &Peer,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault>;
}

/// VMs as their vCenters know them now.
#[async_trait]
pub trait VmService: Send + Sync + 'static {
    /// Lists the VMs of every vCenter, or of the one with this id or name.
    async fn list_vms(&self, peer: &Peer, vcenter: Option<String>)
    -> Result<Vec<VmSummary>, Fault>;

    /// Tells one VM, read afresh, by id, name or inventory path.
    async fn get_vm(&self, peer: &Peer, vm: String) -> Result<Vm, Fault>;

    /// Tells what keeps a VM from being protected, read afresh.
    async fn preflight_vm(
        &self,
        peer: &Peer,
        request: PreflightVmRequest,
    ) -> Result<PreflightVmResponse, Fault>;
}

/// vCenters, or hosts that stand alone.
#[async_trait]
pub trait VcenterService: Send + Sync + 'static {
    /// Registers a vCenter after a successful login. Idempotent by `request_id`.
    async fn add_vcenter(&self, peer: &Peer, request: AddVcenterRequest) -> Result<Vcenter, Fault>;

    /// Lists the vCenters, without secrets.
    async fn list_vcenters(&self, peer: &Peer) -> Result<Vec<Vcenter>, Fault>;

    /// Logs in anew and tells what is there; `vcenter` is an id or a name.
    async fn test_vcenter(
        &self,
        peer: &Peer,
        vcenter: String,
    ) -> Result<TestVcenterResponse, Fault>;

    /// Forgets a vCenter and its password; `vcenter` is an id or a name.
    async fn remove_vcenter(&self, peer: &Peer, vcenter: String) -> Result<(), Fault>;

    /// Tells which certificate an address presents. Nothing is trusted by this call.
    async fn probe_vcenter(
        &self,
        peer: &Peer,
        address: String,
    ) -> Result<ProbeVcenterResponse, Fault>;
}

/// Accounts in guests, for hooks.
#[async_trait]
pub trait GuestCredentialService: Send + Sync + 'static {
    /// Keeps an account for a VM or for all VMs below a folder, in the place of what is there.
    async fn set_guest_credential(
        &self,
        peer: &Peer,
        request: SetGuestCredentialRequest,
    ) -> Result<GuestCredential, Fault>;

    /// Lists the accounts, without passwords.
    async fn list_guest_credentials(&self, peer: &Peer) -> Result<Vec<GuestCredential>, Fault>;

    /// Forgets an account and its password.
    async fn remove_guest_credential(
        &self,
        peer: &Peer,
        subject: GuestSubject,
    ) -> Result<(), Fault>;
}

/// How fast proxies reach the disks of a VM.
#[async_trait]
pub trait ProbeService: Send + Sync + 'static {
    /// Streams each measurement; ends when the snapshot is gone.
    async fn probe_vm(
        &self,
        peer: &Peer,
        request: ProbeVmRequest,
    ) -> Result<BoxStream<'static, Result<Probe, Fault>>, Fault>;
}
