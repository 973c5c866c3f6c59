//! Calls to the controller.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use stillwater_types::{Fault, NodeId, PointId, Reason, Role, RunId};
use stillwater_wire::ask::Ask;
use tonic::transport::Channel;

use crate::model::*;
use crate::pb;

/// Calls that log in to a vCenter or read its inventory wait as long as a slow vCenter needs.
const VSPHERE_DEADLINE: Duration = Duration::from_secs(120);

/// Calls the controller; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    ask: Ask,
}

macro_rules! stub {
    ($self:ident, $module:ident::$client:ident) => {
        pb::$module::$client::new($self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

impl Client {
    /// Calls over `channel`, with 30 seconds for each call that is not known to take longer.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            ask: Ask::new(Reason::ControllerUnreachable),
        }
    }

    /// The same with another deadline for usual calls.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            ask: self.ask.within(deadline),
            ..self
        }
    }

    /// Starts a run and answers at once. Idempotent by `request_id`.
    pub async fn start_run(&self, request: StartRunRequest) -> Result<Run, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.start_run(pb::StartRunRequest::from(request)))
            .await
    }

    /// Tells what a restore of a VM would do, without doing it.
    pub async fn plan_restore_vm(
        &self,
        request: PlanRestoreVmRequest,
    ) -> Result<PlanRestoreVmResponse, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.plan_restore_vm(pb::PlanRestoreVmRequest::from(request)))
            .await
    }

    /// Tells what a restore over the VM's own disks would do, without doing it.
    pub async fn plan_restore_in_place(
        &self,
        request: PlanRestoreInPlaceRequest,
    ) -> Result<PlanRestoreInPlaceResponse, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.plan_restore_in_place(pb::PlanRestoreInPlaceRequest::from(request)))
            .await
    }

    /// Tells one run.
    pub async fn get_run(&self, run_id: RunId) -> Result<Run, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.get_run(pb::GetRunRequest::from(run_id)))
            .await
    }

    /// Lists runs, newest first.
    pub async fn list_runs(&self, request: ListRunsRequest) -> Result<ListRunsResponse, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.list_runs(pb::ListRunsRequest::from(request)))
            .await
    }

    /// Streams the run when it changes and about once a second; ends after its final state.
    pub async fn watch_run(
        &self,
        run_id: RunId,
    ) -> Result<BoxStream<'static, Result<Run, Fault>>, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .many(stub.watch_run(pb::WatchRunRequest::from(run_id)))
            .await
    }

    /// Asks a run to stop, whatever its stage. Idempotent.
    pub async fn cancel_run(&self, run_id: RunId) -> Result<Run, Fault> {
        let mut stub = stub!(self, run_service_client::RunServiceClient);
        self.ask
            .one(stub.cancel_run(pb::CancelRunRequest::from(run_id)))
            .await
    }

    /// Streams how fast each proxy reaches a disk; ends when the snapshot is gone.
    pub async fn probe_vm(
        &self,
        request: ProbeVmRequest,
    ) -> Result<BoxStream<'static, Result<Probe, Fault>>, Fault> {
        let mut stub = stub!(self, probe_service_client::ProbeServiceClient);
        let call = stub.probe_vm(pb::ProbeVmRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).many(call).await
    }

    /// Enrols a node. The only call that needs no certificate.
    pub async fn join_cluster(
        &self,
        request: JoinClusterRequest,
    ) -> Result<JoinClusterResponse, Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.join_cluster(pb::JoinClusterRequest::from(request)))
            .await
    }

    /// Gives the caller a new certificate for the role and name it has.
    pub async fn renew_certificate(
        &self,
        certificate_request: Bytes,
    ) -> Result<RenewCertificateResponse, Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.renew_certificate(pb::RenewCertificateRequest::from(certificate_request)))
            .await
    }

    /// Says that the caller lives and what it can do.
    pub async fn send_heartbeat(
        &self,
        request: SendHeartbeatRequest,
    ) -> Result<SendHeartbeatResponse, Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.send_heartbeat(pb::SendHeartbeatRequest::from(request)))
            .await
    }

    /// Lists the nodes.
    pub async fn list_nodes(&self) -> Result<Vec<Node>, Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.list_nodes(pb::ListNodesRequest::from(())))
            .await
    }

    /// Shuts a node out: its certificate is refused from now on.
    pub async fn remove_node(&self, node_id: NodeId) -> Result<(), Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.remove_node(pb::RemoveNodeRequest::from(node_id)))
            .await
    }

    /// Gives a proxy no new work; what it has at work goes on to its end. Idempotent.
    pub async fn drain_proxy(&self, node_id: NodeId) -> Result<(), Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.drain_proxy(pb::DrainProxyRequest::from(node_id)))
            .await
    }

    /// Gives a proxy work again. Idempotent.
    pub async fn undrain_proxy(&self, node_id: NodeId) -> Result<(), Fault> {
        let mut stub = stub!(self, node_service_client::NodeServiceClient);
        self.ask
            .one(stub.undrain_proxy(pb::UndrainProxyRequest::from(node_id)))
            .await
    }

    /// Makes a join token for one node of `role`.
    pub async fn create_token(&self, role: Role) -> Result<CreateTokenResponse, Fault> {
        let mut stub = stub!(self, token_service_client::TokenServiceClient);
        self.ask
            .one(stub.create_token(pb::CreateTokenRequest::from(role)))
            .await
    }

    /// Lists points, newest first.
    pub async fn list_points(
        &self,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.list_points(pb::ListPointsRequest::from(request)))
            .await
    }

    /// Tells one point with its disks and evidence.
    pub async fn get_point(&self, point_id: PointId) -> Result<GetPointResponse, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.get_point(pb::GetPointRequest::from(point_id)))
            .await
    }

    /// Tells the configuration that a point keeps of its VM.
    pub async fn get_point_configuration(
        &self,
        point_id: PointId,
    ) -> Result<PointConfiguration, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        let call = stub.get_point_configuration(pb::GetPointConfigurationRequest::from(point_id));
        self.ask.one(call).await
    }

    /// Locks a point for longer; answers the lock that counts.
    pub async fn lock_point(&self, request: LockPointRequest) -> Result<Point, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.lock_point(pb::LockPointRequest::from(request)))
            .await
    }

    /// Asks the repository to delete a point.
    pub async fn delete_point(&self, point_id: PointId) -> Result<(), Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.delete_point(pb::DeletePointRequest::from(point_id)))
            .await
    }

    /// Lists the repositories.
    pub async fn list_repositories(&self) -> Result<Vec<Repository>, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.list_repositories(pb::ListRepositoriesRequest::from(())))
            .await
    }

    /// Tells one repository, asked now.
    pub async fn get_repository(&self, node_id: NodeId) -> Result<GetRepositoryResponse, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.get_repository(pb::GetRepositoryRequest::from(node_id)))
            .await
    }

    /// Starts a task. Idempotent by `task_id`.
    pub async fn start_task(&self, request: StartTaskRequest) -> Result<StartTaskResponse, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.start_task(pb::StartTaskRequest::from(request)))
            .await
    }

    /// Tells a task's state as it changes; ends after the final one.
    pub async fn watch_task(
        &self,
        request: WatchTaskRequest,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .many(stub.watch_task(pb::WatchTaskRequest::from(request)))
            .await
    }

    /// Asks a task to stop.
    pub async fn cancel_task(&self, request: CancelTaskRequest) -> Result<Task, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.cancel_task(pb::CancelTaskRequest::from(request)))
            .await
    }

    /// Passes a signed statement on to the repository that it names.
    pub async fn submit_statement(
        &self,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.submit_statement(pb::SubmitStatementRequest::from(request)))
            .await
    }

    /// Lists the VMs of every vCenter, or of the one with this id or name.
    pub async fn list_vms(&self, vcenter: Option<String>) -> Result<Vec<VmSummary>, Fault> {
        let mut stub = stub!(self, vm_service_client::VmServiceClient);
        let call = stub.list_vms(pb::ListVmsRequest::from(vcenter));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Tells one VM, read afresh, by id, name or inventory path.
    pub async fn get_vm(&self, vm: String) -> Result<Vm, Fault> {
        let mut stub = stub!(self, vm_service_client::VmServiceClient);
        let call = stub.get_vm(pb::GetVmRequest::from(vm));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Tells what keeps a VM from being protected, read afresh.
    pub async fn preflight_vm(
        &self,
        request: PreflightVmRequest,
    ) -> Result<PreflightVmResponse, Fault> {
        let mut stub = stub!(self, vm_service_client::VmServiceClient);
        let call = stub.preflight_vm(pb::PreflightVmRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Registers a vCenter after a successful login. Idempotent by `request_id`.
    pub async fn add_vcenter(&self, request: AddVcenterRequest) -> Result<Vcenter, Fault> {
        let mut stub = stub!(self, vcenter_service_client::VcenterServiceClient);
        let call = stub.add_vcenter(pb::AddVcenterRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Lists the vCenters, without secrets.
    pub async fn list_vcenters(&self) -> Result<Vec<Vcenter>, Fault> {
        let mut stub = stub!(self, vcenter_service_client::VcenterServiceClient);
        self.ask
            .one(stub.list_vcenters(pb::ListVcentersRequest::from(())))
            .await
    }

    /// Logs in anew and tells what is there; `vcenter` is an id or a name.
    pub async fn test_vcenter(&self, vcenter: String) -> Result<TestVcenterResponse, Fault> {
        let mut stub = stub!(self, vcenter_service_client::VcenterServiceClient);
        let call = stub.test_vcenter(pb::TestVcenterRequest::from(vcenter));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Forgets a vCenter and its password; `vcenter` is an id or a name.
    pub async fn remove_vcenter(&self, vcenter: String) -> Result<(), Fault> {
        let mut stub = stub!(self, vcenter_service_client::VcenterServiceClient);
        self.ask
            .one(stub.remove_vcenter(pb::RemoveVcenterRequest::from(vcenter)))
            .await
    }

    /// Tells which certificate an address presents. Nothing is trusted by this call.
    pub async fn probe_vcenter(&self, address: String) -> Result<ProbeVcenterResponse, Fault> {
        let mut stub = stub!(self, vcenter_service_client::VcenterServiceClient);
        let call = stub.probe_vcenter(pb::ProbeVcenterRequest::from(address));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Lists the alarms that stand, and those that are over when asked for.
    pub async fn list_alarms(&self, request: ListAlarmsRequest) -> Result<Vec<Alarm>, Fault> {
        let mut stub = stub!(self, alarm_service_client::AlarmServiceClient);
        self.ask
            .one(stub.list_alarms(pb::ListAlarmsRequest::from(request)))
            .await
    }

    /// Applies a policy file, or only tells what that would change.
    pub async fn apply_policy(
        &self,
        request: ApplyPolicyRequest,
    ) -> Result<ApplyPolicyResponse, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        let call = stub.apply_policy(pb::ApplyPolicyRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Every policy, by name.
    pub async fn list_policies(&self) -> Result<Vec<Policy>, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        self.ask
            .one(stub.list_policies(pb::ListPoliciesRequest::from(())))
            .await
    }

    /// The policy of that name.
    pub async fn get_policy(&self, name: String) -> Result<Policy, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        self.ask
            .one(stub.get_policy(pb::GetPolicyRequest::from(name)))
            .await
    }

    /// Removes a policy; its points stay.
    pub async fn remove_policy(&self, name: String) -> Result<(), Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        self.ask
            .one(stub.remove_policy(pb::RemovePolicyRequest::from(name)))
            .await
    }

    /// Every VM with whether the policy of that name is for it, and why.
    pub async fn list_policy_members(&self, name: String) -> Result<Vec<PolicyMember>, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        let call = stub.list_policy_members(pb::ListPolicyMembersRequest::from(name));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// What a policy would keep, day by day.
    pub async fn simulate_policy(
        &self,
        request: SimulatePolicyRequest,
    ) -> Result<SimulatePolicyResponse, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        let call = stub.simulate_policy(pb::SimulatePolicyRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// What becomes of the points that a policy made or has a say in.
    pub async fn list_policy_points(
        &self,
        request: ListPolicyPointsRequest,
    ) -> Result<ListPolicyPointsResponse, Fault> {
        let mut stub = stub!(self, policy_service_client::PolicyServiceClient);
        let call = stub.list_policy_points(pb::ListPolicyPointsRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// A page of the newest events that are wanted, newest first.
    pub async fn list_events(
        &self,
        request: ListEventsRequest,
    ) -> Result<ListEventsResponse, Fault> {
        let mut stub = stub!(self, event_service_client::EventServiceClient);
        self.ask
            .one(stub.list_events(pb::ListEventsRequest::from(request)))
            .await
    }

    /// Streams events as they happen, oldest first; does not end by itself.
    pub async fn watch_events(
        &self,
        request: WatchEventsRequest,
    ) -> Result<BoxStream<'static, Result<Event, Fault>>, Fault> {
        let mut stub = stub!(self, event_service_client::EventServiceClient);
        self.ask
            .many(stub.watch_events(pb::WatchEventsRequest::from(request)))
            .await
    }

    /// A page of the jobs of every policy, or of one.
    pub async fn list_jobs(&self, request: ListJobsRequest) -> Result<ListJobsResponse, Fault> {
        let mut stub = stub!(self, job_service_client::JobServiceClient);
        self.ask
            .one(stub.list_jobs(pb::ListJobsRequest::from(request)))
            .await
    }

    /// Keeps an account for the guests of a VM or of all VMs below a folder.
    pub async fn set_guest_credential(
        &self,
        request: SetGuestCredentialRequest,
    ) -> Result<GuestCredential, Fault> {
        let mut stub = stub!(
            self,
            guest_credential_service_client::GuestCredentialServiceClient
        );
        let call = stub.set_guest_credential(pb::SetGuestCredentialRequest::from(request));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }

    /// Lists the accounts for guests, without passwords.
    pub async fn list_guest_credentials(&self) -> Result<Vec<GuestCredential>, Fault> {
        let mut stub = stub!(
            self,
            guest_credential_service_client::GuestCredentialServiceClient
        );
        self.ask
            .one(stub.list_guest_credentials(pb::ListGuestCredentialsRequest::from(())))
            .await
    }

    /// Forgets an account for guests and its password.
    pub async fn remove_guest_credential(&self, subject: GuestSubject) -> Result<(), Fault> {
        let mut stub = stub!(
            self,
            guest_credential_service_client::GuestCredentialServiceClient
        );
        let call = stub.remove_guest_credential(pb::RemoveGuestCredentialRequest::from(subject));
        self.ask.within(VSPHERE_DEADLINE).one(call).await
    }
}
