//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use stillwater_wire::serves;

use crate::model::*;
use crate::pb;
use crate::server::*;

struct Adaptor<S: ?Sized>(Arc<S>);

serves! { transfer_service: pb::transfer_service_server::{TransferService, TransferServiceServer}
    one start_transfer(StartTransferRequest) -> StartTransferResponse;
    one get_transfer(GetTransferRequest) -> GetTransferResponse;
    many watch_transfer(WatchTransferRequest) -> WatchTransferResponse as WatchTransferStream;
    one cancel_transfer(CancelTransferRequest) -> CancelTransferResponse;
}

serves! { export_service: pb::export_service_server::{ExportService, ExportServiceServer}
    one open_export(OpenExportRequest) -> OpenExportResponse;
    many read_export(ReadExportRequest) -> ReadExportResponse as ReadExportStream;
    many read_export_range(ReadExportRangeRequest) -> ReadExportRangeResponse as ReadExportRangeStream;
    one finish_export(FinishExportRequest) -> FinishExportResponse;
    one close_export(CloseExportRequest) -> CloseExportResponse;
}

serves! { probe_service: pb::probe_service_server::{ProbeService, ProbeServiceServer}
    one probe_disk(ProbeDiskRequest) -> ProbeDiskResponse;
}
