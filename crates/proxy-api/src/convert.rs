//! Wire to domain and back: checked on receipt, never on sending.

mod disk;
mod reading;

use bytes::Bytes;
use stillwater_types::{ExportId, Fault, TransferId, TreeId};
use stillwater_wire::{FieldError, Word, alike, empty, field, words, wraps};

use crate::model::*;
use crate::{DatasetKey, Ticket, pb};

words! { pb: TransferState { Running, Succeeded, Failed, Cancelled } }

empty! { pb: FinishExportResponse }

wraps! { pb:
    message StartTransferResponse.transfer: Transfer;
    message GetTransferResponse.transfer: Transfer;
    message WatchTransferResponse.transfer: Transfer;
    message CancelTransferResponse.transfer: Transfer;
    id CloseExportRequest.export_id: ExportId;
    id GetTransferRequest.transfer_id: TransferId;
    id WatchTransferRequest.transfer_id: TransferId;
    id CancelTransferRequest.transfer_id: TransferId;
}

alike! { pb:
    TransferProgress {
        done_bytes,
        length_bytes,
        read_bytes,
        new_bytes,
        sent_bytes,
        chunk_count,
        new_chunk_count,
        hole_bytes,
    }
    ExportHeader { length_bytes }
    ExportFinish { data_bytes }
    ExportArea { offset_bytes, length_bytes }
    OpenExportResponse { completed, reading }
    CloseExportResponse { completed }
    ProbeDiskResponse {
        read_bytes,
        elapsed_micros,
        open_micros,
        latency_median_micros,
        latency_p99_micros,
    }
}

impl From<Transfer> for pb::Transfer {
    fn from(domain: Transfer) -> Self {
        let Transfer {
            transfer_id,
            state,
            progress,
            root,
            fault,
            findings,
        } = domain;
        Self {
            transfer_id: transfer_id.to_string(),
            state: state.number(),
            progress: Some(progress.into()),
            root: root.map(Into::into),
            fault: fault.map(Into::into),
            findings: findings.map(Into::into),
        }
    }
}

impl TryFrom<pb::Transfer> for Transfer {
    type Error = FieldError;

    fn try_from(message: pb::Transfer) -> Result<Self, FieldError> {
        let pb::Transfer {
            transfer_id,
            state,
            progress,
            root,
            fault,
            findings,
        } = message;
        Ok(Self {
            transfer_id: field::id("transfer_id", &transfer_id)?,
            state: field::word("state", state)?,
            progress: field::message("progress", progress)?,
            root: field::maybe_message("root", root)?,
            fault: fault.map(Fault::from),
            findings: field::maybe_message("findings", findings)?,
        })
    }
}

impl From<Fault> for pb::TransferFault {
    fn from(fault: Fault) -> Self {
        let Fault {
            reason,
            message,
            details,
        } = fault;
        Self {
            reason: reason.as_str().to_owned(),
            message,
            details,
        }
    }
}

impl From<pb::TransferFault> for Fault {
    fn from(message: pb::TransferFault) -> Self {
        let pb::TransferFault {
            reason,
            message,
            details,
        } = message;
        field::fault(&reason, message, details)
    }
}

impl From<DiskRoot> for pb::DiskRoot {
    fn from(domain: DiskRoot) -> Self {
        let DiskRoot {
            length_bytes,
            cutter,
            top,
            level,
        } = domain;
        Self {
            length_bytes,
            cutter,
            top: Bytes::copy_from_slice(top.as_bytes()),
            level,
        }
    }
}

impl TryFrom<pb::DiskRoot> for DiskRoot {
    type Error = FieldError;

    fn try_from(message: pb::DiskRoot) -> Result<Self, FieldError> {
        let pb::DiskRoot {
            length_bytes,
            cutter,
            top,
            level,
        } = message;
        Ok(Self {
            length_bytes,
            cutter: field::text("cutter", cutter)?,
            top: TreeId::from_bytes(field::hash("top", &top)?),
            level,
        })
    }
}

impl From<Store> for pb::Store {
    fn from(domain: Store) -> Self {
        let Store {
            repository_node_id,
            address,
            dataset_id,
            dataset_key,
            grant,
            run_id,
            fence,
        } = domain;
        Self {
            repository_node_id: repository_node_id.to_string(),
            address,
            dataset_id: dataset_id.to_string(),
            dataset_key: Bytes::copy_from_slice(dataset_key.expose()),
            grant,
            run_id: run_id.to_string(),
            fence,
        }
    }
}

impl TryFrom<pb::Store> for Store {
    type Error = FieldError;

