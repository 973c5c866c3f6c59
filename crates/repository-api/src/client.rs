//! Calls to a repository.

use std::time::Duration;

use futures::stream::BoxStream;
use stillwater_types::{Fault, PointId, Reason, TaskId};
use stillwater_wire::ask::Ask;
use tonic::transport::Channel;

use crate::model::*;
use crate::pack::PackSender;
use crate::pb;

/// A proposal is answered when all that it reaches was walked: on a large disk that takes a while.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(600);

/// Calls one repository; cheap to clone.
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
            ask: Ask::new(Reason::RepositoryUnreachable),
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

    /// Tells capacity and counts.
    pub async fn get_repository(&self) -> Result<Repository, Fault> {
        let mut stub = stub!(self, repository_service_client::RepositoryServiceClient);
        self.ask
            .one(stub.get_repository(pb::GetRepositoryRequest::from(())))
            .await
    }

    /// Creates a dataset. Idempotent by `dataset_id`.
    pub async fn create_dataset(&self, dataset: Dataset) -> Result<Dataset, Fault> {
        let mut stub = stub!(self, dataset_service_client::DatasetServiceClient);
        self.ask
            .one(stub.create_dataset(pb::CreateDatasetRequest::from(dataset)))
            .await
    }

    /// Lists the datasets.
    pub async fn list_datasets(&self) -> Result<Vec<Dataset>, Fault> {
        let mut stub = stub!(self, dataset_service_client::DatasetServiceClient);
        self.ask
            .one(stub.list_datasets(pb::ListDatasetsRequest::from(())))
            .await
    }

    /// Opens a session for a run; the same run gets a new, higher fence.
    pub async fn open_session(&self, request: OpenSessionRequest) -> Result<Session, Fault> {
        let mut stub = stub!(self, session_service_client::SessionServiceClient);
        self.ask
            .one(stub.open_session(pb::OpenSessionRequest::from(request)))
            .await
    }

    /// Moves the end of the lease.
    pub async fn renew_session(&self, request: RenewSessionRequest) -> Result<Session, Fault> {
        let mut stub = stub!(self, session_service_client::SessionServiceClient);
        self.ask
            .one(stub.renew_session(pb::RenewSessionRequest::from(request)))
            .await
    }

    /// Ends the session and drops its proposal.
    pub async fn close_session(&self, request: CloseSessionRequest) -> Result<(), Fault> {
        let mut stub = stub!(self, session_service_client::SessionServiceClient);
        self.ask
            .one(stub.close_session(pb::CloseSessionRequest::from(request)))
            .await
    }

    /// Asks which of at most [`FIND_IDS_MAX`] ids are stored; one answer for each, in that order.
    pub async fn find_records(
        &self,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        let asked = request.ids.len();
        let mut stub = stub!(self, record_service_client::RecordServiceClient);
        let call = stub.find_records(pb::FindRecordsRequest::from(request));
        let answer: FindRecordsResponse = self.ask.one(call).await?;
        if answer.found.len() != asked {
            let told = answer.found.len();
            return Err(Fault::new(
                Reason::NotSupported,
                format!("the repository answered {told} of {asked} ids, upgrade the older side"),
            ));
        }
        Ok(answer)
    }

    /// Begins a pack. Must be called inside a tokio runtime.
    pub fn put_pack(&self, header: PackHeader) -> PackSender {
        let mut stub = stub!(self, record_service_client::RecordServiceClient);
        PackSender::begin(header, self.ask, move |parts| async move {
            stub.put_pack(parts).await
        })
    }

    /// Reads at most [`READ_IDS_MAX`] records by id, in the order asked.
    pub async fn read_records(
        &self,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault> {
        let mut stub = stub!(self, record_service_client::RecordServiceClient);
        self.ask
            .many(stub.read_records(pb::ReadRecordsRequest::from(request)))
            .await
    }

    /// Stores a manifest and checks that all it reaches is durable.
    pub async fn propose_point(
        &self,
        request: ProposePointRequest,
    ) -> Result<ProposePointResponse, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        let call = stub.propose_point(pb::ProposePointRequest::from(request));
        self.ask.within(PROPOSE_DEADLINE).one(call).await
    }

    /// Appends the commit record: from then on the point exists.
    pub async fn commit_point(&self, request: CommitPointRequest) -> Result<Point, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.commit_point(pb::CommitPointRequest::from(request)))
            .await
    }

    /// Lists points, oldest first.
    pub async fn list_points(
        &self,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.list_points(pb::ListPointsRequest::from(request)))
            .await
    }

    /// Tells one point with its manifest.
    pub async fn get_point(&self, point_id: PointId) -> Result<GetPointResponse, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.get_point(pb::GetPointRequest::from(point_id)))
            .await
    }

    /// Locks a point for longer; answers the lock that counts.
    pub async fn lock_point(&self, request: LockPointRequest) -> Result<Point, Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.lock_point(pb::LockPointRequest::from(request)))
            .await
    }

    /// Asks for a point to be deleted.
    pub async fn delete_point(&self, point_id: PointId) -> Result<(), Fault> {
        let mut stub = stub!(self, point_service_client::PointServiceClient);
        self.ask
            .one(stub.delete_point(pb::DeletePointRequest::from(point_id)))
            .await
    }

    /// Tells what is protected.
    pub async fn get_retention(&self) -> Result<Retention, Fault> {
        let mut stub = stub!(self, retention_service_client::RetentionServiceClient);
        self.ask
            .one(stub.get_retention(pb::GetRetentionRequest::from(())))
            .await
    }

    /// Hands in a statement with one signature.
    pub async fn submit_statement(
        &self,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault> {
        let mut stub = stub!(self, retention_service_client::RetentionServiceClient);
        self.ask
            .one(stub.submit_statement(pb::SubmitStatementRequest::from(request)))
            .await
    }

    /// Starts a task. Idempotent by `task_id`.
    pub async fn start_task(&self, request: StartTaskRequest) -> Result<Task, Fault> {
        let mut stub = stub!(self, upkeep_service_client::UpkeepServiceClient);
        self.ask
            .one(stub.start_task(pb::StartTaskRequest::from(request)))
            .await
    }

    /// Tells a task's state.
    pub async fn get_task(&self, task_id: TaskId) -> Result<Task, Fault> {
        let mut stub = stub!(self, upkeep_service_client::UpkeepServiceClient);
        self.ask
            .one(stub.get_task(pb::GetTaskRequest::from(task_id)))
            .await
    }

    /// Tells a task's state as it changes; ends after the final one.
    pub async fn watch_task(
        &self,
        task_id: TaskId,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault> {
        let mut stub = stub!(self, upkeep_service_client::UpkeepServiceClient);
        self.ask
            .many(stub.watch_task(pb::WatchTaskRequest::from(task_id)))
            .await
    }

    /// Asks a task to stop.
    pub async fn cancel_task(&self, task_id: TaskId) -> Result<Task, Fault> {
        let mut stub = stub!(self, upkeep_service_client::UpkeepServiceClient);
        self.ask
            .one(stub.cancel_task(pb::CancelTaskRequest::from(task_id)))
            .await
    }
}
