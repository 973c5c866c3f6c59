//! Becoming a node of a cluster, and finding its controller again.

use std::fs;

use secrecy::SecretString;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::grant::GrantVerifier;
use stillwater_rpc::{Identity, Target, connect, connect_pinned};
use stillwater_service::enrol::{self, Enrolled};
use stillwater_types::{Fault, Reason, Role};

use crate::config::Config;

/// The public key that the controller signs grants with, 32 bytes.
const GRANT_KEY_FILE: &str = "grant.key";

/// Enrols this repository with a join token.
///
/// # Errors
/// Those of [`enrol::enrol`] and `CONTROLLER_UNREACHABLE`.
pub async fn join(config: &Config, text: &str) -> Result<Identity, Fault> {
    enrol::enrol(
        Role::Repository,
        &config.state_dir,
        text,
        |token, request| async move {
            let client = Client::new(connect_pinned(&token.controller, token.ca_pin)?);
            let joined = client.join_cluster(JoinClusterRequest {
                token: SecretString::from(token.to_text().as_str()),
                certificate_request: request.into(),
                name: config.node_name(),
                address: Some(config.address()),
            });
            let joined = joined.await?;
            Ok(Enrolled {
                certificate_chain: joined.certificate_chain,
                files: vec![(GRANT_KEY_FILE, joined.grant_key.to_vec())],
            })
        },
    )
    .await
}

/// A client of the controller that this repository joined.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere who that is, `BAD_FIELD` when that is no address.
pub fn controller(config: &Config, identity: &Identity) -> Result<Client, Fault> {
    let address = enrol::controller_address(config.controller.as_deref(), &config.state_dir)?;
    let target = Target {
        address,
        role: Role::Controller,
        node: None,
    };
    Ok(Client::new(connect(identity, target)?))
}

/// What grants are checked with. Blocks on the disk.
///
/// # Errors
/// `STORAGE_FAILED` when the key cannot be read.
pub fn grant_verifier(config: &Config) -> Result<GrantVerifier, Fault> {
    let path = config.state_dir.join(GRANT_KEY_FILE);
    let unreadable = |why: String| {
        let text = format!("read {}: {why}; join the cluster again", path.display());
        Fault::new(Reason::StorageFailed, text)
    };
    let bytes = fs::read(&path).map_err(|err| unreadable(err.to_string()))?;
    let key = <[u8; 32]>::try_from(bytes).map_err(|_| unreadable("it is no key".to_owned()))?;
    Ok(GrantVerifier::new(key))
}
