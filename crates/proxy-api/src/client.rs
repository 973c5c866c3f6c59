//! Calls to a proxy.

use std::time::Duration;

use futures::stream::BoxStream;
use stillwater_types::{ExportId, Fault, Reason, TransferId};
use stillwater_wire::ask::Ask;
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

macro_rules! stub {
    ($self:ident, $module:ident::$client:ident) => {
        pb::$module::$client::new($self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
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

    /// Starts a transfer. Idempotent by `transfer_id`.
    pub async fn start_transfer(&self, request: StartTransferRequest) -> Result<Transfer, Fault> {
        let mut stub = stub!(self, transfer_service_client::TransferServiceClient);
        self.ask
            .one(stub.start_transfer(pb::StartTransferRequest::from(request)))
            .await
    }

    /// Tells a transfer's state.
    pub async fn get_transfer(&self, transfer_id: TransferId) -> Result<Transfer, Fault> {
        let mut stub = stub!(self, transfer_service_client::TransferServiceClient);
        self.ask
            .one(stub.get_transfer(pb::GetTransferRequest::from(transfer_id)))
            .await
    }

    /// Streams the state about once a second and when it changes; ends after the final state.
    pub async fn watch_transfer(
        &self,
        transfer_id: TransferId,
    ) -> Result<BoxStream<'static, Result<Transfer, Fault>>, Fault> {
        let mut stub = stub!(self, transfer_service_client::TransferServiceClient);
        self.ask
            .many(stub.watch_transfer(pb::WatchTransferRequest::from(transfer_id)))
            .await
    }

    /// Stops a transfer; answers when it has stopped.
    pub async fn cancel_transfer(&self, transfer_id: TransferId) -> Result<Transfer, Fault> {
        let mut stub = stub!(self, transfer_service_client::TransferServiceClient);
        let call = stub.cancel_transfer(pb::CancelTransferRequest::from(transfer_id));
        self.ask.within(CANCEL_DEADLINE).one(call).await
    }

    /// Tells how fast a way to a disk is.
    pub async fn probe_disk(&self, request: ProbeDiskRequest) -> Result<ProbeDiskResponse, Fault> {
        let mut stub = stub!(self, probe_service_client::ProbeServiceClient);
        let reading = Duration::from_millis(u64::from(request.limit_millis));
        let call = stub.probe_disk(pb::ProbeDiskRequest::from(request));
        self.ask.within(reading + PROBE_MARGIN).one(call).await
    }

    /// Makes an export ready. Idempotent by `export_id`.
    pub async fn open_export(
        &self,
        request: OpenExportRequest,
    ) -> Result<OpenExportResponse, Fault> {
        let mut stub = stub!(self, export_service_client::ExportServiceClient);
        self.ask
            .one(stub.open_export(pb::OpenExportRequest::from(request)))
            .await
    }

    /// Streams the disk: a header, data in ascending order, a finish. A stream without a finish is
    /// not the whole disk.
    pub async fn read_export(
        &self,
        request: ReadExportRequest,
    ) -> Result<BoxStream<'static, Result<ExportPart, Fault>>, Fault> {
        let mut stub = stub!(self, export_service_client::ExportServiceClient);
        self.ask
            .many(stub.read_export(pb::ReadExportRequest::from(request)))
            .await
    }

    /// Streams a part of the disk: data in ascending order, a finish.
    pub async fn read_export_range(
        &self,
        request: ReadExportRangeRequest,
    ) -> Result<BoxStream<'static, Result<ExportRangePart, Fault>>, Fault> {
        let mut stub = stub!(self, export_service_client::ExportServiceClient);
        self.ask
            .many(stub.read_export_range(pb::ReadExportRangeRequest::from(request)))
            .await
    }

    /// Tells that the reader of parts has all that it wanted.
    pub async fn finish_export(&self, request: FinishExportRequest) -> Result<(), Fault> {
        let mut stub = stub!(self, export_service_client::ExportServiceClient);
        self.ask
            .one(stub.finish_export(pb::FinishExportRequest::from(request)))
            .await
    }

    /// Ends an export; succeeds when it has ended.
    pub async fn close_export(&self, export_id: ExportId) -> Result<CloseExportResponse, Fault> {
        let mut stub = stub!(self, export_service_client::ExportServiceClient);
        self.ask
            .one(stub.close_export(pb::CloseExportRequest::from(export_id)))
            .await
    }
}
