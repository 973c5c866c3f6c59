//! What the controller asks of repositories beside runs.

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_repository_api as repository_api;
use stillwater_types::{Fault, NodeId, PointId, TaskId};

use crate::run::Peers;

/// Every repository of the cluster.
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// Tells capacity, counts and health.
    async fn get_repository(&self, repository: NodeId)
    -> Result<repository_api::Repository, Fault>;

    /// Tells what is protected.
    async fn get_retention(&self, repository: NodeId) -> Result<repository_api::Retention, Fault>;

    /// Hands in a signed statement.
    async fn submit_statement(
        &self,
        repository: NodeId,
        request: repository_api::SubmitStatementRequest,
    ) -> Result<repository_api::SubmitStatementResponse, Fault>;

    /// Locks a point for longer.
    async fn lock_point(
        &self,
        repository: NodeId,
        request: repository_api::LockPointRequest,
    ) -> Result<repository_api::Point, Fault>;

    /// Asks for a point to be deleted.
    async fn delete_point(&self, repository: NodeId, point: PointId) -> Result<(), Fault>;

    /// Starts a task. Idempotent by its id.
    async fn start_task(
        &self,
        repository: NodeId,
        request: repository_api::StartTaskRequest,
    ) -> Result<repository_api::Task, Fault>;

    /// Tells a task's state as it changes.
    async fn watch_task(
        &self,
        repository: NodeId,
        task: TaskId,
    ) -> Result<BoxStream<'static, Result<repository_api::Task, Fault>>, Fault>;

    /// Asks a task to stop.
    async fn cancel_task(
        &self,
        repository: NodeId,
        task: TaskId,
    ) -> Result<repository_api::Task, Fault>;
}

#[async_trait]
impl Upkeep for Peers {
    async fn get_repository(
        &self,
        repository: NodeId,
    ) -> Result<repository_api::Repository, Fault> {
        self.repository(repository)?.get_repository().await
    }

    async fn get_retention(&self, repository: NodeId) -> Result<repository_api::Retention, Fault> {
        self.repository(repository)?.get_retention().await
    }

    async fn submit_statement(
        &self,
        repository: NodeId,
        request: repository_api::SubmitStatementRequest,
    ) -> Result<repository_api::SubmitStatementResponse, Fault> {
        self.repository(repository)?.submit_statement(request).await
    }

    async fn lock_point(
        &self,
        repository: NodeId,
        request: repository_api::LockPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        self.repository(repository)?.lock_point(request).await
    }

    async fn delete_point(&self, repository: NodeId, point: PointId) -> Result<(), Fault> {
        self.repository(repository)?.delete_point(point).await
    }

    async fn start_task(
        &self,
        repository: NodeId,
        request: repository_api::StartTaskRequest,
    ) -> Result<repository_api::Task, Fault> {
        self.repository(repository)?.start_task(request).await
    }

    async fn watch_task(
        &self,
        repository: NodeId,
        task: TaskId,
    ) -> Result<BoxStream<'static, Result<repository_api::Task, Fault>>, Fault> {
        self.repository(repository)?.watch_task(task).await
    }

    async fn cancel_task(
        &self,
        repository: NodeId,
        task: TaskId,
    ) -> Result<repository_api::Task, Fault> {
        self.repository(repository)?.cancel_task(task).await
    }
}
