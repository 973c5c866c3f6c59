//! Becoming a node of a cluster, and finding its controller again.

use std::fs;
use std::io;
use std::path::Path;

use secrecy::SecretString;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::{Identity, PendingKey, Target, Token, connect, connect_pinned};
use stillwater_service::state;
use stillwater_types::{Fault, Reason, Role};

use crate::config::Config;

/// Beside the identity, because it belongs to it: whose node this is.
const CONTROLLER_FILE: &str = "controller";

/// Enrols this proxy with a join token. Nothing is kept unless all of it worked.
///
/// # Errors
/// `TOKEN_INVALID`, `CERTIFICATE_UNTRUSTED`, `CONTROLLER_UNREACHABLE`; `STORAGE_FAILED` when the
/// identity cannot be kept.
pub async fn join(config: &Config, text: &str) -> Result<Identity, Fault> {
    let token: Token = text.parse()?;
    if token.role != Role::Proxy {
        let text = format!(
            "the token is for a {}, make one with --role proxy",
            token.role
        );
        return Err(Fault::new(Reason::TokenInvalid, text));
    }
    if Identity::exists(&config.identity_dir()) {
        let text =
            "this proxy has joined a cluster already, empty its state directory to join another";
        return Err(Fault::new(Reason::BadField, text).with("dir", config.state_dir.display()));
    }
    let (key, request) = PendingKey::generate()?;
    let client = Client::new(connect_pinned(&token.controller, token.ca_pin)?);
    let joined = client.join_cluster(JoinClusterRequest {
        token: SecretString::from(token.to_text().as_str()),
        certificate_request: request.into(),
        name: config.node_name(),
        address: Some(config.address()),
    });
    let identity = key.certify(&joined.await?.certificate_chain)?;
    if identity.role() != Role::Proxy || identity.ca_pin() != token.ca_pin {
        let text = "the certificate is not that of a proxy of the token's cluster";
        return Err(Fault::new(Reason::CertificateUntrusted, text));
    }
    let (kept, config) = (identity.clone(), config.clone());
    tokio::task::spawn_blocking(move || keep(&config, &token.controller, &kept))
        .await
        .map_err(|_| Fault::new(Reason::Bug, "keeping the identity panicked"))??;
    Ok(identity)
}

/// The identity comes last: a proxy that has one has joined.
fn keep(config: &Config, controller: &str, identity: &Identity) -> Result<(), Fault> {
    state::prepare(&config.state_dir)?;
    let path = config.state_dir.join(CONTROLLER_FILE);
    publish(&path, controller.as_bytes()).map_err(|err| failed("write", &path, &err))?;
    identity.save(&config.identity_dir())
}

fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    fs::write(&staged, bytes)?;
    fs::File::open(&staged)?.sync_all()?;
    fs::rename(&staged, path)?;
    path.parent()
        .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

/// A client of the controller that this proxy joined.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere who that is, `BAD_FIELD` when that is no address.
pub fn controller(config: &Config, identity: &Identity) -> Result<Client, Fault> {
    let address = match &config.controller {
        Some(address) => address.clone(),
        None => {
            let path = config.state_dir.join(CONTROLLER_FILE);
            fs::read_to_string(&path).map_err(|err| failed("read", &path, &err))?
        }
    };
    let target = Target {
        address,
        role: Role::Controller,
        node: None,
    };
    Ok(Client::new(connect(identity, target)?))
}

fn failed(act: &str, path: &Path, err: &io::Error) -> Fault {
    let text = format!("{act} {}: {err}", path.display());
    Fault::new(Reason::StorageFailed, text)
}
