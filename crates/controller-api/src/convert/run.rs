//! Runs.

use bytes::Bytes;
use stillwater_types::{Fault, RunId};
use stillwater_wire::{FieldError, Word, alike, field, mirror, told_fault, words, wraps};

use crate::model::*;
use crate::{Ticket, pb};

words! { pb:
    RunState { Pending, Running, Succeeded, Incomplete, Failed, Cancelled }
    RunPhase {
        Planning,
        Reserving,
        Freezing,
        Mapping,
        Transferring,
        Proposing,
        Releasing,
        Committing,
        CreatingVm,
        CleaningUp,
    }
}

alike! { pb:
    RunDisk {
        key,
        label,
        length_bytes,
        done_bytes,
        read_bytes,
        new_bytes,
        sent_bytes,
        hole_bytes,
        chunk_count,
        new_chunk_count,
        transport,
        proxy_name,
        reading,
        reading_reason,
        transport_reason,
    }
}

wraps! { pb:
    id GetRunRequest.run_id: RunId;
    id WatchRunRequest.run_id: RunId;
    id CancelRunRequest.run_id: RunId;
    message StartRunResponse.run: Run;
    message GetRunResponse.run: Run;
    message WatchRunResponse.run: Run;
    message CancelRunResponse.run: Run;
}

impl From<Run> for pb::Run {
    fn from(domain: Run) -> Self {
        let Run {
            run_id,
            kind,
            state,
            phase,
            disks,
            started_at,
            ended_at,
            fault,
            warnings,
            phases,
        } = domain;
        let kind = match kind {
            RunKind::Backup(run) => pb::run::Kind::Backup(run.into()),
            RunKind::RestoreVm(run) => pb::run::Kind::RestoreVm(run.into()),
            RunKind::ExportDisk(run) => pb::run::Kind::ExportDisk(run.into()),
            RunKind::VerifyPoint(run) => pb::run::Kind::VerifyPoint(run.into()),
            RunKind::RestoreInPlace(run) => pb::run::Kind::RestoreInPlace(run.into()),
        };
        Self {
            run_id: run_id.to_string(),
            kind: Some(kind),
            state: state.number(),
            phase: phase.map_or(0, Word::number),
            disks: disks.into_iter().map(Into::into).collect(),
            started_at: Some(field::moment(started_at)),
            ended_at: ended_at.map(field::moment),
            fault: fault.map(Into::into),
            warnings: warnings.into_iter().map(Into::into).collect(),
            phases: phases.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Run> for Run {
    type Error = FieldError;

    fn try_from(message: pb::Run) -> Result<Self, FieldError> {
        let pb::Run {
            run_id,
            kind,
            state,
            phase,
            disks,
            started_at,
            ended_at,
            fault,
            warnings,
            phases,
        } = message;
        let kind = match field::choice("kind", kind)? {
            pb::run::Kind::Backup(run) => {
                RunKind::Backup(run.try_into().map_err(|e: FieldError| e.within("backup"))?)
            }
            pb::run::Kind::RestoreVm(run) => RunKind::RestoreVm(
                run.try_into()
                    .map_err(|e: FieldError| e.within("restore_vm"))?,
            ),
            pb::run::Kind::ExportDisk(run) => RunKind::ExportDisk(
                run.try_into()
                    .map_err(|e: FieldError| e.within("export_disk"))?,
            ),
            pb::run::Kind::VerifyPoint(run) => RunKind::VerifyPoint(
                run.try_into()
                    .map_err(|e: FieldError| e.within("verify_point"))?,
            ),
            pb::run::Kind::RestoreInPlace(run) => RunKind::RestoreInPlace(
                run.try_into()
                    .map_err(|e: FieldError| e.within("restore_in_place"))?,
            ),
        };
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            kind,
            state: field::word("state", state)?,
            phase: field::maybe_word("phase", phase)?,
            disks: field::messages("disks", disks)?,
            started_at: field::time("started_at", started_at)?,
            ended_at: field::maybe_time("ended_at", ended_at)?,
            fault: fault.map(Fault::from),
            warnings: warnings.into_iter().map(Fault::from).collect(),
            phases: field::messages("phases", phases)?,
        })
    }
}

impl From<RunPhaseStart> for pb::RunPhaseStart {
    fn from(domain: RunPhaseStart) -> Self {
        Self {
            phase: domain.phase.number(),
            started_at: Some(field::moment(domain.started_at)),
        }
    }
}

impl TryFrom<pb::RunPhaseStart> for RunPhaseStart {
    type Error = FieldError;

