//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use stillwater_types::{Fault, Reason};
use stillwater_wire::serve::{Grpc, Outgoing, open, refuse, reply, reply_stream, take};
use tonic::{Request, Response, Status, Streaming};

use crate::model::*;
use crate::pb;
use crate::server::*;

type Answer<T> = Result<Response<T>, Status>;

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn repository_service(service: Arc<dyn RepositoryService>) -> impl Grpc {
    pb::repository_service_server::RepositoryServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn dataset_service(service: Arc<dyn DatasetService>) -> impl Grpc {
    pb::dataset_service_server::DatasetServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn session_service(service: Arc<dyn SessionService>) -> impl Grpc {
    pb::session_service_server::SessionServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn record_service(service: Arc<dyn RecordService>) -> impl Grpc {
    pb::record_service_server::RecordServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn point_service(service: Arc<dyn PointService>) -> impl Grpc {
    pb::point_service_server::PointServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn retention_service(service: Arc<dyn RetentionService>) -> impl Grpc {
    pb::retention_service_server::RetentionServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves `service`; for `tonic::service::Routes::add_service`.
pub fn upkeep_service(service: Arc<dyn UpkeepService>) -> impl Grpc {
    pb::upkeep_service_server::UpkeepServiceServer::new(Adaptor(service))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

struct Adaptor<S: ?Sized>(Arc<S>);

#[async_trait::async_trait]
impl pb::repository_service_server::RepositoryService for Adaptor<dyn RepositoryService> {
    async fn get_repository(
        &self,
        request: Request<pb::GetRepositoryRequest>,
    ) -> Answer<pb::GetRepositoryResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.get_repository(&peer).await)
    }
}

#[async_trait::async_trait]
impl pb::dataset_service_server::DatasetService for Adaptor<dyn DatasetService> {
    async fn create_dataset(
        &self,
        request: Request<pb::CreateDatasetRequest>,
    ) -> Answer<pb::CreateDatasetResponse> {
        let (peer, dataset) = open(request)?;
        reply(self.0.create_dataset(&peer, dataset).await)
    }

    async fn list_datasets(
        &self,
        request: Request<pb::ListDatasetsRequest>,
    ) -> Answer<pb::ListDatasetsResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.list_datasets(&peer).await)
    }
}

#[async_trait::async_trait]
impl pb::session_service_server::SessionService for Adaptor<dyn SessionService> {
    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Answer<pb::OpenSessionResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.open_session(&peer, request).await)
    }

    async fn renew_session(
        &self,
        request: Request<pb::RenewSessionRequest>,
    ) -> Answer<pb::RenewSessionResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.renew_session(&peer, request).await)
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Answer<pb::CloseSessionResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.close_session(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::record_service_server::RecordService for Adaptor<dyn RecordService> {
    async fn find_records(
        &self,
        request: Request<pb::FindRecordsRequest>,
    ) -> Answer<pb::FindRecordsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.find_records(&peer, request).await)
    }

    async fn put_pack(
        &self,
        request: Request<Streaming<pb::PutPackRequest>>,
    ) -> Answer<pb::PutPackResponse> {
        let peer = stillwater_rpc::peer(&request).map_err(refuse)?;
        let mut messages = request.into_inner();
        let header = take(messages.message().await?.unwrap_or_default())?;
        reply(self.0.put_pack(&peer, header, parts(messages)).await)
    }

    type ReadRecordsStream = Outgoing<pb::ReadRecordsResponse>;

    async fn read_records(
        &self,
        request: Request<pb::ReadRecordsRequest>,
    ) -> Answer<Self::ReadRecordsStream> {
        let (peer, request) = open(request)?;
        reply_stream(self.0.read_records(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::point_service_server::PointService for Adaptor<dyn PointService> {
    async fn propose_point(
        &self,
        request: Request<pb::ProposePointRequest>,
    ) -> Answer<pb::ProposePointResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.propose_point(&peer, request).await)
    }

    async fn commit_point(
        &self,
        request: Request<pb::CommitPointRequest>,
    ) -> Answer<pb::CommitPointResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.commit_point(&peer, request).await)
    }

    async fn list_points(
        &self,
        request: Request<pb::ListPointsRequest>,
    ) -> Answer<pb::ListPointsResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.list_points(&peer, request).await)
    }

    async fn get_point(
        &self,
        request: Request<pb::GetPointRequest>,
    ) -> Answer<pb::GetPointResponse> {
        let (peer, point_id) = open(request)?;
        reply(self.0.get_point(&peer, point_id).await)
    }

    async fn lock_point(
        &self,
        request: Request<pb::LockPointRequest>,
    ) -> Answer<pb::LockPointResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.lock_point(&peer, request).await)
    }

    async fn delete_point(
        &self,
        request: Request<pb::DeletePointRequest>,
    ) -> Answer<pb::DeletePointResponse> {
        let (peer, point_id) = open(request)?;
        reply(self.0.delete_point(&peer, point_id).await)
    }
}

