//! Who may make which call, as the comments of the protocol say.
//!
//! A role is only the first gate: calls of a proxy are checked against its grant as well.

use stillwater_rpc::Access;
use stillwater_types::Role;

const CONTROLLER: &[Role] = &[Role::Controller];
const PROXY: &[Role] = &[Role::Proxy];

/// The roles allowed per call; what is not listed is refused.
pub const ACCESS: &[Access] = &[
    Access::roles(
        "/stillwater.repository.v1.RepositoryService/GetRepository",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.DatasetService/CreateDataset",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.DatasetService/ListDatasets",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.SessionService/OpenSession",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.SessionService/RenewSession",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.SessionService/CloseSession",
        CONTROLLER,
    ),
    Access::roles("/stillwater.repository.v1.RecordService/FindRecords", PROXY),
    Access::roles("/stillwater.repository.v1.RecordService/PutPack", PROXY),
    Access::roles("/stillwater.repository.v1.RecordService/ReadRecords", PROXY),
    Access::roles(
        "/stillwater.repository.v1.PointService/ProposePoint",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.PointService/CommitPoint",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.PointService/ListPoints",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.PointService/GetPoint",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.PointService/LockPoint",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.PointService/DeletePoint",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.RetentionService/GetRetention",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.RetentionService/SubmitStatement",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.UpkeepService/StartTask",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.UpkeepService/GetTask",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.UpkeepService/WatchTask",
        CONTROLLER,
    ),
    Access::roles(
        "/stillwater.repository.v1.UpkeepService/CancelTask",
        CONTROLLER,
    ),
];
