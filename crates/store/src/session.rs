//! Sessions: a run's claim on the repository, with a fencing token.

use std::collections::HashMap;
use std::time::Duration;

use stillwater_types::{DatasetId, RunId};

use crate::Error;

/// Who acts: a run, by the fence that it was given last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The run.
    pub run: RunId,
    /// The fencing token.
    pub fence: u64,
}

/// A run's claim on the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Who acts.
    pub key: SessionKey,
    /// The dataset that the run writes.
    pub dataset: DatasetId,
    /// How long it still lasts unless it is renewed.
    pub lasts: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    fence: u64,
    dataset: DatasetId,
    /// In time since boot, which nobody can set.
    expires: Duration,
}

/// The sessions that are open.
#[derive(Debug)]
pub(crate) struct Sessions {
    claims: HashMap<RunId, Claim>,
    term: Duration,
}

impl Sessions {
    pub(crate) fn new(term: Duration) -> Self {
        Self {
            claims: HashMap::new(),
            term,
        }
    }

    /// Takes in a session that the log has; an older one of the run is over.
    pub(crate) fn open(&mut self, key: SessionKey, dataset: DatasetId, now: Duration) -> Session {
        let expires = now.saturating_add(self.term);
        self.claims.insert(
            key.run,
            Claim {
                fence: key.fence,
                dataset,
                expires,
            },
        );
        Session {
            key,
            dataset,
            lasts: self.term,
        }
    }

    /// Forgets a session that the log has as closed.
    pub(crate) fn close(&mut self, key: SessionKey) {
        if self
            .claims
            .get(&key.run)
            .is_some_and(|claim| claim.fence == key.fence)
        {
            self.claims.remove(&key.run);
        }
    }

    /// The fence of the run's newest session, if it was not closed.
    pub(crate) fn fence(&self, run: RunId) -> Option<u64> {
        self.claims.get(&run).map(|claim| claim.fence)
    }

    /// The dataset of a session that is current.
    pub(crate) fn check(&self, key: SessionKey, now: Duration) -> Result<DatasetId, Error> {
        match self.claims.get(&key.run) {
            Some(claim) if claim.fence == key.fence && now < claim.expires => Ok(claim.dataset),
            _ => Err(Error::FenceStale { run: key.run }),
        }
    }

    /// Moves the end of a session that is current.
    pub(crate) fn renew(&mut self, key: SessionKey, now: Duration) -> Result<Session, Error> {
        let dataset = self.check(key, now)?;
        Ok(self.open(key, dataset, now))
    }

    /// Sessions whose time is over.
    pub(crate) fn expired(&self, now: Duration) -> Vec<SessionKey> {
        let over = self.claims.iter().filter(|(_, claim)| claim.expires <= now);
        over.map(|(run, claim)| SessionKey {
            run: *run,
            fence: claim.fence,
        })
        .collect()
    }

    /// The sessions that were not closed, in no order.
    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        let key = |(run, claim): (&RunId, &Claim)| SessionKey {
            run: *run,
            fence: claim.fence,
        };
        self.claims.iter().map(key).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.claims.len()
    }
}