#[async_trait::async_trait]
impl pb::retention_service_server::RetentionService for Adaptor<dyn RetentionService> {
    async fn get_retention(
        &self,
        request: Request<pb::GetRetentionRequest>,
    ) -> Answer<pb::GetRetentionResponse> {
        let (peer, ()) = open(request)?;
        reply(self.0.get_retention(&peer).await)
    }

    async fn submit_statement(
        &self,
        request: Request<pb::SubmitStatementRequest>,
    ) -> Answer<pb::SubmitStatementResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.submit_statement(&peer, request).await)
    }
}

#[async_trait::async_trait]
impl pb::upkeep_service_server::UpkeepService for Adaptor<dyn UpkeepService> {
    async fn start_task(
        &self,
        request: Request<pb::StartTaskRequest>,
    ) -> Answer<pb::StartTaskResponse> {
        let (peer, request) = open(request)?;
        reply(self.0.start_task(&peer, request).await)
    }

    async fn get_task(&self, request: Request<pb::GetTaskRequest>) -> Answer<pb::GetTaskResponse> {
        let (peer, task_id) = open(request)?;
        reply(self.0.get_task(&peer, task_id).await)
    }

    type WatchTaskStream = Outgoing<pb::WatchTaskResponse>;

    async fn watch_task(
        &self,
        request: Request<pb::WatchTaskRequest>,
    ) -> Answer<Self::WatchTaskStream> {
        let (peer, task_id) = open(request)?;
        reply_stream(self.0.watch_task(&peer, task_id).await)
    }

    async fn cancel_task(
        &self,
        request: Request<pb::CancelTaskRequest>,
    ) -> Answer<pb::CancelTaskResponse> {
        let (peer, task_id) = open(request)?;
        reply(self.0.cancel_task(&peer, task_id).await)
    }
}

/// The messages after the header; ends after the finish or after the first fault.
fn parts(messages: Streaming<pb::PutPackRequest>) -> BoxStream<'static, Result<PackPart, Fault>> {
    stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match next_part(&mut messages).await {
            Ok(part @ PackPart::Batch(_)) => Some((Ok(part), Some(messages))),
            Ok(part @ PackPart::Finish(_)) => Some((Ok(part), None)),
            Err(fault) => Some((Err(fault), None)),
        }
    })
    .boxed()
}

async fn next_part(messages: &mut Streaming<pb::PutPackRequest>) -> Result<PackPart, Fault> {
    let Some(message) = receive(messages).await? else {
        return Err(Fault::new(
            Reason::BadField,
            "the pack ended without a finish",
        ));
    };
    let part = PackPart::try_from(message)?;
    // A pack that goes on after its finish is not the pack that its sender counted.
    if matches!(part, PackPart::Finish(_)) && receive(messages).await?.is_some() {
        return Err(Fault::new(
            Reason::BadField,
            "the pack went on after its finish",
        ));
    }
    Ok(part)
}

async fn receive(
    messages: &mut Streaming<pb::PutPackRequest>,
) -> Result<Option<pb::PutPackRequest>, Fault> {
    let broken = |status| stillwater_rpc::fault(&status, Reason::ProxyUnreachable);
    messages.message().await.map_err(broken)
}
