//! What the repository protects, and statements.

use stillwater_wire::{empty, mirror, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: StatementState { Waiting, Done, Vetoed } }

empty! { pb: GetRetentionRequest }

wraps! { pb: message GetRetentionResponse.retention: Retention; }

mirror! { pb:
    Retention {
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
    SubmitStatementRequest { bytes[STATEMENT_BYTES_MAX] statement, hash key, hash signature }
    SubmitStatementResponse { word state, maybe_message waiting }
}
