//! Becoming a node of a cluster, and finding its controller again.

use secrecy::SecretString;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::{Identity, Token, connect, connect_pinned};
use stillwater_service::enrol::{self, Enrolled, enrol};
use stillwater_types::{Fault, Role};

use crate::config::Config;

/// Enrols this proxy with a join token. Nothing is kept unless all of it worked.
///
/// # Errors
/// `TOKEN_INVALID`, `CERTIFICATE_UNTRUSTED`, `CONTROLLER_UNREACHABLE`; `BAD_FIELD` when it has joined
/// already; `STORAGE_FAILED` when the identity cannot be kept.
pub async fn join(config: &Config, text: &str) -> Result<Identity, Fault> {
    let ask = async |token: Token, request: Vec<u8>| {
        let client = Client::new(connect_pinned(&token.controller, token.ca_pin)?);
        let request = JoinClusterRequest {
            token: SecretString::from(token.to_text().as_str()),
            certificate_request: request.into(),
            name: config.node_name(),
            address: Some(config.address()),
        };
        Ok(Enrolled {
            certificate_chain: client.join_cluster(request).await?.certificate_chain,
            // A proxy hands grants over; it has none to check.
            files: Vec::new(),
        })
    };
    enrol(Role::Proxy, &config.state_dir, text, ask, |_| Ok(())).await
}

/// A client of the controller that this proxy joined.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere who that is, `BAD_FIELD` when that is no address.
pub fn controller(config: &Config, identity: &Identity) -> Result<Client, Fault> {
    let target = enrol::controller(config.controller.as_deref(), &config.state_dir)?;
    Ok(Client::new(connect(identity, target)?))
}
