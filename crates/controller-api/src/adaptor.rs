//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use stillwater_wire::serve::{reply, take};
use stillwater_wire::serves;
use tonic::{Request, Response, Status};

use crate::model::*;
use crate::pb;
use crate::server::*;

struct Adaptor<S: ?Sized>(Arc<S>);

serves! { run_service: pb::run_service_server::{RunService, RunServiceServer}
    one start_run(StartRunRequest) -> StartRunResponse;
    one plan_restore_vm(PlanRestoreVmRequest) -> PlanRestoreVmResponse;
    one plan_restore_in_place(PlanRestoreInPlaceRequest) -> PlanRestoreInPlaceResponse;
    one get_run(GetRunRequest) -> GetRunResponse;
    one list_runs(ListRunsRequest) -> ListRunsResponse;
    many watch_run(WatchRunRequest) -> WatchRunResponse as WatchRunStream;
    one cancel_run(CancelRunRequest) -> CancelRunResponse;
}

serves! { node_service: pb::node_service_server::{NodeService, NodeServiceServer}
    own {
        async fn join_cluster(
            &self,
            request: Request<pb::JoinClusterRequest>,
        ) -> Result<Response<pb::JoinClusterResponse>, Status> {
            let remote = stillwater_rpc::remote(&request);
            let request = take(request.into_inner())?;
            reply(self.0.join_cluster(remote, request).await)
        }
    }
    one renew_certificate(RenewCertificateRequest) -> RenewCertificateResponse;
    one send_heartbeat(SendHeartbeatRequest) -> SendHeartbeatResponse;
    bare list_nodes(ListNodesRequest) -> ListNodesResponse;
    one remove_node(RemoveNodeRequest) -> RemoveNodeResponse;
    one drain_proxy(DrainProxyRequest) -> DrainProxyResponse;
    one undrain_proxy(UndrainProxyRequest) -> UndrainProxyResponse;
}

serves! { token_service: pb::token_service_server::{TokenService, TokenServiceServer}
    one create_token(CreateTokenRequest) -> CreateTokenResponse;
}

serves! { point_service: pb::point_service_server::{PointService, PointServiceServer}
    one list_points(ListPointsRequest) -> ListPointsResponse;
    one get_point(GetPointRequest) -> GetPointResponse;
    one get_point_configuration(GetPointConfigurationRequest) -> GetPointConfigurationResponse;
    one lock_point(LockPointRequest) -> LockPointResponse;
    one delete_point(DeletePointRequest) -> DeletePointResponse;
}

serves! { repository_service: pb::repository_service_server::{RepositoryService, RepositoryServiceServer}
    bare list_repositories(ListRepositoriesRequest) -> ListRepositoriesResponse;
    one get_repository(GetRepositoryRequest) -> GetRepositoryResponse;
    one start_task(StartTaskRequest) -> StartTaskResponse;
    many watch_task(WatchTaskRequest) -> WatchTaskResponse as WatchTaskStream;
    one cancel_task(CancelTaskRequest) -> CancelTaskResponse;
    one submit_statement(SubmitStatementRequest) -> SubmitStatementResponse;
}

serves! { vm_service: pb::vm_service_server::{VmService, VmServiceServer}
    one list_vms(ListVmsRequest) -> ListVmsResponse;
    one get_vm(GetVmRequest) -> GetVmResponse;
    one preflight_vm(PreflightVmRequest) -> PreflightVmResponse;
}

serves! { vcenter_service: pb::vcenter_service_server::{VcenterService, VcenterServiceServer}
    one add_vcenter(AddVcenterRequest) -> AddVcenterResponse;
    bare list_vcenters(ListVcentersRequest) -> ListVcentersResponse;
    one test_vcenter(TestVcenterRequest) -> TestVcenterResponse;
    one remove_vcenter(RemoveVcenterRequest) -> RemoveVcenterResponse;
    one probe_vcenter(ProbeVcenterRequest) -> ProbeVcenterResponse;
}

serves! { alarm_service: pb::alarm_service_server::{AlarmService, AlarmServiceServer}
    one list_alarms(ListAlarmsRequest) -> ListAlarmsResponse;
}

serves! { policy_service: pb::policy_service_server::{PolicyService, PolicyServiceServer}
    one apply_policy(ApplyPolicyRequest) -> ApplyPolicyResponse;
    bare list_policies(ListPoliciesRequest) -> ListPoliciesResponse;
    one get_policy(GetPolicyRequest) -> GetPolicyResponse;
    one remove_policy(RemovePolicyRequest) -> RemovePolicyResponse;
    one list_policy_members(ListPolicyMembersRequest) -> ListPolicyMembersResponse;
    one simulate_policy(SimulatePolicyRequest) -> SimulatePolicyResponse;
    one list_policy_points(ListPolicyPointsRequest) -> ListPolicyPointsResponse;
}

serves! { event_service: pb::event_service_server::{EventService, EventServiceServer}
    one list_events(ListEventsRequest) -> ListEventsResponse;
    many watch_events(WatchEventsRequest) -> WatchEventsResponse as WatchEventsStream;
}

serves! { job_service: pb::job_service_server::{JobService, JobServiceServer}
    one list_jobs(ListJobsRequest) -> ListJobsResponse;
}

serves! { guest_credential_service: pb::guest_credential_service_server::{GuestCredentialService, GuestCredentialServiceServer}
    one set_guest_credential(SetGuestCredentialRequest) -> SetGuestCredentialResponse;
    bare list_guest_credentials(ListGuestCredentialsRequest) -> ListGuestCredentialsResponse;
    one remove_guest_credential(RemoveGuestCredentialRequest) -> RemoveGuestCredentialResponse;
}

serves! { probe_service: pb::probe_service_server::{ProbeService, ProbeServiceServer}
    many probe_vm(ProbeVmRequest) -> ProbeVmResponse as ProbeVmStream;
}
