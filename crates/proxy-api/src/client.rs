//! Calls to a proxy.

use std::time::Duration;

use stillwater_types::{ExportId, Fault, Reason, TransferId};
use stillwater_wire::ask::Ask;
use stillwater_wire::{calls, stub};
use tonic::transport::Channel;

use crate::model::*;
use crate::pb;

/// A cancelled transfer answers when it has stopped, which waits for what is being written.
const CANCEL_DEADLINE: Duration = Duration::from_secs(120);

/// A probe opens its disk first, and waits for the last answer.
const PROBE_MARGIN: Duration = Duration::from_secs(90);

/// Calls one proxy; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    ask: Ask,
}

impl Client {
    /// Calls over `channel`, with 30 seconds for each call that is not known to take longer.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            ask: Ask::new(Reason::ProxyUnreachable),
        }
    }

    /// The same with another deadline for usual calls.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            ask: self.ask.within(deadline),
            ..self
        }
    }

    calls! { pb::transfer_service_client::TransferServiceClient:
        /// Starts a transfer. Idempotent by `transfer_id`.
        one start_transfer(request: StartTransferRequest) -> Transfer;
        /// Tells a transfer's state.
        one get_transfer(transfer_id: TransferId) -> Transfer;
        /// Streams the state about once a second and when it changes; ends after the final state.
        many watch_transfer(transfer_id: TransferId) -> Transfer;
        /// Stops a transfer; answers when it has stopped.
        one[CANCEL_DEADLINE] cancel_transfer(transfer_id: TransferId) -> Transfer;
    }

    calls! { pb::export_service_client::ExportServiceClient:
        /// Makes an export ready. Idempotent by `export_id`.
        one open_export(request: OpenExportRequest) -> OpenExportResponse;
        /// Streams the disk: a header, data in ascending order, a finish. A stream without a finish is
        /// not the whole disk.
        many read_export(request: ReadExportRequest) -> ExportPart;
        /// Streams a part of the disk: data in ascending order, a finish.
        many read_export_range(request: ReadExportRangeRequest) -> ExportRangePart;
        /// Tells that the reader of parts has all that it wanted.
        one finish_export(request: FinishExportRequest) -> ();
        /// Ends an export; succeeds when it has ended.
        one close_export(export_id: ExportId) -> CloseExportResponse;
    }

    /// Tells how fast a way to a disk is.
    pub async fn probe_disk(&self, request: ProbeDiskRequest) -> Result<ProbeDiskResponse, Fault> {
        let mut stub = stub!(self, pb::probe_service_client::ProbeServiceClient);
        let reading = Duration::from_millis(u64::from(request.limit_millis));
        let call = stub.probe_disk(pb::ProbeDiskRequest::from(request));
        self.ask.within(reading + PROBE_MARGIN).one(call).await
    }
}
