//! Certificates that never run out while the controller answers.

use std::path::Path;

use stillwater_rpc::Identity;
use stillwater_types::Fault;
use tokio_util::sync::CancellationToken;

/// Renews `identity` in memory and in `dir` whenever two thirds of its time are over, until
/// `cancel`. `renew` sends a PKCS #10 request (DER) and returns the chain (PEM).
pub async fn keep_identity_fresh(
    identity: &Identity,
    dir: &Path,
    cancel: &CancellationToken,
    renew: impl AsyncFnMut(Vec<u8>) -> Result<String, Fault>,
) {
    drop(renew);
    unimplemented!("{} {dir:?} {cancel:?}", identity.role())
}
