//! Identities of nodes that nobody runs.

use std::time::SystemTime;

use stillwater_rpc::{Ca, Identity, NODE_VALIDITY, PendingKey};
use stillwater_types::{NodeId, Role};

/// A new node of `role` in the cluster of `authority`.
///
/// # Panics
/// When the authority issues no certificate.
pub fn identity(authority: &Ca, role: Role) -> Identity {
    let (key, request) = PendingKey::generate().expect("a key");
    let chain = authority
        .issue(
            &request,
            role,
            NodeId::mint(),
            NODE_VALIDITY,
            SystemTime::now(),
        )
        .expect("a chain");
    key.certify(&chain).expect("an identity")
}
