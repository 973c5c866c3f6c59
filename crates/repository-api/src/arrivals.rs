//! What arrives, by name: for tests that throw bytes at the protocol.

use stillwater_types::{PointId, TaskId};
use stillwater_wire::arrivals;

use crate::model::*;
use crate::pb;

arrivals! { pb:
    CancelTaskRequest => TaskId,
    CancelTaskResponse => Task,
    CloseSessionRequest => CloseSessionRequest,
    CloseSessionResponse => (),
    CommitPointRequest => CommitPointRequest,
    CommitPointResponse => Point,
    CreateDatasetRequest => Dataset,
    CreateDatasetResponse => Dataset,
    DeletePointRequest => PointId,
    DeletePointResponse => (),
    FindRecordsRequest => FindRecordsRequest,
    FindRecordsResponse => FindRecordsResponse,
    GetPointRequest => PointId,
    GetPointResponse => GetPointResponse,
    GetRepositoryRequest => (),
    GetRepositoryResponse => Repository,
    GetRetentionRequest => (),
    GetRetentionResponse => Retention,
    GetTaskRequest => TaskId,
    GetTaskResponse => Task,
    ListDatasetsRequest => (),
    ListDatasetsResponse => Vec<Dataset>,
    ListPointsRequest => ListPointsRequest,
    ListPointsResponse => ListPointsResponse,
    LockPointRequest => LockPointRequest,
    LockPointResponse => Point,
    OpenSessionRequest => OpenSessionRequest,
    OpenSessionResponse => Session,
    ProposePointRequest => ProposePointRequest,
    ProposePointResponse => ProposePointResponse,
    PutPackRequest => PackHeader,
    PutPackResponse => PutPackResponse,
    ReadRecordsRequest => ReadRecordsRequest,
    ReadRecordsResponse => ReadRecordsResponse,
    RenewSessionRequest => RenewSessionRequest,
    RenewSessionResponse => Session,
    StartTaskRequest => StartTaskRequest,
    StartTaskResponse => Task,
    SubmitStatementRequest => SubmitStatementRequest,
    SubmitStatementResponse => SubmitStatementResponse,
    WatchTaskRequest => TaskId,
    WatchTaskResponse => Task,
}

/// Takes bytes as a part of a pack behind its header, which is of the same message.
pub fn arrive_part(bytes: &[u8]) -> stillwater_wire::arrive::Arrival {
    stillwater_wire::arrive::arrive::<pb::PutPackRequest, PackPart>(bytes)
}
