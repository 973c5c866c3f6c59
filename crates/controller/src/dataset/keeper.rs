//! Sees to it that every repository has a dataset.

use std::sync::Arc;
use std::time::Duration;

use stillwater_repository_api as repository_api;
use stillwater_seal::{DatasetKey, Purpose, RecoveryPublicKey};
use stillwater_types::{DatasetId, Fault, NodeId, Role};
use tokio_util::sync::CancellationToken;

use super::{Dataset, DatasetEvent, Wrapped};
use crate::event::Actor;
use crate::memory::Memory;
use crate::node::{Directory, NodeInfo};
use crate::run::Repositories;
use crate::secret::Secrets;

/// How long after a failure, or after nothing happened, it looks again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Makes datasets; one task runs it.
pub struct Keeper {
    /// Where keys are kept.
    pub memory: Memory,
    /// Who can be called.
    pub nodes: Directory,
    /// How repositories are called.
    pub repositories: Arc<dyn Repositories>,
    /// Seals keys.
    pub secrets: Secrets,
    /// Wraps keys.
    pub recovery: RecoveryPublicKey,
}

impl Keeper {
    /// Works until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut changes = self.memory.watch();
        loop {
            for repository in self.nodes.online(Role::Repository) {
                if let Err(fault) = self.keep(&repository).await {
                    tracing::warn!(repository.id = %repository.node, %fault, "repository has no dataset yet");
                }
            }
            // Heartbeats, which say that a repository can be called, change no journalled state.
            let woken = async {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            };
            if cancel.run_until_cancelled(woken).await.is_none() {
                return;
            }
        }
    }

    /// Makes the dataset of one repository ready, if it is not. Safe to repeat from any point.
    pub(super) async fn keep(&self, repository: &NodeInfo) -> Result<(), Fault> {
        let dataset = match self.memory.state().datasets.of(repository.node) {
            Some(dataset) if dataset.is_ready => return Ok(()),
            Some(dataset) => Arc::clone(dataset),
            None => self.make(repository.node).await?,
        };
        let created = repository_api::Dataset {
            dataset_id: dataset.dataset,
            label: repository.name.clone(),
            wrapped_key: dataset.wrapped.0.clone().into(),
        };
        self.repositories
            .create_dataset(repository.node, created)
            .await?;
        let ready = DatasetEvent::Ready {
            dataset: dataset.dataset,
        };
        self.memory.append(Actor::Controller, ready).await?;
        tracing::info!(repository.id = %repository.node, dataset.id = %dataset.dataset, "dataset is ready");
        Ok(())
    }

    async fn make(&self, repository: NodeId) -> Result<Arc<Dataset>, Fault> {
        let dataset = DatasetId::mint();
        let key = DatasetKey::generate()?;
        let made = DatasetEvent::Made {
            dataset,
            repository,
            key: self
                .secrets
                .seal(Purpose::DatasetKey, dataset.as_bytes(), key.expose())?,
            wrapped: Wrapped(self.recovery.wrap(dataset, &key)?.as_bytes().to_vec()),
        };
        let state = self.memory.append(Actor::Controller, made).await?;
        state.datasets.find(dataset).cloned()
    }
}
