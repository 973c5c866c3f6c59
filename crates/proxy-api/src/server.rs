//! What a proxy must be able to do, one trait per service.

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_rpc::Peer;
use stillwater_types::{ExportId, Fault, TransferId};

use crate::model::*;

/// One disk moved once.
#[async_trait]
pub trait TransferService: Send + Sync + 'static {
    /// Starts a transfer. Idempotent by `transfer_id`.
    async fn start_transfer(
        &self,
        peer: &Peer,
        request: StartTransferRequest,
    ) -> Result<Transfer, Fault>;

    /// Tells a transfer's state.
    async fn get_transfer(&self, peer: &Peer, transfer_id: TransferId) -> Result<Transfer, Fault>;

    /// Streams the state about once a second and when it changes; ends after the final state.
    async fn watch_transfer(
        &self,
        peer: &Peer,
        transfer_id: TransferId,
    ) -> Result<BoxStream<'static, Result<Transfer, Fault>>, Fault>;

    /// Stops a transfer; answers when it has stopped.
    async fn cancel_transfer(
        &self,
        peer: &Peer,
        transfer_id: TransferId,
    ) -> Result<Transfer, Fault>;
}

/// Stored disks streamed to an administrator's machine.
#[async_trait]
pub trait ExportService: Send + Sync + 'static {
    /// Makes an export ready. Idempotent by `export_id`.
    async fn open_export(
        &self,
        peer: &Peer,
        request: OpenExportRequest,
    ) -> Result<OpenExportResponse, Fault>;

    /// Streams the disk in ascending order: a header, data, a finish.
    async fn read_export(
        &self,
        peer: &Peer,
        request: ReadExportRequest,
    ) -> Result<BoxStream<'static, Result<ExportPart, Fault>>, Fault>;

    /// Streams a part of the disk: data in ascending order, a finish. Many at a time.
    async fn read_export_range(
        &self,
        peer: &Peer,
        request: ReadExportRangeRequest,
    ) -> Result<BoxStream<'static, Result<ExportRangePart, Fault>>, Fault>;

    /// Takes an export for completed, because its reader of parts says so. Idempotent.
    async fn finish_export(&self, peer: &Peer, request: FinishExportRequest) -> Result<(), Fault>;

    /// Ends an export; succeeds when it has ended.
    async fn close_export(
        &self,
        peer: &Peer,
        export_id: ExportId,
    ) -> Result<CloseExportResponse, Fault>;
}

/// How fast ways to disks are.
#[async_trait]
pub trait ProbeService: Send + Sync + 'static {
    /// Reads areas of a disk by one way.
    async fn probe_disk(
        &self,
        peer: &Peer,
        request: ProbeDiskRequest,
    ) -> Result<ProbeDiskResponse, Fault>;
}
