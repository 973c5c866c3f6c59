//! Becoming a node of a cluster, and what was learnt by it.

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use secrecy::SecretString;
use stillwater_controller_api::{Client, JoinClusterRequest};
use stillwater_rpc::grant::GrantVerifier;
use stillwater_rpc::{Identity, Token, connect, connect_pinned};
use stillwater_service::enrol::{self, Enrolled, enrol};
use stillwater_service::state;
use stillwater_store::{self as store, Store};
use stillwater_types::{Fault, Reason, Role};

use crate::config::Config;
use crate::engine::{self, blocking};
use crate::error::fault;

/// Beside the identity, because it belongs to it: whose grants count.
const GRANT_KEY_FILE: &str = "grant-key";

/// Enrols this repository with a join token, and makes its store unless there is one.
///
/// The storage is tried before the token is used up, and the identity is kept last: a repository
/// that has one has joined.
///
/// # Errors
/// `TOKEN_INVALID`, `CERTIFICATE_UNTRUSTED`, `CONTROLLER_UNREACHABLE`; `BAD_FIELD` when it has joined
/// already; `STORAGE_UNFIT` and `STORAGE_FAILED` when the storage cannot be used.
pub async fn join(config: &Config, text: &str) -> Result<Identity, Fault> {
    let ask = async |token: Token, request: Vec<u8>| {
        let tried = config.clone();
        blocking(move || try_storage(&tried)).await?;
        let client = Client::new(connect_pinned(&token.controller, token.ca_pin)?);
        let request = JoinClusterRequest {
            token: SecretString::from(token.to_text().as_str()),
            certificate_request: request.into(),
            name: config.node_name(),
            address: Some(config.address()),
        };
        let joined = client.join_cluster(request).await?;
        Ok(Enrolled {
            certificate_chain: joined.certificate_chain,
            files: vec![(GRANT_KEY_FILE, HEX.encode(&joined.grant_key).into_bytes())],
        })
    };
    let settling = config.clone();
    let settle = move |identity: &Identity| make_store(&settling, owner(identity));
    enrol(Role::Repository, &config.state_dir, text, ask, settle).await
}

fn try_storage(config: &Config) -> Result<(), Fault> {
    let dir = prepare(config)?;
    Store::probe(&engine::environment(&dir)?, &config.options()).map_err(fault)
}

fn prepare(config: &Config) -> Result<PathBuf, Fault> {
    state::prepare(&config.state_dir)?;
    let dir = config.store_dir();
    state::prepare(&dir)?;
    Ok(dir)
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

/// A client of the controller that this repository joined. Blocks on the disk.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere who that is, `BAD_FIELD` when that is no address.
pub fn controller(config: &Config, identity: &Identity) -> Result<Client, Fault> {
    let target = enrol::controller(config.controller.as_deref(), &config.state_dir)?;
    Ok(Client::new(connect(identity, target)?))
}

/// What grants are checked with. Blocks on the disk.
///
/// # Errors
/// `SECRET_UNREADABLE` when the key that the controller gave is damaged.
pub fn verifier(config: &Config) -> Result<GrantVerifier, Fault> {
    let text = enrol::read(&config.state_dir, GRANT_KEY_FILE)?;
    let key = HEX.decode(text.trim().as_bytes()).ok();
    let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.map(GrantVerifier::new).ok_or_else(|| {
        let path = config.state_dir.join(GRANT_KEY_FILE);
        let message = format!(
            "read {}: it is not a key; join the cluster again",
            path.display()
        );
        Fault::new(Reason::SecretUnreadable, message)
    })
}
