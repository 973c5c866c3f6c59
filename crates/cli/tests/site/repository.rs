//! A repository as a controller tells it: one task, ended as the test wants it.

use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use stillwater_controller_api::*;
use stillwater_rpc::Peer;
use stillwater_types::{Fault, NodeId, Reason};

use super::controller::Fake;

pub struct Upkeep {
    pub node: NodeId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: Vec<StartTaskRequest>,
    statements: Vec<SubmitStatementRequest>,
    result: Option<TaskResult>,
    fault: Option<Fault>,
    refusal: Option<Fault>,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            node: NodeId::mint(),
            state: Mutex::default(),
        }
    }
}

impl Upkeep {
    pub fn end_tasks_with(&self, result: TaskResult) {
        self.state.lock().expect("not poisoned").result = Some(result);
    }

    pub fn fail_tasks_with(&self, fault: Fault) {
        self.state.lock().expect("not poisoned").fault = Some(fault);
    }

    pub fn refuse_deletions(&self, fault: Fault) {
        self.state.lock().expect("not poisoned").refusal = Some(fault);
    }

    pub fn statements(&self) -> Vec<SubmitStatementRequest> {
        self.state.lock().expect("not poisoned").statements.clone()
    }

    pub fn started(&self) -> Vec<StartTaskRequest> {
        self.state.lock().expect("not poisoned").started.clone()
    }

    pub fn delete(&self) -> Result<(), Fault> {
        let refusal = self.state.lock().expect("not poisoned").refusal.clone();
        refusal.map_or(Ok(()), Err)
    }

    fn running(&self, request: &StartTaskRequest) -> Task {
        Task {
            task_id: request.task_id,
            kind: request.kind,
            point_id: request.point_id,
            state: TaskState::Running,
            phase: "reading".into(),
            done: 1 << 20,
            total: 4 << 20,
            unit: "bytes".into(),
            started_at: Timestamp::now(),
            ended_at: None,
            result: None,
            fault: None,
        }
    }

    fn ended(&self, request: &StartTaskRequest) -> Task {
        let state = self.state.lock().expect("not poisoned");
        let fault = state.fault.clone();
        Task {
            state: fault
                .as_ref()
                .map_or(TaskState::Succeeded, |_| TaskState::Failed),
            done: 4 << 20,
            ended_at: Some(Timestamp::now()),
            result: state.result.clone().filter(|_| fault.is_none()),
            fault,
            ..self.running(request)
        }
    }

    fn repository(&self) -> Repository {
        Repository {
            node_id: self.node,
            name: "web".into(),
            address: "store.example:7445".into(),
            online: true,
            usage: Some(RepositoryUsage {
                stored_bytes: 3 << 30,
                writable_bytes: 1 << 40,
                point_count: 7,
                ..RepositoryUsage::default()
            }),
            fault: None,
        }
    }
}

#[async_trait]
impl RepositoryService for Fake {
    async fn list_repositories(&self, _: &Peer) -> Result<Vec<Repository>, Fault> {
        Ok(vec![self.upkeep.repository()])
    }

    async fn get_repository(
        &self,
        _: &Peer,
        node_id: NodeId,
    ) -> Result<GetRepositoryResponse, Fault> {
        if node_id != self.upkeep.node {
            return Err(Fault::new(Reason::NodeNotFound, "no such repository"));
        }
        Ok(GetRepositoryResponse {
            repository: self.upkeep.repository(),
            retention: Retention {
                floor_seconds: 14 * 86_400,
                configured_floor_seconds: 14 * 86_400,
                demanded_floor_seconds: 0,
                trusted_time: Timestamp::now(),
                wall_time: Timestamp::now(),
                frozen: String::new(),
                admins: vec![],
                waiting: vec![],
            },
        })
    }

    async fn start_task(
        &self,
        _: &Peer,
        request: StartTaskRequest,
    ) -> Result<StartTaskResponse, Fault> {
        let task = self.upkeep.running(&request);
        let mut state = self.upkeep.state.lock().expect("not poisoned");
        state.started.push(request);
        Ok(StartTaskResponse {
            task,
            node_id: self.upkeep.node,
        })
    }

    async fn watch_task(
        &self,
        _: &Peer,
        request: WatchTaskRequest,
    ) -> Result<BoxStream<'static, Result<Task, Fault>>, Fault> {
        let started = self.upkeep.started();
        let found = started.iter().find(|task| task.task_id == request.task_id);
        let found = found.ok_or_else(|| Fault::new(Reason::TaskNotFound, "no such task"))?;
        let states = [self.upkeep.running(found), self.upkeep.ended(found)];
        Ok(stream::iter(states.map(Ok)).boxed())
    }

    async fn cancel_task(&self, _: &Peer, _: CancelTaskRequest) -> Result<Task, Fault> {
        Err(Fault::new(Reason::TaskNotFound, "no such task"))
    }

    async fn submit_statement(
        &self,
        _: &Peer,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault> {
        let mut state = self.upkeep.state.lock().expect("not poisoned");
        state.statements.push(request);
        Ok(SubmitStatementResponse {
            state: StatementState::Done,
            waiting: None,
        })
    }
}
