//! What is protected, and statements.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use stillwater_format::commit::Signed;
use stillwater_repository_api::*;
use stillwater_rpc::Peer;
use stillwater_store::{self as store, Store};
use stillwater_types::Fault;

use super::{Services, timestamp};

#[async_trait]
impl RetentionService for Services {
    async fn get_retention(&self, _: &Peer) -> Result<Retention, Fault> {
        retention(self.engine.call(|store| Ok(store.retention())).await?)
    }

    async fn submit_statement(
        &self,
        _: &Peer,
        request: SubmitStatementRequest,
    ) -> Result<SubmitStatementResponse, Fault> {
        let SubmitStatementRequest {
            statement,
            key,
            signature,
        } = request;
        let signed = Signed {
            statement: statement.into(),
            key,
            signature,
        };
        let submit = move |store: &Store| {
            let state = store.submit(&signed)?;
            Ok((state, store.retention()))
        };
        let (state, retention) = self.engine.call(submit).await?;
        let (state, waiting) = match state {
            store::StatementState::Waiting(statement) => (
                StatementState::Waiting,
                Some(waiting(statement, &retention)?),
            ),
            store::StatementState::Done => (StatementState::Done, None),
            store::StatementState::Vetoed => (StatementState::Vetoed, None),
        };
        Ok(SubmitStatementResponse { state, waiting })
    }
}

fn retention(retention: store::Retention) -> Result<Retention, Fault> {
    let waiting: Result<_, Fault> = retention
        .waiting
        .iter()
        .map(|statement| waiting(statement.clone(), &retention))
        .collect();
    let frozen = retention
        .frozen
        .map(|frozen| format!("the clock was set {}", frozen.moved));
    let admins: Result<_, Fault> = retention.admins.into_iter().map(admin).collect();
    Ok(Retention {
        floor_seconds: retention.floor.as_secs(),
        configured_floor_seconds: retention.configured_floor.as_secs(),
        demanded_floor_seconds: retention.demanded_floor.as_secs(),
        trusted_time: timestamp(retention.trusted)?,
        wall_time: timestamp(retention.wall)?,
        frozen: frozen.unwrap_or_default(),
        admins: admins?,
        waiting: waiting?,
    })
}

fn admin(admin: store::Admin) -> Result<RepositoryAdmin, Fault> {
    Ok(RepositoryAdmin {
        key: admin.key,
        label: admin.label,
        since: timestamp(admin.since)?,
    })
}

/// When it takes effect is told in the time of people, as far as the two go on together.
fn waiting(
    statement: store::Waiting,
    retention: &store::Retention,
) -> Result<WaitingStatement, Fault> {
    let effective_at = statement
        .effective_at
        .map(|at| soon(at.since(retention.trusted)))
        .transpose()?;
    Ok(WaitingStatement {
        statement_id: statement.id,
        demand: statement.action.to_string(),
        signers: statement.signers,
        needed_signer_count: u32::try_from(statement.needs).unwrap_or(u32::MAX),
        effective_at,
    })
}

fn soon(left: Duration) -> Result<Timestamp, Fault> {
    Timestamp::now().checked_add(left).map_err(|error| {
        Fault::new(
            stillwater_types::Reason::Bug,
            format!("reckon when a statement takes effect: {error}"),
        )
    })
}
