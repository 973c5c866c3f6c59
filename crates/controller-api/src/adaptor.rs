//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use stillwater_wire::serve::{Grpc, Outgoing, open, reply, reply_stream, take};
use tonic::{Request, Response, Status};

use crate::model::*;
use crate::pb;
use crate::server::*;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn run_service(service: Arc<dyn RunService>) -> impl Grpc {
    pb::run_service_server::RunServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn node_service(service: Arc<dyn NodeService>) -> impl Grpc {
    pb::node_service_server::NodeServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn token_service(service: Arc<dyn TokenService>) -> impl Grpc {
    pb::token_service_server::TokenServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn point_service(service: Arc<dyn PointService>) -> impl Grpc {
    pb::point_service_server::PointServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn vm_service(service: Arc<dyn VmService>) -> impl Grpc {
    pb::vm_service_server::VmServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn vcenter_service(service: Arc<dyn VcenterService>) -> impl Grpc {
    pb::vcenter_service_server::VcenterServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn alarm_service(service: Arc<dyn AlarmService>) -> impl Grpc {
    pb::alarm_service_server::AlarmServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn policy_service(service: Arc<dyn PolicyService>) -> impl Grpc {
    pb::policy_service_server::PolicyServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn event_service(service: Arc<dyn EventService>) -> impl Grpc {
    pb::event_service_server::EventServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn job_service(service: Arc<dyn JobService>) -> impl Grpc {
    pb::job_service_server::JobServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn guest_credential_service(service: Arc<dyn GuestCredentialService>) -> impl Grpc {
    pb::guest_credential_service_server::GuestCredentialServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn repository_service(service: Arc<dyn RepositoryService>) -> impl Grpc {
    pb::repository_service_server::RepositoryServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn probe_service(service: Arc<dyn ProbeService>) -> impl Grpc {
    pb::probe_service_server::ProbeServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

struct Adaptor<S: ?Sized>(Arc<S>);

#[async_trait::async_trait]
impl pb::run_service_server::RunService for Adaptor<dyn RunService> {
    async fn start_run(
        &self,
        request: Request<pb::StartRunRequest>,
    ) -> Answer<pb::StartRunResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.start_run(&peer, request).await)
    }

    async fn plan_restore_vm(
        &self,
        request: Request<pb::PlanRestoreVmRequest>,
    ) -> Answer<pb::PlanRestoreVmResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.plan_restore_vm(&peer, request).await)
    }

    async fn plan_restore_in_place(
        &self,
        request: Request<pb::PlanRestoreInPlaceRequest>,
    ) -> Answer<pb::PlanRestoreInPlaceResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.plan_restore_in_place(&peer, request).await)
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Answer<pb::GetRunResponse> {
        let (peer, run_id) = open(request)?;
        reply(self.0.get_run(&peer, run_id).await)
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Answer<pb::ListRunsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_runs(&peer, request).await)
    }

    type WatchRunStream = Outgoing<pb::WatchRunResponse>;

    async fn watch_run(
        &self,
        request: Request<pb::WatchRunRequest>,
    ) -> Answer<Self::WatchRunStream> {
        let (peer, run_id) = open(request)?;
        reply_stream(self.0.watch_run(&peer, run_id).await)
    }

    async fn cancel_run(
        &self,
        request: Request<pb::CancelRunRequest>,
    ) -> Answer<pb::CancelRunResponse> {
        let (peer, run_id) = open(request)?;
        reply(self.0.cancel_run(&peer, run_id).await)
    }
}

#[async_trait::async_trait]
impl pb::node_service_server::NodeService for Adaptor<dyn NodeService> {
    async fn join_cluster(
        &self,
        request: Request<pb::JoinClusterRequest>,
    ) -> Answer<pb::JoinClusterResponse> {
        let remote = stillwater_rpc::remote(&request);
        let request = take(request.into_inner())?;
        reply(self.0.join_cluster(remote, request).await)
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Answer<pb::RenewCertificateResponse> {
        let (peer, certificate_request) = open(request)?;
        reply(self.0.renew_certificate(&peer, certificate_request).await)
    }

    async fn send_heartbeat(
        &self,
        request: Request<pb::SendHeartbeatRequest>,
    ) -> Answer<pb::SendHeartbeatResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.send_heartbeat(&peer, request).await)
    }

    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Answer<pb::ListNodesResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_nodes(&peer).await)
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Answer<pb::RemoveNodeResponse> {
        let (peer, node_id) = open(request)?;
        reply(self.0.remove_node(&peer, node_id).await)
    }

    async fn drain_proxy(
        &self,
        request: Request<pb::DrainProxyRequest>,
    ) -> Answer<pb::DrainProxyResponse> {
        let (peer, node_id) = open(request)?;
        reply(self.0.drain_proxy(&peer, node_id).await)
    }

    async fn undrain_proxy(
        &self,
        request: Request<pb::UndrainProxyRequest>,
    ) -> Answer<pb::UndrainProxyResponse> {
        let (peer, node_id) = open(request)?;
        reply(self.0.undrain_proxy(&peer, node_id).await)
    }
}

#[async_trait::async_trait]
impl pb::token_service_server::TokenService for Adaptor<dyn TokenService> {
    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Answer<pb::CreateTokenResponse> {
        let (peer, role) = open(request)?;
        reply(self.0.create_token(&peer, role).await)
    }
}

#[async_trait::async_trait]
impl pb::point_service_server::PointService for Adaptor<dyn PointService> {
    async fn list_points(
        &self,
        request: Request<pb::ListPointsRequest>,
    ) -> Answer<pb::ListPointsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_points(&peer, request).await)
    }

    async fn get_point(
        &self,
        request: Request<pb::GetPointRequest>,
    ) -> Answer<pb::GetPointResponse> {
        let (peer, point_id) = open(request)?;
        reply(self.0.get_point(&peer, point_id).await)
    }

    async fn get_point_configuration(
        &self,
        request: Request<pb::GetPointConfigurationRequest>,
    ) -> Answer<pb::GetPointConfigurationResponse> {
        let (peer, point_id) = open(request)?;
        reply(self.0.get_point_configuration(&peer, point_id).await)
    }

    async fn lock_point(
        &self,
        request: Request<pb::LockPointRequest>,
    ) -> Answer<pb::LockPointResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.lock_point(&peer, request).await)
    }

    async fn delete_point(
        &self,
        request: Request<pb::DeletePointRequest>,
    ) -> Answer<pb::DeletePointResponse> {
        let (peer, point_id) = open(request)?;
        reply(self.0.delete_point(&peer, point_id).await)
    }
}

#[async_trait::async_trait]
impl pb::repository_service_server::RepositoryService for Adaptor<dyn RepositoryService> {
    async fn list_repositories(
        &self,
        request: Request<pb::ListRepositoriesRequest>,
    ) -> Answer<pb::ListRepositoriesResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_repositories(&peer).await)
    }

    async fn get_repository(
        &self,
        request: Request<pb::GetRepositoryRequest>,
    ) -> Answer<pb::GetRepositoryResponse> {
        let (peer, node_id) = open(request)?;
        reply(self.0.get_repository(&peer, node_id).await)
    }

    async fn start_task(
        &self,
        request: Request<pb::StartTaskRequest>,
    ) -> Answer<pb::StartTaskResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.start_task(&peer, request).await)
    }

    type WatchTaskStream = Outgoing<pb::WatchTaskResponse>;

    async fn watch_task(
        &self,
        request: Request<pb::WatchTaskRequest>,
    ) -> Answer<Self::WatchTaskStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.watch_task(&peer, request).await)
    }

    async fn cancel_task(
        &self,
        request: Request<pb::CancelTaskRequest>,
    ) -> Answer<pb::CancelTaskResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.cancel_task(&peer, request).await)
    }

    async fn submit_statement(
        &self,
        request: Request<pb::SubmitStatementRequest>,
    ) -> Answer<pb::SubmitStatementResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.submit_statement(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::vm_service_server::VmService for Adaptor<dyn VmService> {
    async fn list_vms(&self, request: Request<pb::ListVmsRequest>) -> Answer<pb::ListVmsResponse> {
        let (peer, vcenter) = open(request)?;
        reply(self.0.list_vms(&peer, vcenter).await)
    }

    async fn get_vm(&self, request: Request<pb::GetVmRequest>) -> Answer<pb::GetVmResponse> {
        let (peer, vm) = open(request)?;
        reply(self.0.get_vm(&peer, vm).await)
    }

    async fn preflight_vm(
        &self,
        request: Request<pb::PreflightVmRequest>,
    ) -> Answer<pb::PreflightVmResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.preflight_vm(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::vcenter_service_server::VcenterService for Adaptor<dyn VcenterService> {
    async fn add_vcenter(
        &self,
        request: Request<pb::AddVcenterRequest>,
    ) -> Answer<pb::AddVcenterResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.add_vcenter(&peer, request).await)
    }

    async fn list_vcenters(
        &self,
        request: Request<pb::ListVcentersRequest>,
    ) -> Answer<pb::ListVcentersResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_vcenters(&peer).await)
    }

    async fn test_vcenter(
        &self,
        request: Request<pb::TestVcenterRequest>,
    ) -> Answer<pb::TestVcenterResponse> {
        let (peer, vcenter) = open(request)?;
        reply(self.0.test_vcenter(&peer, vcenter).await)
    }

    async fn remove_vcenter(
        &self,
        request: Request<pb::RemoveVcenterRequest>,
    ) -> Answer<pb::RemoveVcenterResponse> {
        let (peer, vcenter) = open(request)?;
        reply(self.0.remove_vcenter(&peer, vcenter).await)
    }

    async fn probe_vcenter(
        &self,
        request: Request<pb::ProbeVcenterRequest>,
    ) -> Answer<pb::ProbeVcenterResponse> {
        let (peer, address) = open(request)?;
        reply(self.0.probe_vcenter(&peer, address).await)
    }
}