    fn try_from(message: pb::Store) -> Result<Self, FieldError> {
        let pb::Store {
            repository_node_id,
            address,
            dataset_id,
            dataset_key,
            grant,
            run_id,
            fence,
        } = message;
        Ok(Self {
            repository_node_id: field::id("repository_node_id", &repository_node_id)?,
            address: field::text("address", address)?,
            dataset_id: field::id("dataset_id", &dataset_id)?,
            dataset_key: DatasetKey::new(field::hash("dataset_key", &dataset_key)?),
            grant: field::bytes("grant", grant, GRANT_BYTES_MAX)?,
            run_id: field::id("run_id", &run_id)?,
            fence,
        })
    }
}

impl From<Restore> for pb::Restore {
    fn from(domain: Restore) -> Self {
        let Restore { root, target } = domain;
        Self {
            root: Some(root.into()),
            target: Some(target.into()),
        }
    }
}

impl TryFrom<pb::Restore> for Restore {
    type Error = FieldError;

    fn try_from(message: pb::Restore) -> Result<Self, FieldError> {
        let pb::Restore { root, target } = message;
        Ok(Self {
            root: field::message("root", root)?,
            target: field::message("target", target)?,
        })
    }
}

impl From<Verify> for pb::Verify {
    fn from(domain: Verify) -> Self {
        let Verify { root } = domain;
        Self {
            root: Some(root.into()),
        }
    }
}

impl TryFrom<pb::Verify> for Verify {
    type Error = FieldError;

    fn try_from(message: pb::Verify) -> Result<Self, FieldError> {
        let pb::Verify { root } = message;
        Ok(Self {
            root: field::message("root", root)?,
        })
    }
}

impl From<StartTransferRequest> for pb::StartTransferRequest {
    fn from(domain: StartTransferRequest) -> Self {
        let StartTransferRequest {
            transfer_id,
            store,
            work,
        } = domain;
        let work = match work {
            Work::Backup(backup) => pb::start_transfer_request::Work::Backup(backup.into()),
            Work::Restore(restore) => pb::start_transfer_request::Work::Restore(restore.into()),
            Work::Verify(verify) => pb::start_transfer_request::Work::Verify(verify.into()),
            Work::Rewrite(rewrite) => pb::start_transfer_request::Work::Rewrite(rewrite.into()),
        };
        Self {
            transfer_id: transfer_id.to_string(),
            store: Some(store.into()),
            work: Some(work),
        }
    }
}

impl TryFrom<pb::StartTransferRequest> for StartTransferRequest {
    type Error = FieldError;

    fn try_from(message: pb::StartTransferRequest) -> Result<Self, FieldError> {
        let pb::StartTransferRequest {
            transfer_id,
            store,
            work,
        } = message;
        let work = match field::choice("work", work)? {
            pb::start_transfer_request::Work::Backup(backup) => {
                Work::Backup(Backup::try_from(backup).map_err(|error| error.within("backup"))?)
            }
            pb::start_transfer_request::Work::Restore(restore) => {
                Work::Restore(Restore::try_from(restore).map_err(|error| error.within("restore"))?)
            }
            pb::start_transfer_request::Work::Verify(verify) => {
                Work::Verify(Verify::try_from(verify).map_err(|error| error.within("verify"))?)
            }
            pb::start_transfer_request::Work::Rewrite(rewrite) => {
                Work::Rewrite(Rewrite::try_from(rewrite).map_err(|error| error.within("rewrite"))?)
            }
        };
        Ok(Self {
            transfer_id: field::id("transfer_id", &transfer_id)?,
            store: field::message("store", store)?,
            work,
        })
    }
}

impl From<OpenExportRequest> for pb::OpenExportRequest {
    fn from(domain: OpenExportRequest) -> Self {
        let OpenExportRequest {
            export_id,
            store,
            root,
            ticket,
        } = domain;
        Self {
            export_id: export_id.to_string(),
            store: Some(store.into()),
            root: Some(root.into()),
            ticket: Bytes::copy_from_slice(ticket.expose()),
        }
    }
}

impl TryFrom<pb::OpenExportRequest> for OpenExportRequest {
    type Error = FieldError;

    fn try_from(message: pb::OpenExportRequest) -> Result<Self, FieldError> {
        let pb::OpenExportRequest {
            export_id,
            store,
            root,
            ticket,
        } = message;
        Ok(Self {
            export_id: field::id("export_id", &export_id)?,
            store: field::message("store", store)?,
            root: field::message("root", root)?,
            ticket: Ticket::new(field::hash("ticket", &ticket)?),
        })
    }
}

impl From<ReadExportRequest> for pb::ReadExportRequest {
    fn from(domain: ReadExportRequest) -> Self {
        let ReadExportRequest { export_id, ticket } = domain;
        Self {
            export_id: export_id.to_string(),
            ticket: Bytes::copy_from_slice(ticket.expose()),
        }
    }
}

impl TryFrom<pb::ReadExportRequest> for ReadExportRequest {
    type Error = FieldError;

