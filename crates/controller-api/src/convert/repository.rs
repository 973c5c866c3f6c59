//! Repositories, their tasks, and what they protect.

use stillwater_types::{NodeId, PointId};
use stillwater_wire::{empty, mirror, wraps};

use crate::model::{
    CancelTaskRequest, GetRepositoryResponse, Point, Repository, RepositoryUsage,
    STATEMENT_BYTES_MAX, StartTaskRequest, StartTaskResponse, SubmitStatementRequest,
    WatchTaskRequest,
};
use crate::pb;

stillwater_wire::passed_on!(pb);

empty! { pb: ListRepositoriesRequest DeletePointResponse }

wraps! { pb:
    messages ListRepositoriesResponse.repositories: Vec<Repository>;
    id GetRepositoryRequest.node_id: NodeId;
    id DeletePointRequest.point_id: PointId;
    message LockPointResponse.point: Point;
}

mirror! { pb:
    Repository {
        id node_id,
        text name,
        plain address,
        plain online,
        maybe_message usage,
        maybe_fault fault,
    }
    RepositoryUsage {
        plain writable_bytes,
        plain capacity_bytes,
        plain stored_bytes,
        plain chunk_count,
        plain point_count,
        plain format_version,
        message health,
    }
    GetRepositoryResponse { message repository, message retention }
    StartTaskRequest { id task_id, word kind, maybe_id node_id, maybe_id point_id, plain all }
    StartTaskResponse { message task, id node_id }
    WatchTaskRequest { id node_id, id task_id }
    CancelTaskRequest { id node_id, id task_id }
    SubmitStatementRequest {
        id node_id,
        bytes[STATEMENT_BYTES_MAX] statement,
        hash key,
        hash signature,
    }
}
