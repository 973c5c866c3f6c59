//! Tasks, and how sound the repository is.

use stillwater_types::TaskId;
use stillwater_wire::{FieldError, alike, mirror, told_fault, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb:
    TaskKind { Scrub, Collect, Verify }
    TaskState { Running, Succeeded, Failed, Cancelled }
}

told_fault! { pb: TaskFault }

wraps! { pb:
    message StartTaskResponse.task: Task;
    message GetTaskResponse.task: Task;
    message WatchTaskResponse.task: Task;
    message CancelTaskResponse.task: Task;
    id GetTaskRequest.task_id: TaskId;
    id WatchTaskRequest.task_id: TaskId;
    id CancelTaskRequest.task_id: TaskId;
}

alike! { pb:
    ScrubResult {
        pack_count,
        read_bytes,
        damaged_pack_count,
        lost_record_count,
        salvaged_record_count,
    }
    CollectResult {
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
    DamagedExtent { disk_key, offset_bytes, length_bytes }
}

mirror! { pb:
    Health {
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
    StartTaskRequest { id task_id, word kind, maybe_id point_id, plain all }
    Task {
        id task_id,
        word kind,
        maybe_id point_id,
        word state,
        plain phase,
        plain done_bytes,
        plain total_bytes,
        time started_at,
        maybe_time ended_at,
        maybe_message result,
        maybe_fault fault,
    }
    VerifyResult {
        plain whole,
        plain read_bytes,
        messages extents,
        plain damaged_extent_count,
        plain damaged_bytes,
    }
}

impl From<TaskResult> for pb::task::Result {
    fn from(domain: TaskResult) -> Self {
        match domain {
            TaskResult::Scrub(found) => Self::Scrub(found.into()),
            TaskResult::Collect(found) => Self::Collect(found.into()),
            TaskResult::Verify(found) => Self::Verify(found.into()),
        }
    }
}

impl TryFrom<pb::task::Result> for TaskResult {
    type Error = FieldError;

    fn try_from(message: pb::task::Result) -> Result<Self, FieldError> {
        Ok(match message {
            pb::task::Result::Scrub(found) => Self::Scrub(found.try_into()?),
            pb::task::Result::Collect(found) => Self::Collect(found.try_into()?),
            pb::task::Result::Verify(found) => Self::Verify(found.try_into()?),
        })
    }
}
