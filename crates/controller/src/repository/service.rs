//! Repositories as the controller's protocol tells them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_controller_api as api;
use stillwater_repository_api as repository_api;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, Reason, Role};

use super::outside::Upkeep;
use crate::memory::Memory;
use crate::node::{Directory, actor};
use crate::point;

/// Answers for repositories.
#[derive(Clone)]
pub struct Service {
    memory: Memory,
    nodes: Directory,
    upkeep: Arc<dyn Upkeep>,
    points: point::Service,
}

impl Service {
    /// Answers for the repositories that `nodes` knows.
    pub fn new(
        memory: Memory,
        nodes: Directory,
        upkeep: Arc<dyn Upkeep>,
        points: point::Service,
    ) -> Self {
        Self {
            memory,
            nodes,
            upkeep,
            points,
        }
    }

    /// A member that is a repository.
    fn repository(&self, node: NodeId) -> Result<NodeId, Fault> {
        let state = self.memory.state();
        match state.nodes.member(node)?.role {
            Role::Repository => Ok(node),
            role => Err(Fault::new(
                Reason::NodeNotFound,
                format!(
                    "that node is a {role}; `stillwater repository list` names the repositories"
                ),
            )
            .with("node", node)),
        }
    }

    fn members(&self) -> Vec<NodeId> {
        let state = self.memory.state();
        let repositories = state.nodes.iter();
        repositories
            .filter(|node| node.role == Role::Repository && node.removed_at.is_none())
            .map(|node| node.node)
            .collect()
    }

    async fn ask(&self, node: NodeId) -> Result<api::Repository, Fault> {
        let info = self.nodes.member(node)?;
        let online = self.nodes.last(node).is_some_and(|seen| seen.is_fresh());
        let (usage, fault) = match self.upkeep.get_repository(node).await {
            Ok(repository) => (Some(usage(repository)), None),
            Err(fault) => (None, Some(fault)),
        };
        Ok(api::Repository {
            node_id: node,
            name: info.name,
            address: info.address,
            online,
            usage,
            fault,
        })
    }

    /// Which repository a task is for: the one that is named, or the one that keeps the point.
    async fn place(&self, request: &api::StartTaskRequest) -> Result<NodeId, Fault> {
        match (request.node_id, request.point_id) {
            (Some(node), _) => self.repository(node),
            (None, Some(point)) => Ok(self.points.find(point).await?.repository),
            (None, None) => Err(Fault::new(
                Reason::BadField,
                "node_id is missing, and no point tells the repository",
            )),
        }
    }
}

#[async_trait]
impl api::RepositoryService for Service {
    async fn list_repositories(&self, _peer: &Peer) -> Result<Vec<api::Repository>, Fault> {
        let asked = self.members().into_iter().map(|node| self.ask(node));
        futures::future::try_join_all(asked).await
    }

    async fn get_repository(
        &self,
        _peer: &Peer,
        node_id: NodeId,
    ) -> Result<api::GetRepositoryResponse, Fault> {
        let node = self.repository(node_id)?;
        let retention = self.upkeep.get_retention(node).await?;
        Ok(api::GetRepositoryResponse {
            repository: self.ask(node).await?,
            retention,
        })
    }

    async fn start_task(
        &self,
        peer: &Peer,
        request: api::StartTaskRequest,
    ) -> Result<api::StartTaskResponse, Fault> {
        let node_id = self.place(&request).await?;
        let asked = repository_api::StartTaskRequest {
            task_id: request.task_id,
            kind: request.kind,
            point_id: request.point_id,
            all: request.all,
        };
        let task = self.upkeep.start_task(node_id, asked).await?;
        tracing::info!(task.id = %task.task_id, repository.id = %node_id, actor = ?actor(peer), kind = ?request.kind, "started a task");
        Ok(api::StartTaskResponse { task, node_id })
    }

    async fn watch_task(
        &self,
        _peer: &Peer,
        request: api::WatchTaskRequest,
    ) -> Result<BoxStream<'static, Result<api::Task, Fault>>, Fault> {
        let node = self.repository(request.node_id)?;
        self.upkeep.watch_task(node, request.task_id).await
    }

    async fn cancel_task(
        &self,
        _peer: &Peer,
        request: api::CancelTaskRequest,
    ) -> Result<api::Task, Fault> {
        let node = self.repository(request.node_id)?;
        self.upkeep.cancel_task(node, request.task_id).await
    }

    async fn submit_statement(
        &self,
        peer: &Peer,
        request: api::SubmitStatementRequest,
    ) -> Result<api::SubmitStatementResponse, Fault> {
        let node = self.repository(request.node_id)?;
        let handed_in = repository_api::SubmitStatementRequest {
            statement: request.statement,
            key: request.key,
            signature: request.signature,
        };
        let answer = self.upkeep.submit_statement(node, handed_in).await?;
        tracing::info!(repository.id = %node, actor = ?actor(peer), state = ?answer.state, "passed a statement on");
        Ok(answer)
    }
}

fn usage(repository: repository_api::Repository) -> api::RepositoryUsage {
    let repository_api::Repository {
        node_id: _,
        writable_bytes,
        capacity_bytes,
        stored_bytes,
        chunk_count,
        point_count,
        format_version,
        health,
    } = repository;
    api::RepositoryUsage {
        writable_bytes,
        capacity_bytes,
        stored_bytes,
        chunk_count,
        point_count,
        format_version,
        health,
    }
}
