//! The proxy's calls: convert, call, convert. Who may make them is checked before they come here.

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_proxy_api::{
    CloseExportResponse, ExportPart, ExportRangePart, ExportService, FinishExportRequest,
    OpenExportRequest, OpenExportResponse, ProbeDiskRequest, ProbeDiskResponse, ProbeService,
    ReadExportRangeRequest, ReadExportRequest, StartTransferRequest, Transfer, TransferService,
};
use stillwater_rpc::Peer;
use stillwater_types::{ExportId, Fault, TransferId};

use crate::exports::Exports;
use crate::probes::Probes;
use crate::transfers::Transfers;

#[async_trait]
impl TransferService for Transfers {
    async fn start_transfer(
        &self,
        _: &Peer,
        request: StartTransferRequest,
    ) -> Result<Transfer, Fault> {
        self.start(request)
    }

    async fn get_transfer(&self, _: &Peer, transfer_id: TransferId) -> Result<Transfer, Fault> {
        self.get(transfer_id)
    }

    async fn watch_transfer(
        &self,
        _: &Peer,
        transfer_id: TransferId,
    ) -> Result<BoxStream<'static, Result<Transfer, Fault>>, Fault> {
        self.watch(transfer_id)
    }

    async fn cancel_transfer(&self, _: &Peer, transfer_id: TransferId) -> Result<Transfer, Fault> {
        self.cancel(transfer_id).await
    }
}

#[async_trait]
impl ExportService for Exports {
    async fn open_export(
        &self,
        _: &Peer,
        request: OpenExportRequest,
    ) -> Result<OpenExportResponse, Fault> {
        self.open(request)
    }

    async fn read_export(
        &self,
        peer: &Peer,
        request: ReadExportRequest,
    ) -> Result<BoxStream<'static, Result<ExportPart, Fault>>, Fault> {
        let parts = self.read(request.export_id, &request.ticket)?;
        tracing::info!(export.id = %request.export_id, admin = %peer.node, "export is being read");
        Ok(parts)
    }

    async fn read_export_range(
        &self,
        _: &Peer,
        request: ReadExportRangeRequest,
    ) -> Result<BoxStream<'static, Result<ExportRangePart, Fault>>, Fault> {
        self.read_range(&request)
    }

    async fn finish_export(&self, _: &Peer, request: FinishExportRequest) -> Result<(), Fault> {
        self.finish(request.export_id, &request.ticket)
    }

    async fn close_export(
        &self,
        _: &Peer,
        export_id: ExportId,
    ) -> Result<CloseExportResponse, Fault> {
        Ok(self.close(export_id))
    }
}

#[async_trait]
impl ProbeService for Probes {
    async fn probe_disk(
        &self,
        _: &Peer,
        request: ProbeDiskRequest,
    ) -> Result<ProbeDiskResponse, Fault> {
        self.probe(request).await
    }
}
