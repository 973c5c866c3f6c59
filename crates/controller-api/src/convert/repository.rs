//! Repositories and what they protect.

use stillwater_types::{NodeId, PointId};
use stillwater_wire::{empty, mirror, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: StatementState { Waiting, Done, Vetoed } }

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
        maybe_time verified_since,
        plain overdue_bytes,
        plain damaged_pack_count,
        plain lost_record_count,
        ids degraded_point_ids,
        plain degraded_point_count,
        plain condemned_bytes,
        plain quarantined_bytes,
        maybe_time collected_at,
        plain held,
    }
    GetRepositoryResponse { message repository, message retention }
    RepositoryRetention {
        plain floor_seconds,
        plain configured_floor_seconds,
        plain demanded_floor_seconds,
        time trusted_time,
        time wall_time,
        plain frozen,
        messages admins,
        messages waiting,
    }
    RepositoryAdmin { hash key, plain label, time since }
    WaitingStatement {
        hash statement_id,
        plain demand,
        hashes signers,
        plain needed_signer_count,
        maybe_time effective_at,
    }
    SubmitStatementRequest {
        id node_id,
        bytes[STATEMENT_BYTES_MAX] statement,
        hash key,
        hash signature,
    }
    SubmitStatementResponse { word state, maybe_message waiting }
    LockPointRequest { id point_id, time until }
}
