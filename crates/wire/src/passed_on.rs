//! Conversions of what the controller passes on, written down once for both protocols.

/// Converts the messages of [`crate::upkeep`] and [`crate::retention`]. Takes the generated module.
#[macro_export]
macro_rules! passed_on {
    ($pb:ident) => {
        use $crate::retention::{
            LockPointRequest, RepositoryAdmin, Retention, SubmitStatementResponse, WaitingStatement,
        };
        use $crate::upkeep::{
            CollectResult, DamagedExtent, Health, ScrubResult, Task, TaskResult, VerifyResult,
        };

        $crate::wraps! { $pb:
            message WatchTaskResponse.task: Task;
            message CancelTaskResponse.task: Task;
        }

        $crate::alike! { $pb:
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

        $crate::mirror! { $pb:
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
            Task {
                id task_id,
                word kind,
                maybe_id point_id,
                word state,
                plain phase,
                plain done,
                plain total,
                plain unit,
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
            LockPointRequest { id point_id, time until }
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
            SubmitStatementResponse { word state, maybe_message waiting }
        }

        impl From<TaskResult> for $pb::task::Result {
            fn from(domain: TaskResult) -> Self {
                match domain {
                    TaskResult::Scrub(found) => Self::Scrub(found.into()),
                    TaskResult::Collect(found) => Self::Collect(found.into()),
                    TaskResult::Verify(found) => Self::Verify(found.into()),
                }
            }
        }

        impl TryFrom<$pb::task::Result> for TaskResult {
            type Error = $crate::FieldError;

            fn try_from(message: $pb::task::Result) -> Result<Self, Self::Error> {
                Ok(match message {
                    $pb::task::Result::Scrub(found) => Self::Scrub(found.try_into()?),
                    $pb::task::Result::Collect(found) => Self::Collect(found.try_into()?),
                    $pb::task::Result::Verify(found) => Self::Verify(found.try_into()?),
                })
            }
        }

        #[cfg(test)]
        mod numbers {
            use $crate::Word;
            use $crate::retention::StatementState;
            use $crate::upkeep::{TaskKind, TaskState};

            use super::$pb;

            #[test]
            fn both_protocols_count_alike() {
                let pairs = [
                    (TaskKind::Scrub.number(), $pb::TaskKind::Scrub as i32),
                    (TaskKind::Collect.number(), $pb::TaskKind::Collect as i32),
                    (TaskKind::Verify.number(), $pb::TaskKind::Verify as i32),
                    (TaskState::Running.number(), $pb::TaskState::Running as i32),
                    (
                        TaskState::Succeeded.number(),
                        $pb::TaskState::Succeeded as i32,
                    ),
                    (TaskState::Failed.number(), $pb::TaskState::Failed as i32),
                    (
                        TaskState::Cancelled.number(),
                        $pb::TaskState::Cancelled as i32,
                    ),
                    (
                        StatementState::Waiting.number(),
                        $pb::StatementState::Waiting as i32,
                    ),
                    (
                        StatementState::Done.number(),
                        $pb::StatementState::Done as i32,
                    ),
                    (
                        StatementState::Vetoed.number(),
                        $pb::StatementState::Vetoed as i32,
                    ),
                ];
                for (ours, theirs) in pairs {
                    assert_eq!(ours, theirs);
                }
            }
        }
    };
}
