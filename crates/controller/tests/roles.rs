//! Who may call what on the controller, tried over real TLS.

#[allow(dead_code, reason = "each test file needs another part of it")]
mod support;

use stillwater_controller_api::FILE_DESCRIPTOR_SET;
use stillwater_rpc::ClientCertificates;
use stillwater_testkit::matrix::{self, Subject};
use stillwater_types::Role;

use support::Cluster;

const CALLERS: &str = "\
AlarmService/ListAlarms: admin
PolicyService/ApplyPolicy: admin
PolicyService/ListPolicies: admin
PolicyService/GetPolicy: admin
PolicyService/RemovePolicy: admin
PolicyService/ListPolicyMembers: admin
PolicyService/SimulatePolicy: admin
PolicyService/ListPolicyPoints: admin
EventService/ListEvents: admin
EventService/WatchEvents: admin
JobService/ListJobs: admin
GuestCredentialService/SetGuestCredential: admin
GuestCredentialService/ListGuestCredentials: admin
GuestCredentialService/RemoveGuestCredential: admin
NodeService/JoinCluster: controller proxy repository admin nobody
NodeService/RenewCertificate: proxy repository admin
NodeService/SendHeartbeat: proxy repository
NodeService/ListNodes: admin
NodeService/RemoveNode: admin
NodeService/DrainProxy: admin
NodeService/UndrainProxy: admin
PointService/ListPoints: admin
PointService/GetPoint: admin
PointService/LockPoint: admin
PointService/DeletePoint: admin
ProbeService/ProbeVm: admin
RepositoryService/ListRepositories: admin
RepositoryService/GetRepository: admin
RepositoryService/StartTask: admin
RepositoryService/WatchTask: admin
RepositoryService/CancelTask: admin
RepositoryService/SubmitStatement: admin
RunService/StartRun: admin
RunService/PlanRestoreVm: admin
RunService/PlanRestoreInPlace: admin
RunService/GetRun: admin
RunService/ListRuns: admin
RunService/WatchRun: admin
RunService/CancelRun: admin
TokenService/CreateToken: admin
VcenterService/AddVcenter: admin
VcenterService/ListVcenters: admin
VcenterService/TestVcenter: admin
VcenterService/RemoveVcenter: admin
VcenterService/ProbeVcenter: admin
VmService/ListVms: admin
VmService/GetVm: admin
VmService/PreflightVm: admin
PointService/GetPointConfiguration: admin
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_and_nobody_reach_what_they_should_and_nothing_else() {
    let mut cluster = Cluster::start().await;
    let keys = cluster.keys();
    let subject = Subject {
        address: &cluster.address,
        role: Role::Controller,
        authority: &keys.authority,
        certificates: ClientCertificates::Optional,
        descriptors: FILE_DESCRIPTOR_SET,
    };
    matrix::check(&subject, CALLERS).await;
    cluster.stop().await;
}
