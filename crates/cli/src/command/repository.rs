//! `stillwater repository`.

use std::path::Path;

use stillwater_controller_api::{
    CancelTaskRequest, StartTaskRequest, SubmitStatementRequest, TaskKind, WatchTaskRequest,
};
use stillwater_rpc::signing::{Signature, SignedStatement};
use stillwater_types::{Fault, NodeId, Reason, TaskId};

use super::{Desk, task};
use crate::arguments::Repository;
use crate::exit::Outcome;
use crate::{output, resolve, view};

pub(super) async fn run(desk: &Desk, repository: Repository) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    let find = async |name: String| resolve::repository(controller, &name).await;
    match repository {
        Repository::List => list(desk).await,
        Repository::Show { repository } => {
            let shown = controller.get_repository(find(repository).await?).await?;
            let json = || view::repository::shown_json(&shown);
            output::print(desk.format, || view::repository::show(&shown), json)?;
            Ok(Outcome::Done)
        }
        Repository::Usage { repository } => usage(desk, find(repository).await?).await,
        Repository::Scrub {
            repository,
            all,
            detach,
        } => {
            let request = StartTaskRequest {
                all,
                ..asked(TaskKind::Scrub, find(repository).await?)
            };
            task::conduct(desk, request, detach).await
        }
        Repository::Gc { repository, detach } => {
            let request = asked(TaskKind::Collect, find(repository).await?);
            task::conduct(desk, request, detach).await
        }
        Repository::Submit { repository, file } => {
            submit(desk, find(repository).await?, &file).await
        }
        Repository::Watch { repository, task } => {
            let (node_id, task_id) = (find(repository).await?, task_id(&task)?);
            task::watch(desk, WatchTaskRequest { node_id, task_id }).await
        }
        Repository::Cancel { repository, task } => {
            let (node_id, task_id) = (find(repository).await?, task_id(&task)?);
            let request = CancelTaskRequest { node_id, task_id };
            let task = controller.cancel_task(request).await?;
            let json = || view::task::json(&task);
            output::print(desk.format, || view::task::show(&task), json)?;
            Ok(Outcome::Done)
        }
    }
}

/// Lists all; one that does not answer makes it a warning.
async fn list(desk: &Desk) -> Result<Outcome, Fault> {
    let repositories = desk.session.controller.list_repositories().await?;
    let json = || repositories.iter().map(view::repository::json).collect();
    output::print(desk.format, || view::repository::list(&repositories), json)?;
    let mut outcome = Outcome::Done;
    for repository in &repositories {
        if let Some(fault) = &repository.fault {
            output::say(&format!("warning: {}: {fault}", repository.name));
            outcome = Outcome::Warned;
        }
    }
    Ok(outcome)
}

async fn usage(desk: &Desk, repository: NodeId) -> Result<Outcome, Fault> {
    let shown = desk.session.controller.get_repository(repository).await?;
    let repository = shown.repository;
    let Some(usage) = &repository.usage else {
        return Err(repository.fault.unwrap_or_else(|| {
            Fault::new(Reason::RepositoryUnreachable, "the repository told nothing")
        }));
    };
    let text = || view::repository::usage(&repository, usage);
    output::print(desk.format, text, || view::repository::json(&repository))?;
    Ok(Outcome::Done)
}

/// Hands in every signature of a statement; the last answer tells where it stands then.
async fn submit(desk: &Desk, node_id: NodeId, file: &Path) -> Result<Outcome, Fault> {
    let signed = SignedStatement::load(file)?;
    let mut answer = None;
    for Signature { key, signature } in signed.signatures {
        let request = SubmitStatementRequest {
            node_id,
            statement: signed.statement.clone().into(),
            key,
            signature,
        };
        answer = Some(desk.session.controller.submit_statement(request).await?);
    }
    let answer = answer.ok_or_else(|| {
        let message = "nobody signed the statement; `stillwater-repository statement sign` does";
        Fault::new(Reason::BadField, message)
    })?;
    let json = || view::repository::submitted_json(&answer);
    output::print(desk.format, || view::repository::submitted(&answer), json)?;
    Ok(Outcome::Done)
}

fn asked(kind: TaskKind, node: NodeId) -> StartTaskRequest {
    StartTaskRequest {
        task_id: TaskId::mint(),
        kind,
        node_id: Some(node),
        point_id: None,
        all: false,
    }
}

fn task_id(text: &str) -> Result<TaskId, Fault> {
    text.parse()
        .map_err(|error| Fault::new(Reason::BadField, format!("read the task id: {error}")))
}
