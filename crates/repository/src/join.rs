//! Becoming a node of a cluster, and what was learnt by it.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use secrecy::SecretString;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::grant::GrantVerifier;
use stillwater_rpc::{Identity, PendingKey, Target, Token, connect, connect_pinned};
use stillwater_service::state;
use stillwater_store::{self as store, Store};
use stillwater_types::{Fault, Reason, Role};

use crate::config::Config;
use crate::engine::{self, blocking};
use crate::error::fault;

/// Beside the identity, because they belong to it: whose node this is, and whose grants count.
const CONTROLLER_FILE: &str = "controller";
const GRANT_KEY_FILE: &str = "grant-key";

/// Enrols this repository with a join token, and makes its store unless there is one.
///
/// The storage is tried before the token is used up, and the identity is kept last: a repository
/// that has one has joined.
///
/// # Errors
/// `TOKEN_INVALID`, `CERTIFICATE_UNTRUSTED`, `CONTROLLER_UNREACHABLE`; `STORAGE_UNFIT` and
/// `STORAGE_FAILED` when the storage cannot be used.
pub async fn join(config: &Config, text: &str) -> Result<Identity, Fault> {
    let token: Token = text.parse()?;
    if token.role != Role::Repository {
        let role = token.role;
        let message = format!("the token is for a {role}, make one with --role repository");
        return Err(Fault::new(Reason::TokenInvalid, message));
    }
    if Identity::exists(&config.identity_dir()) {
        let message = "this repository has joined a cluster already; to join another one with the \
                       same store, remove the identity directory";
        let dir = config.identity_dir();
        return Err(Fault::new(Reason::BadField, message).with("dir", dir.display()));
    }
    let tried = config.clone();
    blocking(move || try_storage(&tried)).await?;
    let (key, request) = PendingKey::generate()?;
    let client = Client::new(connect_pinned(&token.controller, token.ca_pin)?);
    let joined = client
        .join_cluster(JoinClusterRequest {
            token: SecretString::from(token.to_text().as_str()),
            certificate_request: request.into(),
            name: config.node_name(),
            address: Some(config.address()),
        })
        .await?;
    let identity = key.certify(&joined.certificate_chain)?;
    if identity.role() != Role::Repository || identity.ca_pin() != token.ca_pin {
        let message = "the certificate is not that of a repository of the token's cluster";
        return Err(Fault::new(Reason::CertificateUntrusted, message));
    }
    let (kept, config) = (identity.clone(), config.clone());
    blocking(move || keep(&config, &token.controller, &joined.grant_key, &kept)).await?;
    Ok(identity)
}

fn try_storage(config: &Config) -> Result<(), Fault> {
    let dir = prepare(config)?;
    Store::probe(&engine::environment(&dir)?, &config.options()).map_err(fault)
}

fn prepare(config: &Config) -> Result<std::path::PathBuf, Fault> {
    state::prepare(&config.state_dir)?;
    let dir = config.store_dir();
    state::prepare(&dir)?;
    Ok(dir)
}

fn keep(
    config: &Config,
    controller: &str,
    grant_key: &[u8; 32],
    identity: &Identity,
) -> Result<(), Fault> {
    make_store(config, owner(identity))?;
    publish(&config.state_dir.join(CONTROLLER_FILE), controller)?;
    publish(
        &config.state_dir.join(GRANT_KEY_FILE),
        &HEX.encode(grant_key),
    )?;
    identity.save(&config.identity_dir())
}

/// Whose store it is when this identity has it.
pub fn owner(identity: &Identity) -> store::Identity {
    store::Identity {
        cluster: identity.cluster(),
        node: identity.node(),
    }
}

/// Makes the store, or takes over the one that is there: after its cluster was lost, a repository
/// joins the new one with everything that it has.
fn make_store(config: &Config, owner: store::Identity) -> Result<(), Fault> {
    let dir = prepare(config)?;
    let options = config.options();
    match Store::init(&engine::environment(&dir)?, &options, owner) {
        Err(store::Error::AlreadyInitialised) => {
            let store = engine::open(&dir, options)?;
            store.adopt(owner).map_err(fault)
        }
        made => made.map_err(fault),
    }
}

/// Writes a small file so that after a crash it is whole or absent.
fn publish(path: &Path, text: &str) -> Result<(), Fault> {
    let write = || -> io::Result<()> {
        let staged = path.with_extension("new");
        fs::write(&staged, text)?;
        fs::File::open(&staged)?.sync_all()?;
        fs::rename(&staged, path)?;
        path.parent()
            .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().map_err(|error| failed("write", path, &error))
}

/// A client of the controller that this repository joined. Blocks on the disk.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere who that is, `BAD_FIELD` when that is no address.
pub fn controller(config: &Config, identity: &Identity) -> Result<Client, Fault> {
    let address = match &config.controller {
        Some(address) => address.clone(),
        None => read(&config.state_dir.join(CONTROLLER_FILE))?,
    };
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
/// `SECRET_UNREADABLE` when the key that the controller gave is damaged.
pub fn verifier(config: &Config) -> Result<GrantVerifier, Fault> {
    let path = config.state_dir.join(GRANT_KEY_FILE);
    let key = HEX.decode(read(&path)?.trim().as_bytes()).ok();
    let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.map(GrantVerifier::new).ok_or_else(|| {
        let message = format!(
            "read {}: it is not a key; join the cluster again",
            path.display()
        );
        Fault::new(Reason::SecretUnreadable, message)
    })
}

fn read(path: &Path) -> Result<String, Fault> {
    fs::read_to_string(path).map_err(|error| failed("read", path, &error))
}

fn failed(act: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Reason::StorageFailed,
        format!("{act} {}: {error}", path.display()),
    )
}
