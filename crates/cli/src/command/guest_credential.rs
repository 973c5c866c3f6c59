//! `stillwater guest-credential`.

use stillwater_controller_api::{GuestFolder, GuestSubject, SetGuestCredentialRequest};
use stillwater_types::Fault;

use super::Desk;
use crate::arguments::{GuestCredential, GuestSet, GuestsOf};
use crate::exit::Outcome;
use crate::{output, password, view};

/// Where the password may be, for scripts.
const PASSWORD_VARIABLE: &str = "STILLWATER_GUEST_PASSWORD";

pub(super) async fn run(desk: &Desk, credential: GuestCredential) -> Result<Outcome, Fault> {
    let controller = &desk.session.controller;
    match credential {
        GuestCredential::Set(GuestSet {
            of,
            username,
            password_file,
        }) => {
            let password = password::ask(password_file.as_deref(), PASSWORD_VARIABLE, &username)?;
            let request = SetGuestCredentialRequest {
                subject: subject(of),
                username,
                password,
            };
            let kept = [controller.set_guest_credential(request).await?];
            let text = || view::guest::list(&kept);
            output::print(desk.format, text, || view::guest::json(&kept[0]))?;
        }
        GuestCredential::List => {
            let kept = controller.list_guest_credentials().await?;
            let json = || kept.iter().map(view::guest::json).collect();
            output::print(desk.format, || view::guest::list(&kept), json)?;
        }
        GuestCredential::Remove(of) => {
            controller.remove_guest_credential(subject(of)).await?;
            output::say("the account and its password are forgotten");
        }
    }
    Ok(Outcome::Done)
}

fn subject(of: GuestsOf) -> GuestSubject {
    let GuestsOf {
        vm,
        folder,
        vcenter,
    } = of;
    match (vm, folder) {
        (Some(vm), _) => GuestSubject::Vm(vm),
        (None, path) => GuestSubject::Folder(GuestFolder {
            vcenter,
            path: path.unwrap_or_default(),
        }),
    }
}
