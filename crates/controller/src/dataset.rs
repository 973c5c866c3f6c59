//! Datasets: one for each repository, with a key that the repository never sees.
//!
//! The controller draws the key, keeps it sealed in its journal, and gives the repository a copy
//! that only the recovery key opens. A dataset is of use once the repository has made that copy
//! durable: before that, losing the controller would lose the key.

mod keeper;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_seal::{DatasetKey, Purpose};
use stillwater_types::{DatasetId, Fault, NodeId, Reason};

use crate::event::Part;
use crate::secret::{Sealed, Secrets};

pub use keeper::Keeper;

/// A dataset key that only the recovery key opens; base64 in JSON. Not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wrapped(pub Vec<u8>);

impl From<Wrapped> for String {
    fn from(wrapped: Wrapped) -> Self {
        STANDARD.encode(wrapped.0)
    }
}

impl TryFrom<String> for Wrapped {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

/// One change of the datasets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetEvent {
    /// A key was drawn for a repository's dataset. Journalled before the repository is told.
    Made {
        /// The dataset.
        dataset: DatasetId,
        /// The repository that will keep it.
        repository: NodeId,
        /// The key, sealed for this dataset's id.
        key: Sealed,
        /// The key, wrapped for the recovery key.
        wrapped: Wrapped,
    },
    /// The repository has the dataset and the wrapped key, durably.
    Ready {
        /// Which dataset.
        dataset: DatasetId,
    },
}

/// One dataset as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Names it.
    pub dataset: DatasetId,
    /// The repository that keeps it.
    pub repository: NodeId,
    /// The key, sealed.
    pub key: Sealed,
    /// The key, wrapped for the recovery key.
    pub wrapped: Wrapped,
    /// Whether the repository has it.
    pub is_ready: bool,
}

impl Dataset {
    /// Opens the key.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE` when the controller's key-encryption key is another.
    pub fn open_key(&self, secrets: &Secrets) -> Result<DatasetKey, Fault> {
        let plain = secrets.open(Purpose::DatasetKey, self.dataset.as_bytes(), &self.key)?;
        Ok(DatasetKey::from_slice(&plain)?)
    }
}

/// Every dataset that was ever made.
#[derive(Debug, Clone, Default)]
pub struct Datasets {
    datasets: BTreeMap<DatasetId, Arc<Dataset>>,
}

impl Datasets {
    /// Every dataset, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Dataset>> + '_ {
        self.datasets.values()
    }

    /// The dataset of that id.
    ///
    /// # Errors
    /// `DATASET_NOT_FOUND`.
    pub fn find(&self, dataset: DatasetId) -> Result<&Arc<Dataset>, Fault> {
        self.datasets.get(&dataset).ok_or_else(|| {
            Fault::new(
                Reason::DatasetNotFound,
                "the controller has no key of that dataset",
            )
            .with("dataset", dataset)
        })
    }

    /// The dataset of a repository.
    pub fn of(&self, repository: NodeId) -> Option<&Arc<Dataset>> {
        self.iter().find(|dataset| dataset.repository == repository)
    }
}

impl Part for Datasets {
    type Event = DatasetEvent;

    fn check(&self, _at: Timestamp, event: &DatasetEvent) -> Result<(), Fault> {
        match event {
            DatasetEvent::Made { repository, .. } => match self.of(*repository) {
                Some(_) => Err(
                    Fault::new(Reason::Bug, "the repository has a dataset already")
                        .with("repository", repository),
                ),
                None => Ok(()),
            },
            DatasetEvent::Ready { dataset } => self.find(*dataset).map(|_| ()),
        }
    }

    fn apply(&mut self, _at: Timestamp, event: &DatasetEvent) {
        match event {
            DatasetEvent::Made {
                dataset,
                repository,
                key,
                wrapped,
            } => {
                let made = Dataset {
                    dataset: *dataset,
                    repository: *repository,
                    key: key.clone(),
                    wrapped: wrapped.clone(),
                    is_ready: false,
                };
                self.datasets.insert(*dataset, Arc::new(made));
            }
            DatasetEvent::Ready { dataset } => {
                if let Some(found) = self.datasets.get_mut(dataset) {
                    Arc::make_mut(found).is_ready = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
