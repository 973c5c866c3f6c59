//! Calls to the controller.

use std::time::Duration;

use bytes::Bytes;
use stillwater_types::{NodeId, PointId, Reason, Role, RunId};
use stillwater_wire::ask::Ask;
use stillwater_wire::calls;
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

    calls! { pb::run_service_client::RunServiceClient:
        /// Starts a run and answers at once. Idempotent by `request_id`.
        one start_run(request: StartRunRequest) -> Run;
        /// Tells what a restore of a VM would do, without doing it.
        one plan_restore_vm(request: PlanRestoreVmRequest) -> PlanRestoreVmResponse;
        /// Tells what a restore over the VM's own disks would do, without doing it.
        one plan_restore_in_place(request: PlanRestoreInPlaceRequest) -> PlanRestoreInPlaceResponse;
        /// Tells one run.
        one get_run(run_id: RunId) -> Run;
        /// Lists runs, newest first.
        one list_runs(request: ListRunsRequest) -> ListRunsResponse;
        /// Streams the run when it changes and about once a second; ends after its final state.
        many watch_run(run_id: RunId) -> Run;
        /// Asks a run to stop, whatever its stage. Idempotent.
        one cancel_run(run_id: RunId) -> Run;
    }

    calls! { pb::probe_service_client::ProbeServiceClient:
        /// Streams how fast each proxy reaches a disk; ends when the snapshot is gone.
        many[VSPHERE_DEADLINE] probe_vm(request: ProbeVmRequest) -> Probe;
    }

    calls! { pb::node_service_client::NodeServiceClient:
        /// Enrols a node. The only call that needs no certificate.
        one join_cluster(request: JoinClusterRequest) -> JoinClusterResponse;
        /// Gives the caller a new certificate for the role and name it has.
        one renew_certificate(certificate_request: Bytes) -> RenewCertificateResponse;
        /// Says that the caller lives and what it can do.
        one send_heartbeat(request: SendHeartbeatRequest) -> SendHeartbeatResponse;
        /// Lists the nodes.
        one list_nodes() -> Vec<Node>;
        /// Shuts a node out: its certificate is refused from now on.
        one remove_node(node_id: NodeId) -> ();
        /// Gives a proxy no new work; what it has at work goes on to its end. Idempotent.
        one drain_proxy(node_id: NodeId) -> ();
        /// Gives a proxy work again. Idempotent.
        one undrain_proxy(node_id: NodeId) -> ();
    }

    calls! { pb::token_service_client::TokenServiceClient:
        /// Makes a join token for one node of `role`.
        one create_token(role: Role) -> CreateTokenResponse;
    }

    calls! { pb::point_service_client::PointServiceClient:
        /// Lists points, newest first.
        one list_points(request: ListPointsRequest) -> ListPointsResponse;
        /// Tells one point with its disks and evidence.
        one get_point(point_id: PointId) -> GetPointResponse;
        /// Tells the configuration that a point keeps of its VM.
        one get_point_configuration(point_id: PointId) -> PointConfiguration;
        /// Locks a point for longer; answers the lock that counts.
        one lock_point(request: LockPointRequest) -> Point;
        /// Asks the repository to delete a point.
        one delete_point(point_id: PointId) -> ();
    }

    calls! { pb::repository_service_client::RepositoryServiceClient:
        /// Lists the repositories.
        one list_repositories() -> Vec<Repository>;
        /// Tells one repository, asked now.
        one get_repository(node_id: NodeId) -> GetRepositoryResponse;
        /// Starts a task. Idempotent by `task_id`.
        one start_task(request: StartTaskRequest) -> StartTaskResponse;
        /// Tells a task's state as it changes; ends after the final one.
        many watch_task(request: WatchTaskRequest) -> Task;
        /// Asks a task to stop.
        one cancel_task(request: CancelTaskRequest) -> Task;
        /// Passes a signed statement on to the repository that it names.
        one submit_statement(request: SubmitStatementRequest) -> SubmitStatementResponse;
    }

    calls! { pb::vm_service_client::VmServiceClient:
        /// Lists the VMs of every vCenter, or of the one with this id or name.
        one[VSPHERE_DEADLINE] list_vms(vcenter: Option<String>) -> Vec<VmSummary>;
        /// Tells one VM, read afresh, by id, name or inventory path.
        one[VSPHERE_DEADLINE] get_vm(vm: String) -> Vm;
        /// Tells what keeps a VM from being protected, read afresh.
        one[VSPHERE_DEADLINE] preflight_vm(request: PreflightVmRequest) -> PreflightVmResponse;
    }

    calls! { pb::vcenter_service_client::VcenterServiceClient:
        /// Registers a vCenter after a successful login. Idempotent by `request_id`.
        one[VSPHERE_DEADLINE] add_vcenter(request: AddVcenterRequest) -> Vcenter;
        /// Lists the vCenters, without secrets.
        one list_vcenters() -> Vec<Vcenter>;
        /// Logs in anew and tells what is there; `vcenter` is an id or a name.
        one[VSPHERE_DEADLINE] test_vcenter(vcenter: String) -> TestVcenterResponse;
        /// Forgets a vCenter and its password; `vcenter` is an id or a name.
        one remove_vcenter(vcenter: String) -> ();
        /// Tells which certificate an address presents. Nothing is trusted by this call.
        one[VSPHERE_DEADLINE] probe_vcenter(address: String) -> ProbeVcenterResponse;
    }

    calls! { pb::alarm_service_client::AlarmServiceClient:
        /// Lists the alarms that stand, and those that are over when asked for.
        one list_alarms(request: ListAlarmsRequest) -> Vec<Alarm>;
    }

    calls! { pb::policy_service_client::PolicyServiceClient:
        /// Applies a policy file, or only tells what that would change.
        one[VSPHERE_DEADLINE] apply_policy(request: ApplyPolicyRequest) -> ApplyPolicyResponse;
        /// Every policy, by name.
        one list_policies() -> Vec<Policy>;
        /// The policy of that name.
        one get_policy(name: String) -> Policy;
        /// Removes a policy; its points stay.
        one remove_policy(name: String) -> ();
        /// Every VM with whether the policy of that name is for it, and why.
        one[VSPHERE_DEADLINE] list_policy_members(name: String) -> Vec<PolicyMember>;
        /// What a policy would keep, day by day.
        one[VSPHERE_DEADLINE] simulate_policy(request: SimulatePolicyRequest) -> SimulatePolicyResponse;
        /// What becomes of the points that a policy made or has a say in.
        one[VSPHERE_DEADLINE] list_policy_points(request: ListPolicyPointsRequest) -> ListPolicyPointsResponse;
    }

    calls! { pb::event_service_client::EventServiceClient:
        /// A page of the newest events that are wanted, newest first.
        one list_events(request: ListEventsRequest) -> ListEventsResponse;
        /// Streams events as they happen, oldest first; does not end by itself.
        many watch_events(request: WatchEventsRequest) -> Event;
    }

    calls! { pb::job_service_client::JobServiceClient:
        /// A page of the jobs of every policy, or of one.
        one list_jobs(request: ListJobsRequest) -> ListJobsResponse;
    }

    calls! { pb::guest_credential_service_client::GuestCredentialServiceClient:
        /// Keeps an account for the guests of a VM or of all VMs below a folder.
        one[VSPHERE_DEADLINE] set_guest_credential(request: SetGuestCredentialRequest) -> GuestCredential;
        /// Lists the accounts for guests, without passwords.
        one list_guest_credentials() -> Vec<GuestCredential>;
        /// Forgets an account for guests and its password.
        one[VSPHERE_DEADLINE] remove_guest_credential(subject: GuestSubject) -> ();
    }
}