    fn try_from(message: pb::RunPhaseStart) -> Result<Self, FieldError> {
        Ok(Self {
            phase: field::word("phase", message.phase)?,
            started_at: field::time("started_at", message.started_at)?,
        })
    }
}

told_fault! { pb: RunFault }

impl From<BackupRun> for pb::BackupRun {
    fn from(domain: BackupRun) -> Self {
        let BackupRun {
            vm_id,
            vm_name,
            point_id,
        } = domain;
        Self {
            vm_id: vm_id.to_string(),
            vm_name,
            point_id: point_id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::BackupRun> for BackupRun {
    type Error = FieldError;

    fn try_from(message: pb::BackupRun) -> Result<Self, FieldError> {
        let pb::BackupRun {
            vm_id,
            vm_name,
            point_id,
        } = message;
        Ok(Self {
            vm_id: field::id("vm_id", &vm_id)?,
            vm_name,
            point_id: field::maybe_id("point_id", &point_id)?,
        })
    }
}

impl From<RestoreVmRun> for pb::RestoreVmRun {
    fn from(domain: RestoreVmRun) -> Self {
        let RestoreVmRun {
            point_id,
            vm_name,
            vm_id,
        } = domain;
        Self {
            point_id: point_id.to_string(),
            vm_name,
            vm_id: vm_id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::RestoreVmRun> for RestoreVmRun {
    type Error = FieldError;

    fn try_from(message: pb::RestoreVmRun) -> Result<Self, FieldError> {
        let pb::RestoreVmRun {
            point_id,
            vm_name,
            vm_id,
        } = message;
        Ok(Self {
            point_id: field::id("point_id", &point_id)?,
            vm_name,
            vm_id: field::maybe_id("vm_id", &vm_id)?,
        })
    }
}

impl From<ExportDiskRun> for pb::ExportDiskRun {
    fn from(domain: ExportDiskRun) -> Self {
        let ExportDiskRun {
            point_id,
            disk_key,
            access,
        } = domain;
        Self {
            point_id: point_id.to_string(),
            disk_key,
            access: access.map(Into::into),
        }
    }
}

impl TryFrom<pb::ExportDiskRun> for ExportDiskRun {
    type Error = FieldError;

    fn try_from(message: pb::ExportDiskRun) -> Result<Self, FieldError> {
        let pb::ExportDiskRun {
            point_id,
            disk_key,
            access,
        } = message;
        Ok(Self {
            point_id: field::id("point_id", &point_id)?,
            disk_key,
            access: field::maybe_message("access", access)?,
        })
    }
}

impl From<ExportAccess> for pb::ExportAccess {
    fn from(domain: ExportAccess) -> Self {
        let ExportAccess {
            export_id,
            proxy_node_id,
            address,
            ticket,
        } = domain;
        Self {
            export_id: export_id.to_string(),
            proxy_node_id: proxy_node_id.to_string(),
            address,
            ticket: Bytes::copy_from_slice(ticket.expose()),
        }
    }
}

impl TryFrom<pb::ExportAccess> for ExportAccess {
    type Error = FieldError;

    fn try_from(message: pb::ExportAccess) -> Result<Self, FieldError> {
        let pb::ExportAccess {
            export_id,
            proxy_node_id,
            address,
            ticket,
        } = message;
        Ok(Self {
            export_id: field::id("export_id", &export_id)?,
            proxy_node_id: field::id("proxy_node_id", &proxy_node_id)?,
            address: field::text("address", address)?,
            ticket: Ticket::new(field::hash("ticket", &ticket)?),
        })
    }
}

impl From<StartRunRequest> for pb::StartRunRequest {
    fn from(domain: StartRunRequest) -> Self {
        let StartRunRequest { request_id, kind } = domain;
        let kind = match kind {
            StartKind::Backup(start) => pb::start_run_request::Kind::Backup(start.into()),
            StartKind::RestoreVm(start) => pb::start_run_request::Kind::RestoreVm(start.into()),
            StartKind::ExportDisk(start) => pb::start_run_request::Kind::ExportDisk(start.into()),
            StartKind::VerifyPoint(start) => pb::start_run_request::Kind::VerifyPoint(start.into()),
            StartKind::RestoreInPlace(start) => {
                pb::start_run_request::Kind::RestoreInPlace(start.into())
            }
        };
        Self {
            request_id: request_id.to_string(),
            kind: Some(kind),
        }
    }
}

impl TryFrom<pb::StartRunRequest> for StartRunRequest {
    type Error = FieldError;

    fn try_from(message: pb::StartRunRequest) -> Result<Self, FieldError> {
        let pb::StartRunRequest { request_id, kind } = message;
        let kind = match field::choice("kind", kind)? {
            pb::start_run_request::Kind::Backup(start) => StartKind::Backup(
                start
                    .try_into()
                    .map_err(|e: FieldError| e.within("backup"))?,
            ),
            pb::start_run_request::Kind::RestoreVm(start) => StartKind::RestoreVm(
                start
                    .try_into()
                    .map_err(|e: FieldError| e.within("restore_vm"))?,
            ),
            pb::start_run_request::Kind::ExportDisk(start) => StartKind::ExportDisk(
                start
                    .try_into()
                    .map_err(|e: FieldError| e.within("export_disk"))?,
            ),
            pb::start_run_request::Kind::VerifyPoint(start) => StartKind::VerifyPoint(
                start
                    .try_into()
                    .map_err(|e: FieldError| e.within("verify_point"))?,
            ),
            pb::start_run_request::Kind::RestoreInPlace(start) => StartKind::RestoreInPlace(
                start
                    .try_into()
                    .map_err(|e: FieldError| e.within("restore_in_place"))?,
            ),
        };
        Ok(Self {
            request_id: field::id("request_id", &request_id)?,
            kind,
        })
    }
}

mirror! { pb:
    ListRunsRequest {
        page[(PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)] page_size,
        maybe_text page_token,
    }
    StartBackup {
        text vm,
        plain exclude_disk_keys,
        plain full_read,
        messages quiesce,
        messages hooks,
        plain hook_budget_seconds,
        plain ways,
    }
    QuiesceRung { word level, plain tries, plain budget_minutes }
    StartVerifyPoint { id point_id }
    VerifyPointRun {
        id point_id,
        plain vm_name,
        plain damaged_bytes,
        plain damaged_chunk_count,
    }
}

impl From<StartExportDisk> for pb::StartExportDisk {
    fn from(domain: StartExportDisk) -> Self {
        let StartExportDisk { point_id, disk_key } = domain;
        Self {
            point_id: point_id.to_string(),
            disk_key,
        }
    }
}

impl TryFrom<pb::StartExportDisk> for StartExportDisk {
    type Error = FieldError;

    fn try_from(message: pb::StartExportDisk) -> Result<Self, FieldError> {
        let pb::StartExportDisk { point_id, disk_key } = message;
        Ok(Self {
            point_id: field::id("point_id", &point_id)?,
            disk_key,
        })
    }
}

impl From<ListRunsResponse> for pb::ListRunsResponse {
    fn from(domain: ListRunsResponse) -> Self {
        let ListRunsResponse {
            runs,
            next_page_token,
        } = domain;
        Self {
            runs: runs.into_iter().map(Into::into).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListRunsResponse> for ListRunsResponse {
    type Error = FieldError;

    fn try_from(message: pb::ListRunsResponse) -> Result<Self, FieldError> {
        let pb::ListRunsResponse {
            runs,
            next_page_token,
        } = message;
        Ok(Self {
            runs: field::messages("runs", runs)?,
            next_page_token: field::maybe_text(next_page_token),
        })
    }
}
