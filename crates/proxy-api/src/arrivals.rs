//! What arrives, by name: for tests that throw bytes at the protocol.

use stillwater_types::{ExportId, TransferId};
use stillwater_wire::arrivals;

use crate::model::*;
use crate::pb;

arrivals! { pb:
    CancelTransferRequest => TransferId,
    CancelTransferResponse => Transfer,
    CloseExportRequest => ExportId,
    CloseExportResponse => CloseExportResponse,
    FinishExportRequest => FinishExportRequest,
    FinishExportResponse => (),
    GetTransferRequest => TransferId,
    GetTransferResponse => Transfer,
    OpenExportRequest => OpenExportRequest,
    OpenExportResponse => OpenExportResponse,
    ProbeDiskRequest => ProbeDiskRequest,
    ProbeDiskResponse => ProbeDiskResponse,
    ReadExportRangeRequest => ReadExportRangeRequest,
    ReadExportRangeResponse => ExportRangePart,
    ReadExportRequest => ReadExportRequest,
    ReadExportResponse => ExportPart,
    StartTransferRequest => StartTransferRequest,
    StartTransferResponse => Transfer,
    WatchTransferRequest => TransferId,
    WatchTransferResponse => Transfer,
}
