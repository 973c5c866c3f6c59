//! What a repository must be able to do, one trait per service.

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, PointId, TaskId};

use crate::model::*;

/// What the repository is and has left.
#[async_trait]
pub trait RepositoryService: Send + Sync + 'static {
    /// Tells capacity and counts.
    async fn get_repository(&self, peer: &Peer) -> Result<Repository, Fault>;
}

/// Chunks that share a key and deduplicate together.
#[async_trait]
pub trait DatasetService: Send + Sync + 'static {
    /// Creates a dataset. Idempotent by `dataset_id`.
    async fn create_dataset(&self, peer: &Peer, dataset: Dataset) -> Result<Dataset, Fault>;

    /// Lists the datasets.
    async fn list_datasets(&self, peer: &Peer) -> Result<Vec<Dataset>, Fault>;
}

/// A run's claims on the repository.
#[async_trait]
pub trait SessionService: Send + Sync + 'static {
    /// Opens a session for a run; the same run gets a new, higher fence.
    async fn open_session(
        &self,
        peer: &Peer,
        request: OpenSessionRequest,
    ) -> Result<Session, Fault>;

    /// Moves the end of the lease.
    async fn renew_session(
        &self,
        peer: &Peer,
        request: RenewSessionRequest,
    ) -> Result<Session, Fault>;

    /// Ends the session and drops its proposal. Succeeds when it has ended already.
    async fn close_session(&self, peer: &Peer, request: CloseSessionRequest) -> Result<(), Fault>;
}

/// Sealed chunks and tree nodes.
#[async_trait]
pub trait RecordService: Send + Sync + 'static {
    /// Tells which ids are stored; `found` has one answer for each id.
    async fn find_records(
        &self,
        peer: &Peer,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault>;

    /// Stores one pack; the answer means that every record of it is durable.
    ///
    /// `parts` is batches and then one finish. It ends right after the finish; a stream that broke,
    /// ended without one or carries anything else yields a fault, and then nothing of it is kept.
    async fn put_pack(
        &self,
        peer: &Peer,
        header: PackHeader,
        parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault>;

    /// Reads records by id, in the order asked.
    async fn read_records(
        &self,
        peer: &Peer,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault>;
}

/// Restore points: proposed, then committed, then immutable.
#[async_trait]
pub trait PointService: Send + Sync + 'static {
    /// Stores a manifest and checks that all it reaches is durable.
    async fn propose_point(
        &self,
        peer: &Peer,
        request: ProposePointRequest,
    ) -> Result<ProposePointResponse, Fault>;

    /// Appends the commit record: from then on the point exists.
    async fn commit_point(&self, peer: &Peer, request: CommitPointRequest) -> Result<Point, Fault>;

    /// Lists points, oldest first.
    async fn list_points(
        &self,
        peer: &Peer,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault>;

    /// Tells one point with its manifest.
    async fn get_point(&self, peer: &Peer, point_id: PointId) -> Result<GetPointResponse, Fault>;

    /// Locks a point for longer; answers the lock that counts.
    async fn lock_point(&self, peer: &Peer, request: LockPointRequest) -> Result<Point, Fault>;

    /// Asks for a point to be deleted.
    async fn delete_point(&self, peer: &Peer, point_id: PointId) -> Result<(), Fault>;
}

/// What the repository protects from everyone.
#[async_trait]
pub trait RetentionService: Send + Sync + 'static {
    /// Tells the floor, trusted time, administrators and waiting statements.
    async fn get_retention(&self, peer: &Peer) -> Result<Retention, Fault>;

    /// Hands in a statement with one signature.
    async fn submit_statement(
        &self,
        peer: &Peer,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault>;
}

/// Work that keeps the repository sound.
#[async_trait]
pub trait UpkeepService: Send + Sync + 'static {
    /// Starts a task. Idempotent by `task_id`.
    async fn start_task(&self, peer: &Peer, request: StartTaskRequest) -> Result<Task, Fault>;

    /// Tells a task's state.
    async fn get_task(&self, peer: &Peer, task_id: TaskId) -> Result<Task, Fault>;

    /// Tells a task's state as it changes; ends after the final one.
    async fn watch_task(
        &self,
        peer: &Peer,
        task_id: TaskId,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault>;

    /// Asks a task to stop.
    async fn cancel_task(&self, peer: &Peer, task_id: TaskId) -> Result<Task, Fault>;
}
