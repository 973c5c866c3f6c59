//! Tasks, how sound the repository is, what it protects, and statements.

use stillwater_types::TaskId;
use stillwater_wire::{empty, mirror, told_fault, wraps};

use crate::model::{STATEMENT_BYTES_MAX, StartTaskRequest, SubmitStatementRequest};
use crate::pb;

stillwater_wire::passed_on!(pb);

told_fault! { pb: TaskFault }

empty! { pb: GetRetentionRequest }

wraps! { pb:
    message StartTaskResponse.task: Task;
    message GetTaskResponse.task: Task;
    message GetRetentionResponse.retention: Retention;
    id GetTaskRequest.task_id: TaskId;
    id WatchTaskRequest.task_id: TaskId;
    id CancelTaskRequest.task_id: TaskId;
}

mirror! { pb:
    StartTaskRequest { id task_id, word kind, maybe_id point_id, plain all }
    SubmitStatementRequest { bytes[STATEMENT_BYTES_MAX] statement, hash key, hash signature }
}