#[async_trait::async_trait]
impl pb::alarm_service_server::AlarmService for Adaptor<dyn AlarmService> {
    async fn list_alarms(
        &self,
        request: Request<pb::ListAlarmsRequest>,
    ) -> Answer<pb::ListAlarmsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_alarms(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::policy_service_server::PolicyService for Adaptor<dyn PolicyService> {
    async fn apply_policy(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Answer<pb::ApplyPolicyResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.apply_policy(&peer, request).await)
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Answer<pb::ListPoliciesResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_policies(&peer).await)
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Answer<pb::GetPolicyResponse> {
        let (peer, name) = open(request)?;
        reply(self.0.get_policy(&peer, name).await)
    }

    async fn remove_policy(
        &self,
        request: Request<pb::RemovePolicyRequest>,
    ) -> Answer<pb::RemovePolicyResponse> {
        let (peer, name) = open(request)?;
        reply(self.0.remove_policy(&peer, name).await)
    }

    async fn list_policy_members(
        &self,
        request: Request<pb::ListPolicyMembersRequest>,
    ) -> Answer<pb::ListPolicyMembersResponse> {
        let (peer, name) = open(request)?;
        reply(self.0.list_policy_members(&peer, name).await)
    }

    async fn simulate_policy(
        &self,
        request: Request<pb::SimulatePolicyRequest>,
    ) -> Answer<pb::SimulatePolicyResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.simulate_policy(&peer, request).await)
    }

    async fn list_policy_points(
        &self,
        request: Request<pb::ListPolicyPointsRequest>,
    ) -> Answer<pb::ListPolicyPointsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_policy_points(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::event_service_server::EventService for Adaptor<dyn EventService> {
    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Answer<pb::ListEventsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_events(&peer, request).await)
    }

    type WatchEventsStream = Outgoing<pb::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.watch_events(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::job_service_server::JobService for Adaptor<dyn JobService> {
    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Answer<pb::ListJobsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_jobs(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::guest_credential_service_server::GuestCredentialService
    for Adaptor<dyn GuestCredentialService>
{
    async fn set_guest_credential(
        &self,
        request: Request<pb::SetGuestCredentialRequest>,
    ) -> Answer<pb::SetGuestCredentialResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.set_guest_credential(&peer, request).await)
    }

    async fn list_guest_credentials(
        &self,
        request: Request<pb::ListGuestCredentialsRequest>,
    ) -> Answer<pb::ListGuestCredentialsResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_guest_credentials(&peer).await)
    }

    async fn remove_guest_credential(
        &self,
        request: Request<pb::RemoveGuestCredentialRequest>,
    ) -> Answer<pb::RemoveGuestCredentialResponse> {
        let (peer, subject) = open(request)?;
        reply(self.0.remove_guest_credential(&peer, subject).await)
    }
}

#[async_trait::async_trait]
impl pb::probe_service_server::ProbeService for Adaptor<dyn ProbeService> {
    type ProbeVmStream = Outgoing<pb::ProbeVmResponse>;

    async fn probe_vm(&self, request: Request<pb::ProbeVmRequest>) -> Answer<Self::ProbeVmStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.probe_vm(&peer, request).await)
    }
}
