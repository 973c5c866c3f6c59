//! Inside a guest, by VMware Tools: programs and files, as one of its users.
//!
//! The server routes every call; only a file's bytes go to the host that runs the VM. A guest user's
//! password is sent with each call and kept nowhere.

use std::fmt;

use reqwest::Client as Http;
use secrecy::{ExposeSecret, SecretString};

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::error::{FaultKind, VimFault};
use crate::reference::Moref;
use crate::server::http_client;
use crate::vm::{family, vm_gone};
use crate::xml::Element;
use crate::{Error, GuestFamily, Result, VmRef};

mod command;
mod file;
mod process;
mod script;

pub use command::{GuestCommand, GuestExit, GuestOutcome};
pub use process::GuestProcess;

/// A user of a guest.
#[derive(Clone)]
pub struct GuestLogin {
    /// The user.
    pub username: String,
    /// Its password; never printed.
    pub password: SecretString,
}

impl fmt::Debug for GuestLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestLogin({:?})", self.username)
    }
}

/// A guest, as one of its users.
#[derive(Debug)]
pub struct Guest {
    client: Client,
    vm: VmRef,
    login: GuestLogin,
    family: GuestFamily,
    processes: Moref,
    files: Moref,
    http: Http,
}

impl Client {
    /// Prepares to work in a VM's guest. Whether the user may is only told by the first call.
    pub async fn guest(&self, vm: &VmRef, login: GuestLogin) -> Result<Guest> {
        let read = self
            .read_vm(vm, &["guest.guestFamily", "config.guestId"])
            .await?;
        let manager = self.content().guest_operations.clone();
        let manager = manager.ok_or_else(no_guest_operations)?;
        let parts = self
            .read(&manager, &["processManager", "fileManager"])
            .await?;
        let part = |name: &str| parts.moref(name)?.ok_or_else(no_guest_operations);
        let endpoint = self.endpoint();
        Ok(Guest {
            family: family(
                read.text("guest.guestFamily").as_deref(),
                read.text("config.guestId").as_deref(),
            ),
            processes: part("processManager")?,
            files: part("fileManager")?,
            http: http_client(&endpoint.address, &endpoint.trust)?,
            client: self.clone(),
            vm: vm.clone(),
            login,
        })
    }
}

fn no_guest_operations() -> Error {
    let message = "this server works in no guests".to_owned();
    Error::Fault {
        method: "RetrieveServiceContent",
        fault: Box::new(VimFault {
            kind: FaultKind::NotSupported,
            message,
        }),
    }
}

impl Guest {
    /// What runs in it.
    pub fn family(&self) -> GuestFamily {
        self.family
    }

    /// `vm` and `auth`, as every call begins.
    fn body(&self) -> Body {
        Body::new()
            .moref("vm", &self.vm.moref())
            .then(auth(&self.login))
    }

    async fn call(
        &self,
        method: &'static str,
        this: &Moref,
        body: Body,
        repeat: Repeat,
    ) -> Result<Vec<Element>> {
        let call = Call {
            method,
            this,
            body,
            repeat,
        };
        let returned = self.client.call(call).await;
        returned.map_err(|error| vm_gone(error, &self.vm))
    }
}

/// `NamePasswordAuthentication`. A session of its own in the guest would need a desktop.
fn auth(login: &GuestLogin) -> Body {
    let inside = Body::new()
        .value("interactiveSession", false)
        .value("username", &login.username)
        .value("password", login.password.expose_secret());
    Body::new().typed("auth", "NamePasswordAuthentication", inside)
}

/// The one value of an answer.
fn one(method: &'static str, values: Vec<Element>) -> Result<Element> {
    let first = values.into_iter().next();
    first.ok_or_else(|| bad_answer(method, crate::xml::Problem::new("nothing returned")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_and_never_printed() {
        let login = GuestLogin {
            username: "backup".into(),
            password: SecretString::from("s&cret".to_owned()),
        };
        let body = auth(&login);
        assert_eq!(
            body.as_str(),
            r#"<auth xsi:type="NamePasswordAuthentication"><interactiveSession>false</interactiveSession><username>backup</username><password>s&amp;cret</password></auth>"#
        );
        for printed in [format!("{login:?}"), format!("{body:?}")] {
            assert!(!printed.contains("cret"), "{printed}");
        }
    }
}
