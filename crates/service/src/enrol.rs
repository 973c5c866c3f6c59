//! Becoming a node of a cluster, and finding its controller again.
//!
//! The call itself is the role's: this crate knows no protocol. It checks the token and what comes
//! back, and keeps the identity last, so that a node that has one has joined.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use stillwater_rpc::{Identity, PendingKey, Target, Token, file};
use stillwater_types::{Fault, Reason, Role};

use crate::state;

/// Beside the identity, because it belongs to it: whose node this is.
const CONTROLLER_FILE: &str = "controller";

/// What the controller answered to a node that asked to join.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// PEM of the node's certificate and of the authority's.
    pub certificate_chain: String,
    /// More that the role has to keep, by file name; [`read`] gives it back.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Where key and certificates lie in a state directory.
pub fn identity_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

/// Enrols a node of `role` with the join token `text`. Nothing counts unless all of it worked.
///
/// `ask` makes the call with the token and the certificate request: what can go wrong without a
/// controller should go wrong in there first, because the call uses the token up. `settle` may block;
/// it makes what the node needs to live under its new name, before that name is kept.
///
/// # Errors
/// `TOKEN_INVALID` when the token is for another role, `BAD_FIELD` when the node has joined already,
/// `CERTIFICATE_UNTRUSTED` when the answer is not from the token's cluster, `STORAGE_FAILED` when the
/// identity cannot be kept, and those of `ask` and `settle`.
pub async fn enrol<A, C, S>(
    role: Role,
    state_dir: &Path,
    text: &str,
    ask: A,
    settle: S,
) -> Result<Identity, Fault>
where
    A: FnOnce(Token, Vec<u8>) -> C,
    C: Future<Output = Result<Enrolled, Fault>>,
    S: FnOnce(&Identity) -> Result<(), Fault> + Send + 'static,
{
    let token = check(role, state_dir, text)?;
    let (controller, pin) = (token.controller.clone(), token.ca_pin);
    let (key, request) = PendingKey::generate()?;
    let enrolled = ask(token, request).await?;
    let identity = key.certify(&enrolled.certificate_chain)?;
    if identity.role() != role || identity.ca_pin() != pin {
        let text = format!("the certificate is not that of a {role} of the token's cluster");
        return Err(Fault::new(Reason::CertificateUntrusted, text));
    }
    let (kept, state_dir) = (identity.clone(), state_dir.to_owned());
    let keep = move || {
        settle(&kept)?;
        keep(&state_dir, &controller, &enrolled.files, &kept)
    };
    tokio::task::spawn_blocking(keep)
        .await
        .map_err(|_| Fault::new(Reason::Bug, "keeping the identity panicked"))??;
    Ok(identity)
}

/// The token, when it fits and there is something to join.
fn check(role: Role, state_dir: &Path, text: &str) -> Result<Token, Fault> {
    let token: Token = text.trim().parse()?;
    if token.role != role {
        let text = format!(
            "the token is for a {}, make one with --role {role}",
            token.role
        );
        return Err(Fault::new(Reason::TokenInvalid, text));
    }
    let dir = identity_dir(state_dir);
    if Identity::exists(&dir) {
        let text = format!(
            "this {role} has joined a cluster already; to join another one, remove the identity \
             directory"
        );
        return Err(Fault::new(Reason::BadField, text).with("dir", dir.display()));
    }
    Ok(token)
}

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
        file::publish(&path, bytes).map_err(|err| failed("write", &path, &err))?;
    }
    identity.save(&identity_dir(state_dir))
}

/// The controller that this node joined, or the one that the configuration names instead. Blocks on
/// the disk.
///
/// # Errors
/// `STORAGE_FAILED` when it is written nowhere.
pub fn controller(configured: Option<&str>, state_dir: &Path) -> Result<Target, Fault> {
    let address = match configured {
        Some(address) => address.to_owned(),
        None => read(state_dir, CONTROLLER_FILE)?,
    };
    Ok(Target {
        address,
        role: Role::Controller,
        node: None,
    })
}

/// One of the [`Enrolled`] node's files. Blocks on the disk.
///
/// # Errors
/// `STORAGE_FAILED` when it is not there or no text.
pub fn read(state_dir: &Path, name: &str) -> Result<String, Fault> {
    let path = state_dir.join(name);
    fs::read_to_string(&path).map_err(|err| failed("read", &path, &err))
}

fn failed(act: &str, path: &Path, err: &io::Error) -> Fault {
    let text = format!("{act} {}: {err}", path.display());
    Fault::new(Reason::StorageFailed, text)
}

#[cfg(test)]
mod tests;
