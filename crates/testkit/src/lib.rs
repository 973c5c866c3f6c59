//! What the tests of several crates lean on: the role × RPC matrix, bare TLS, the example settings.
//!
//! Knows no message of any role and no settings of one, so that each crate brings its own. Nothing
//! that ships depends on it; `cargo xtask layers` sees to that. What is not as it should be panics.

pub mod example;
pub mod matrix;
pub mod tls;

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
