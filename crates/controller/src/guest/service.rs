//! Which accounts are kept for guests: set, list, remove.

use async_trait::async_trait;
use secrecy::ExposeSecret;
use stillwater_controller_api as api;
use stillwater_rpc::Peer;
use stillwater_seal::Purpose;
use stillwater_types::{Fault, Reason, VcenterId};

use super::credential::{CredentialEvent, Subject};
use crate::inventory::Inventory;
use crate::memory::Memory;
use crate::node::actor;
use crate::secret::Secrets;

const USERNAME_CHARS_MAX: usize = 256;
const PASSWORD_BYTES_MAX: usize = 1024;
const PATH_BYTES_MAX: usize = 4096;

/// Keeps and forgets accounts.
pub struct Service {
    memory: Memory,
    inventory: Inventory,
    secrets: Secrets,
}

impl Service {
    /// Keeps in `memory`; VMs are looked up in `inventory`.
    pub fn new(memory: Memory, inventory: Inventory, secrets: Secrets) -> Self {
        Self {
            memory,
            inventory,
            secrets,
        }
    }

    async fn subject(&self, asked: api::GuestSubject) -> Result<Subject, Fault> {
        match asked {
            api::GuestSubject::Vm(text) => {
                let located = self.inventory.resolve(&text).await?;
                Ok(Subject::Vm(located.vm))
            }
            api::GuestSubject::Folder(folder) => Ok(Subject::Folder {
                vcenter: self.vcenter(folder.vcenter.as_deref())?,
                path: folder_path(&folder.path)?,
            }),
        }
    }

    fn vcenter(&self, named: Option<&str>) -> Result<VcenterId, Fault> {
        let state = self.memory.state();
        if let Some(text) = named {
            return state.vcenters.resolve(text).map(|vcenter| vcenter.vcenter);
        }
        let mut all = state.vcenters.iter();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only.vcenter),
            _ => Err(bad("vcenter", "say of which vcenter the folder is")),
        }
    }
}

/// A folder's path as it is compared: whole, without a slash at its end.
fn folder_path(text: &str) -> Result<String, Fault> {
    let path = text.trim_end_matches('/');
    let is_good = path.starts_with('/')
        && path.len() <= PATH_BYTES_MAX
        && !path.contains("//")
        && !path.chars().any(char::is_control);
    match is_good {
        true => Ok(path.to_owned()),
        false => Err(bad(
            "path",
            "give the folder's whole inventory path, such as /DC0/vm/shop",
        )),
    }
}

fn check(username: &str, password: &str) -> Result<(), Fault> {
    let chars = username.chars().count();
    if !(1..=USERNAME_CHARS_MAX).contains(&chars) || username.chars().any(char::is_control) {
        return Err(bad("username", "name the guest's account, such as root"));
    }
    match password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        true => Err(bad("password", "give the account's password")),
        false => Ok(()),
    }
}

fn bad(field: &str, message: &str) -> Fault {
    Fault::new(Reason::BadField, message).with("field", field)
}

/// Tells an account without its password.
fn told(subject: &Subject, username: &str) -> api::GuestCredential {
    let subject = match subject {
        Subject::Vm(vm) => api::GuestSubject::Vm(vm.to_string()),
        Subject::Folder { vcenter, path } => api::GuestSubject::Folder(api::GuestFolder {
            vcenter: Some(vcenter.to_string()),
            path: path.clone(),
        }),
    };
    api::GuestCredential {
        subject,
        username: username.to_owned(),
    }
}

#[async_trait]
impl api::GuestCredentialService for Service {
    async fn set_guest_credential(
        &self,
        peer: &Peer,
        request: api::SetGuestCredentialRequest,
    ) -> Result<api::GuestCredential, Fault> {
        let api::SetGuestCredentialRequest {
            subject,
            username,
            password,
        } = request;
        check(&username, password.expose_secret())?;
        let subject = self.subject(subject).await?;
        let context = subject.to_string();
        let sealed = self.secrets.seal(
            Purpose::GuestPassword,
            context.as_bytes(),
            password.expose_secret().as_bytes(),
        )?;
        let answer = told(&subject, &username);
        let by = actor(peer);
        tracing::info!(%by, %subject, "an account for guests is kept");
        let event = CredentialEvent::Set {
            subject,
            username,
            password: sealed,
        };
        self.memory.append(by, event).await?;
        Ok(answer)
    }

    async fn list_guest_credentials(
        &self,
        _peer: &Peer,
    ) -> Result<Vec<api::GuestCredential>, Fault> {
        let state = self.memory.state();
        let all = state.credentials.iter();
        Ok(all
            .map(|account| told(&account.subject, &account.username))
            .collect())
    }

    async fn remove_guest_credential(
        &self,
        peer: &Peer,
        subject: api::GuestSubject,
    ) -> Result<(), Fault> {
        let id = match &subject {
            api::GuestSubject::Vm(text) => text.parse().ok(),
            api::GuestSubject::Folder(_) => None,
        };
        // A VM that is gone is removed by the id that a list tells.
        let subject = match id {
            Some(vm) => Subject::Vm(vm),
            None => self.subject(subject).await?,
        };
        let by = actor(peer);
        tracing::info!(%by, %subject, "an account for guests is forgotten");
        self.memory
            .append(by, CredentialEvent::Removed { subject })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_by_its_whole_path() {
        for good in ["/DC0/vm/shop", "/DC0/vm/shop/", "/DC0/vm/sh op"] {
            assert_eq!(folder_path(good), Ok(good.trim_end_matches('/').to_owned()));
        }
        for bad in ["", "/", "shop", "DC0/vm", "/DC0//vm", "/DC0/v\nm"] {
            assert!(folder_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_account_has_a_name_and_a_password() {
        assert!(check("root", "pw").is_ok());
        for (username, password) in [("", "pw"), ("root", ""), ("a\nb", "pw")] {
            assert!(check(username, password).is_err());
        }
        assert!(check("root", &"p".repeat(1025)).is_err());
    }
}
