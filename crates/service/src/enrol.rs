//! Becoming a node of a cluster, and finding its controller again.
//!
//! The call itself is the role's: this crate knows no protocol. It checks the token and what comes
//! back, and keeps the identity so that a node that has one has joined.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use stillwater_rpc::{Identity, PendingKey, Token};
use stillwater_types::{Fault, Reason, Role};

use crate::state;

/// Beside the identity, because it belongs to it: whose node this is.
const CONTROLLER_FILE: &str = "controller";

/// What the controller answered to a node that asked to join.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// PEM of the node's certificate and of the authority's.
    pub certificate_chain: String,
    /// More that the role has to keep, by file name.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Where key and certificates lie in a state directory.
pub fn identity_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

/// Enrols a node of `role` with a join token; `ask` makes the call with the token and the certificate
/// request. Nothing counts unless all of it worked.
///
/// # Errors
/// `TOKEN_INVALID` when the token is for another role, `BAD_FIELD` when the node has joined already,
/// `CERTIFICATE_UNTRUSTED` when the answer is not from the token's cluster, `STORAGE_FAILED` when the
/// identity cannot be kept, and those of `ask`.
pub async fn enrol<A, C>(
    role: Role,
    state_dir: &Path,
    text: &str,
    ask: A,
) -> Result<Identity, Fault>
where
    A: FnOnce(Token, Vec<u8>) -> C,
    C: Future<Output = Result<Enrolled, Fault>>,
{
    let token: Token = text.trim().parse()?;
    if token.role != role {
        let text = format!(
            "the token is for a {}, make one with --role {role}",
            token.role
        );
        return Err(Fault::new(Reason::TokenInvalid, text));
    }
    if Identity::exists(&identity_dir(state_dir)) {
        let text = format!(
            "this {role} has joined a cluster already, empty its state directory to join another"
        );
        return Err(Fault::new(Reason::BadField, text).with("dir", state_dir.display()));
    }
    let (controller, pin) = (token.controller.clone(), token.ca_pin);
    let (key, request) = PendingKey::generate()?;
    let enrolled = ask(token, request).await?;
    let identity = key.certify(&enrolled.certificate_chain)?;
    if identity.role() != role || identity.ca_pin() != pin {
        let text = format!("the certificate is not that of a {role} of the token's cluster");
        return Err(Fault::new(Reason::CertificateUntrusted, text));
    }
    let (kept, state_dir) = (identity.clone(), state_dir.to_owned());
    tokio::task::spawn_blocking(move || keep(&state_dir, &controller, &enrolled.files, &kept))
        .await
        .map_err(|_| Fault::new(Reason::Bug, "keeping the identity panicked"))??;
    Ok(identity)
}

/// The identity comes last: a node that has one has joined.
fn keep(
    state_dir: &Path,
    controller: &str,
    files: &[(&'static str, Vec<u8>)],
    identity: &Identity,
) -> Result<(), Fault> {
    state::prepare(state_dir)?;
    let controller = (CONTROLLER_FILE, controller.as_bytes());
    let files = files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    for (name, bytes) in files.chain([controller]) {
        let path = state_dir.join(name);
        publish(&path, bytes).map_err(|err| failed("write", &path, &err))?;
    }
    identity.save(&identity_dir(state_dir))
}

fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    fs::write(&staged, bytes)?;
    fs::File::open(&staged)?.sync_all()?;
    fs::rename(&staged, path)?;
    path.parent()
        .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

/// The address of the controller that this node joined, unless the configuration names another.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere.
pub fn controller_address(configured: Option<&str>, state_dir: &Path) -> Result<String, Fault> {
    match configured {
        Some(address) => Ok(address.to_owned()),
        None => {
            let path = state_dir.join(CONTROLLER_FILE);
            fs::read_to_string(&path).map_err(|err| failed("read", &path, &err))
        }
    }
}

fn failed(act: &str, path: &Path, err: &io::Error) -> Fault {
    let text = format!("{act} {}: {err}", path.display());
    Fault::new(Reason::StorageFailed, text)
}
