//! Who may make which call, as the comments of the protocol say.

use stillwater_rpc::Access;
use stillwater_types::Role;

const ADMIN: &[Role] = &[Role::Admin];
const SERVERS: &[Role] = &[Role::Proxy, Role::Repository];

/// The roles allowed per call; what is not listed is refused.
pub const ACCESS: &[Access] = &[
    Access::roles("/stillwater.controller.v1.RunService/StartRun", ADMIN),
    Access::roles("/stillwater.controller.v1.RunService/PlanRestoreVm", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.RunService/PlanRestoreInPlace",
        ADMIN,
    ),
    Access::roles("/stillwater.controller.v1.RunService/GetRun", ADMIN),
    Access::roles("/stillwater.controller.v1.RunService/ListRuns", ADMIN),
    Access::roles("/stillwater.controller.v1.RunService/WatchRun", ADMIN),
    Access::roles("/stillwater.controller.v1.RunService/CancelRun", ADMIN),
    Access::anyone("/stillwater.controller.v1.NodeService/JoinCluster"),
    Access::roles(
        "/stillwater.controller.v1.NodeService/RenewCertificate",
        &[Role::Proxy, Role::Repository, Role::Admin],
    ),
    Access::roles(
        "/stillwater.controller.v1.NodeService/SendHeartbeat",
        SERVERS,
    ),
    Access::roles("/stillwater.controller.v1.NodeService/ListNodes", ADMIN),
    Access::roles("/stillwater.controller.v1.NodeService/RemoveNode", ADMIN),
    Access::roles("/stillwater.controller.v1.NodeService/DrainProxy", ADMIN),
    Access::roles("/stillwater.controller.v1.NodeService/UndrainProxy", ADMIN),
    Access::roles("/stillwater.controller.v1.TokenService/CreateToken", ADMIN),
    Access::roles("/stillwater.controller.v1.PointService/ListPoints", ADMIN),
    Access::roles("/stillwater.controller.v1.PointService/GetPoint", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.PointService/GetPointConfiguration",
        ADMIN,
    ),
    Access::roles("/stillwater.controller.v1.ProbeService/ProbeVm", ADMIN),
    Access::roles("/stillwater.controller.v1.VmService/PreflightVm", ADMIN),
    Access::roles("/stillwater.controller.v1.VmService/ListVms", ADMIN),
    Access::roles("/stillwater.controller.v1.VmService/GetVm", ADMIN),
    Access::roles("/stillwater.controller.v1.VcenterService/AddVcenter", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.VcenterService/ListVcenters",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.VcenterService/TestVcenter",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.VcenterService/RemoveVcenter",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.VcenterService/ProbeVcenter",
        ADMIN,
    ),
    Access::roles("/stillwater.controller.v1.AlarmService/ListAlarms", ADMIN),
    Access::roles("/stillwater.controller.v1.EventService/ListEvents", ADMIN),
    Access::roles("/stillwater.controller.v1.EventService/WatchEvents", ADMIN),
    Access::roles("/stillwater.controller.v1.JobService/ListJobs", ADMIN),
    Access::roles("/stillwater.controller.v1.PolicyService/ApplyPolicy", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.PolicyService/ListPolicies",
        ADMIN,
    ),
    Access::roles("/stillwater.controller.v1.PolicyService/GetPolicy", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.PolicyService/RemovePolicy",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.PolicyService/ListPolicyMembers",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.PolicyService/SimulatePolicy",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.PolicyService/ListPolicyPoints",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.GuestCredentialService/SetGuestCredential",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.GuestCredentialService/ListGuestCredentials",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.GuestCredentialService/RemoveGuestCredential",
        ADMIN,
    ),
    Access::roles("/stillwater.controller.v1.PointService/LockPoint", ADMIN),
    Access::roles("/stillwater.controller.v1.PointService/DeletePoint", ADMIN),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/ListRepositories",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/GetRepository",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/StartTask",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/WatchTask",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/CancelTask",
        ADMIN,
    ),
    Access::roles(
        "/stillwater.controller.v1.RepositoryService/SubmitStatement",
        ADMIN,
    ),
];
