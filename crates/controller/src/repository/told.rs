//! A repository's words in the words of the controller.

use stillwater_controller_api as api;
use stillwater_repository_api as repository_api;

pub(super) fn usage(repository: repository_api::Repository) -> api::RepositoryUsage {
    let repository_api::Repository {
        node_id: _,
        writable_bytes,
        capacity_bytes,
        stored_bytes,
        chunk_count,
        point_count,
        format_version,
        health,
    } = repository;
    api::RepositoryUsage {
        writable_bytes,
        capacity_bytes,
        stored_bytes,
        chunk_count,
        point_count,
        format_version,
        verified_since: health.verified_since,
        overdue_bytes: health.overdue_bytes,
        damaged_pack_count: health.damaged_pack_count,
        lost_record_count: health.lost_record_count,
        degraded_point_ids: health.degraded_point_ids,
        degraded_point_count: health.degraded_point_count,
        condemned_bytes: health.condemned_bytes,
        quarantined_bytes: health.quarantined_bytes,
        collected_at: health.collected_at,
        held: health.held,
    }
}

pub(super) fn retention(retention: repository_api::Retention) -> api::RepositoryRetention {
    let repository_api::Retention {
        floor_seconds,
        configured_floor_seconds,
        demanded_floor_seconds,
        trusted_time,
        wall_time,
        frozen,
        admins,
        waiting,
    } = retention;
    let admins = admins.into_iter().map(|admin| api::RepositoryAdmin {
        key: admin.key,
        label: admin.label,
        since: admin.since,
    });
    api::RepositoryRetention {
        floor_seconds,
        configured_floor_seconds,
        demanded_floor_seconds,
        trusted_time,
        wall_time,
        frozen,
        admins: admins.collect(),
        waiting: waiting.into_iter().map(self::waiting).collect(),
    }
}

fn waiting(statement: repository_api::WaitingStatement) -> api::WaitingStatement {
    let repository_api::WaitingStatement {
        statement_id,
        demand,
        signers,
        needed_signer_count,
        effective_at,
    } = statement;
    api::WaitingStatement {
        statement_id,
        demand,
        signers,
        needed_signer_count,
        effective_at,
    }
}

pub(super) fn submitted(
    answer: repository_api::SubmitStatementResponse,
) -> api::SubmitStatementResponse {
    let state = match answer.state {
        repository_api::StatementState::Waiting => api::StatementState::Waiting,
        repository_api::StatementState::Done => api::StatementState::Done,
        repository_api::StatementState::Vetoed => api::StatementState::Vetoed,
    };
    api::SubmitStatementResponse {
        state,
        waiting: answer.waiting.map(waiting),
    }
}

pub(super) const fn asked_kind(kind: api::TaskKind) -> repository_api::TaskKind {
    match kind {
        api::TaskKind::Scrub => repository_api::TaskKind::Scrub,
        api::TaskKind::Collect => repository_api::TaskKind::Collect,
        api::TaskKind::Verify => repository_api::TaskKind::Verify,
    }
}

pub(super) fn task(task: repository_api::Task) -> api::Task {
    let repository_api::Task {
        task_id,
        kind,
        point_id,
        state,
        phase,
        done_bytes,
        total_bytes,
        started_at,
        ended_at,
        result,
        fault,
    } = task;
    api::Task {
        task_id,
        kind: told_kind(kind),
        point_id,
        state: told_state(state),
        phase,
        done_bytes,
        total_bytes,
        started_at,
        ended_at,
        result: result.map(told_result),
        fault,
    }
}

const fn told_kind(kind: repository_api::TaskKind) -> api::TaskKind {
    match kind {
        repository_api::TaskKind::Scrub => api::TaskKind::Scrub,
        repository_api::TaskKind::Collect => api::TaskKind::Collect,
        repository_api::TaskKind::Verify => api::TaskKind::Verify,
    }
}

const fn told_state(state: repository_api::TaskState) -> api::TaskState {
    match state {
        repository_api::TaskState::Running => api::TaskState::Running,
        repository_api::TaskState::Succeeded => api::TaskState::Succeeded,
        repository_api::TaskState::Failed => api::TaskState::Failed,
        repository_api::TaskState::Cancelled => api::TaskState::Cancelled,
    }
}

fn told_result(result: repository_api::TaskResult) -> api::TaskResult {
    match result {
        repository_api::TaskResult::Scrub(found) => api::TaskResult::Scrub(scrub(found)),
        repository_api::TaskResult::Collect(found) => api::TaskResult::Collect(collect(found)),
        repository_api::TaskResult::Verify(found) => api::TaskResult::Verify(verify(found)),
    }
}

const fn scrub(found: repository_api::ScrubResult) -> api::ScrubResult {
    let repository_api::ScrubResult {
        pack_count,
        read_bytes,
        damaged_pack_count,
        lost_record_count,
        salvaged_record_count,
    } = found;
    api::ScrubResult {
        pack_count,
        read_bytes,
        damaged_pack_count,
        lost_record_count,
        salvaged_record_count,
    }
}

fn collect(found: repository_api::CollectResult) -> api::CollectResult {
    let repository_api::CollectResult {
        live_bytes,
        stored_bytes,
        condemned_pack_count,
        condemned_bytes,
        spared_pack_count,
        quarantined_pack_count,
        removed_pack_count,
        removed_bytes,
        compacted_bytes,
        held,
        held_bytes,
    } = found;
    api::CollectResult {
        live_bytes,
        stored_bytes,
        condemned_pack_count,
        condemned_bytes,
        spared_pack_count,
        quarantined_pack_count,
        removed_pack_count,
        removed_bytes,
        compacted_bytes,
        held,
        held_bytes,
    }
}

fn verify(found: repository_api::VerifyResult) -> api::VerifyResult {
    let repository_api::VerifyResult {
        whole,
        read_bytes,
        extents,
        damaged_extent_count,
        damaged_bytes,
    } = found;
    let extents = extents.into_iter().map(|extent| api::DamagedExtent {
        disk_key: extent.disk_key,
        offset_bytes: extent.offset_bytes,
        length_bytes: extent.length_bytes,
    });
    api::VerifyResult {
        whole,
        read_bytes,
        extents: extents.collect(),
        damaged_extent_count,
        damaged_bytes,
    }
}
