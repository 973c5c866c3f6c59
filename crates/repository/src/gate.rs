//! Whether a proxy may do what it asks: by its grant, and by its session.

use std::time::SystemTime;

use stillwater_repository_api::Authority;
use stillwater_rpc::Peer;
use stillwater_rpc::grant::{Claims, Expected, GrantVerifier, Verb};
use stillwater_store::{SessionKey, Store};
use stillwater_types::{DatasetId, Fault, NodeId, Reason};

/// Checks grants that were made for one repository.
#[derive(Debug, Clone)]
pub struct Gate {
    verifier: GrantVerifier,
    repository: NodeId,
}

impl Gate {
    /// Checks with the controller's key, for the repository of this node.
    pub const fn new(verifier: GrantVerifier, repository: NodeId) -> Self {
        Self {
            verifier,
            repository,
        }
    }

    /// The dataset that the caller may read: reading changes nothing, so it needs no session.
    ///
    /// # Errors
    /// `GRANT_INVALID`.
    pub fn admit(
        &self,
        peer: &Peer,
        authority: &Authority,
        verb: Verb,
    ) -> Result<DatasetId, Fault> {
        self.claims(peer, authority, verb)
            .map(|claims| claims.dataset)
    }

    /// The session in which the caller may act.
    ///
    /// # Errors
    /// `GRANT_INVALID`, `FENCE_STALE`.
    pub fn admit_to_session(
        &self,
        store: &Store,
        peer: &Peer,
        authority: &Authority,
        verb: Verb,
    ) -> Result<(SessionKey, DatasetId), Fault> {
        let claims = self.claims(peer, authority, verb)?;
        let key = SessionKey {
            run: authority.run_id,
            fence: authority.fence,
        };
        let dataset = store.check_session(key).map_err(crate::error::fault)?;
        if dataset != claims.dataset {
            return Err(invalid("the grant is for another dataset than the session"));
        }
        Ok((key, dataset))
    }

    fn claims(&self, peer: &Peer, authority: &Authority, verb: Verb) -> Result<Claims, Fault> {
        let expected = Expected {
            now: SystemTime::now(),
            proxy: peer.node,
            repository: self.repository,
            verb,
        };
        let claims = self.verifier.verify(&authority.grant, &expected)?;
        if claims.run != authority.run_id {
            return Err(invalid("the grant is for another run"));
        }
        Ok(claims)
    }
}

fn invalid(message: &str) -> Fault {
    Fault::new(Reason::GrantInvalid, message)
}