    fn try_from(message: pb::ReadExportRequest) -> Result<Self, FieldError> {
        let pb::ReadExportRequest { export_id, ticket } = message;
        Ok(Self {
            export_id: field::id("export_id", &export_id)?,
            ticket: Ticket::new(field::hash("ticket", &ticket)?),
        })
    }
}

impl From<ReadExportRangeRequest> for pb::ReadExportRangeRequest {
    fn from(domain: ReadExportRangeRequest) -> Self {
        let ReadExportRangeRequest {
            export_id,
            ticket,
            offset_bytes,
            length_bytes,
            areas_only,
        } = domain;
        Self {
            export_id: export_id.to_string(),
            ticket: Bytes::copy_from_slice(ticket.expose()),
            offset_bytes,
            length_bytes,
            areas_only,
        }
    }
}

impl TryFrom<pb::ReadExportRangeRequest> for ReadExportRangeRequest {
    type Error = FieldError;

    fn try_from(message: pb::ReadExportRangeRequest) -> Result<Self, FieldError> {
        let pb::ReadExportRangeRequest {
            export_id,
            ticket,
            offset_bytes,
            length_bytes,
            areas_only,
        } = message;
        if length_bytes > EXPORT_RANGE_BYTES_MAX && !areas_only {
            return Err(FieldError::new("length_bytes", "is more than 32 MiB"));
        }
        Ok(Self {
            export_id: field::id("export_id", &export_id)?,
            ticket: Ticket::new(field::hash("ticket", &ticket)?),
            offset_bytes,
            length_bytes,
            areas_only,
        })
    }
}

impl From<ExportRangePart> for pb::ReadExportRangeResponse {
    fn from(domain: ExportRangePart) -> Self {
        use pb::read_export_range_response::Part;
        let part = match domain {
            ExportRangePart::Data(data) => Part::Data(data.into()),
            ExportRangePart::Area(area) => Part::Area(area.into()),
            ExportRangePart::Finish(finish) => Part::Finish(finish.into()),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<pb::ReadExportRangeResponse> for ExportRangePart {
    type Error = FieldError;

    fn try_from(message: pb::ReadExportRangeResponse) -> Result<Self, FieldError> {
        use pb::read_export_range_response::Part;
        let pb::ReadExportRangeResponse { part } = message;
        match field::choice("part", part)? {
            Part::Data(data) => data.try_into().map(Self::Data),
            Part::Area(area) => area.try_into().map(Self::Area),
            Part::Finish(finish) => finish.try_into().map(Self::Finish),
        }
    }
}

impl From<FinishExportRequest> for pb::FinishExportRequest {
    fn from(domain: FinishExportRequest) -> Self {
        let FinishExportRequest { export_id, ticket } = domain;
        Self {
            export_id: export_id.to_string(),
            ticket: Bytes::copy_from_slice(ticket.expose()),
        }
    }
}

impl TryFrom<pb::FinishExportRequest> for FinishExportRequest {
    type Error = FieldError;

    fn try_from(message: pb::FinishExportRequest) -> Result<Self, FieldError> {
        let pb::FinishExportRequest { export_id, ticket } = message;
        Ok(Self {
            export_id: field::id("export_id", &export_id)?,
            ticket: Ticket::new(field::hash("ticket", &ticket)?),
        })
    }
}

impl From<ExportData> for pb::ExportData {
    fn from(domain: ExportData) -> Self {
        let ExportData { offset_bytes, data } = domain;
        Self { offset_bytes, data }
    }
}

impl TryFrom<pb::ExportData> for ExportData {
    type Error = FieldError;

    fn try_from(message: pb::ExportData) -> Result<Self, FieldError> {
        let pb::ExportData { offset_bytes, data } = message;
        Ok(Self {
            offset_bytes,
            data: field::bytes("data", data, EXPORT_DATA_BYTES_MAX)?,
        })
    }
}

impl From<ExportPart> for pb::ReadExportResponse {
    fn from(domain: ExportPart) -> Self {
        let part = match domain {
            ExportPart::Header(header) => pb::read_export_response::Part::Header(header.into()),
            ExportPart::Data(data) => pb::read_export_response::Part::Data(data.into()),
            ExportPart::Finish(finish) => pb::read_export_response::Part::Finish(finish.into()),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<pb::ReadExportResponse> for ExportPart {
    type Error = FieldError;

    fn try_from(message: pb::ReadExportResponse) -> Result<Self, FieldError> {
        let pb::ReadExportResponse { part } = message;
        match field::choice("part", part)? {
            pb::read_export_response::Part::Header(header) => header.try_into().map(Self::Header),
            pb::read_export_response::Part::Data(data) => data.try_into().map(Self::Data),
            pb::read_export_response::Part::Finish(finish) => finish.try_into().map(Self::Finish),
        }
    }
}

#[cfg(test)]
mod tests;
