//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use stillwater_wire::serve::{Grpc, Outgoing, open, reply, reply_stream};
use tonic::{Request, Response, Status};

use crate::model::*;
use crate::pb;
use crate::server::*;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn transfer_service(service: Arc<dyn TransferService>) -> impl Grpc {
    pb::transfer_service_server::TransferServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn export_service(service: Arc<dyn ExportService>) -> impl Grpc {
    pb::export_service_server::ExportServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn probe_service(service: Arc<dyn ProbeService>) -> impl Grpc {
    pb::probe_service_server::ProbeServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

struct Adaptor<S: ?Sized>(Arc<S>);

#[async_trait::async_trait]
impl pb::transfer_service_server::TransferService for Adaptor<dyn TransferService> {
    async fn start_transfer(
        &self,
        request: Request<pb::StartTransferRequest>,
    ) -> Answer<pb::StartTransferResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.start_transfer(&peer, request).await)
    }

    async fn get_transfer(
        &self,
        request: Request<pb::GetTransferRequest>,
    ) -> Answer<pb::GetTransferResponse> {
        let (peer, transfer_id) = open(request)?;
        reply(self.0.get_transfer(&peer, transfer_id).await)
    }

    type WatchTransferStream = Outgoing<pb::WatchTransferResponse>;

    async fn watch_transfer(
        &self,
        request: Request<pb::WatchTransferRequest>,
    ) -> Answer<Self::WatchTransferStream> {
        let (peer, transfer_id) = open(request)?;
        reply_stream(self.0.watch_transfer(&peer, transfer_id).await)
    }

    async fn cancel_transfer(
        &self,
        request: Request<pb::CancelTransferRequest>,
    ) -> Answer<pb::CancelTransferResponse> {
        let (peer, transfer_id) = open(request)?;
        reply(self.0.cancel_transfer(&peer, transfer_id).await)
    }
}

#[async_trait::async_trait]
impl pb::export_service_server::ExportService for Adaptor<dyn ExportService> {
    async fn open_export(
        &self,
        request: Request<pb::OpenExportRequest>,
    ) -> Answer<pb::OpenExportResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.open_export(&peer, request).await)
    }

    type ReadExportStream = Outgoing<pb::ReadExportResponse>;

    async fn read_export(
        &self,
        request: Request<pb::ReadExportRequest>,
    ) -> Answer<Self::ReadExportStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.read_export(&peer, request).await)
    }

    type ReadExportRangeStream = Outgoing<pb::ReadExportRangeResponse>;

    async fn read_export_range(
        &self,
        request: Request<pb::ReadExportRangeRequest>,
    ) -> Answer<Self::ReadExportRangeStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.read_export_range(&peer, request).await)
    }

    async fn finish_export(
        &self,
        request: Request<pb::FinishExportRequest>,
    ) -> Answer<pb::FinishExportResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.finish_export(&peer, request).await)
    }

    async fn close_export(
        &self,
        request: Request<pb::CloseExportRequest>,
    ) -> Answer<pb::CloseExportResponse> {
        let (peer, export_id) = open(request)?;
        reply(self.0.close_export(&peer, export_id).await)
    }
}

#[async_trait::async_trait]
impl pb::probe_service_server::ProbeService for Adaptor<dyn ProbeService> {
    async fn probe_disk(
        &self,
        request: Request<pb::ProbeDiskRequest>,
    ) -> Answer<pb::ProbeDiskResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.probe_disk(&peer, request).await)
    }
}
