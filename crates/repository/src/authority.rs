//! Whether a proxy may do what it asks: its grant and its run's session say so, or nobody does.

use std::time::SystemTime;

use stillwater_repository_api::Authority;
use stillwater_rpc::Peer;
use stillwater_rpc::grant::{Expected, GrantVerifier, Verb};
use stillwater_store::{SessionKey, Store};
use stillwater_types::{DatasetId, Fault, NodeId, Reason};

/// Holds calls of proxies against grants and sessions.
#[derive(Debug, Clone)]
pub struct Gate {
    verifier: GrantVerifier,
    repository: NodeId,
}

/// What a call may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The session that it acts in.
    pub session: SessionKey,
    /// The only dataset that it reaches.
    pub dataset: DatasetId,
}

impl Gate {
    /// Checks grants for this repository.
    pub const fn new(verifier: GrantVerifier, repository: NodeId) -> Self {
        Self {
            verifier,
            repository,
        }
    }

    /// Lets a call pass that acts in its run's session.
    ///
    /// # Errors
    /// `GRANT_INVALID` when the grant is not for this call, `FENCE_STALE` when the session is over.
    pub fn admit(
        &self,
        store: &Store,
        peer: &Peer,
        authority: &Authority,
        verb: Verb,
    ) -> Result<Permit, Fault> {
        let (proxy, repository) = (peer.node, self.repository);
        let expected = Expected {
            now: SystemTime::now(),
            proxy,
            repository,
            verb,
        };
        let claims = self.verifier.verify(&authority.grant, &expected)?;
        if claims.run != authority.run_id {
            let text = "the grant is for another run";
            return Err(Fault::new(Reason::GrantInvalid, text).with("run", claims.run));
        }
        let session = SessionKey {
            run: authority.run_id,
            fence: authority.fence,
        };
        let dataset = store.check_session(session)?;
        if claims.dataset != dataset {
            let text = "the grant is for another dataset";
            return Err(Fault::new(Reason::GrantInvalid, text).with("dataset", claims.dataset));
        }
        Ok(Permit { session, dataset })
    }
}
