//! Hooks, and the accounts that they use in guests.

use secrecy::{ExposeSecret, SecretString};
use stillwater_wire::{FieldError, empty, field, mirror, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb:
    HookPhase { Before, During, After }
    HookFailure { Fail, Warn, Ignore }
}

mirror! { pb:
    Hook {
        text name,
        word phase,
        text program,
        plain arguments,
        plain timeout_seconds,
        word on_failure,
    }
    HookRun {
        plain name,
        word phase,
        time started_at,
        time ended_at,
        plain exit_code,
        plain timed_out,
        plain output,
        plain truncated,
    }
    HookRelease { plain by_watchdog, time released_at }
    GuestFolder { maybe_text vcenter, text path }
    GuestCredential { message subject, text username }
}

empty! { pb: ListGuestCredentialsRequest RemoveGuestCredentialResponse }

wraps! { pb:
    message SetGuestCredentialResponse.credential: GuestCredential;
    messages ListGuestCredentialsResponse.credentials: Vec<GuestCredential>;
    message RemoveGuestCredentialRequest.subject: GuestSubject;
}

impl From<GuestSubject> for pb::GuestSubject {
    fn from(domain: GuestSubject) -> Self {
        let subject = match domain {
            GuestSubject::Vm(vm) => pb::guest_subject::Subject::Vm(vm),
            GuestSubject::Folder(folder) => pb::guest_subject::Subject::Folder(folder.into()),
        };
        Self {
            subject: Some(subject),
        }
    }
}

impl TryFrom<pb::GuestSubject> for GuestSubject {
    type Error = FieldError;

    fn try_from(message: pb::GuestSubject) -> Result<Self, FieldError> {
        let pb::GuestSubject { subject } = message;
        match field::choice("subject", subject)? {
            pb::guest_subject::Subject::Vm(vm) => field::text("vm", vm).map(Self::Vm),
            pb::guest_subject::Subject::Folder(folder) => {
                field::message("folder", Some(folder)).map(Self::Folder)
            }
        }
    }
}

impl From<SetGuestCredentialRequest> for pb::SetGuestCredentialRequest {
    fn from(domain: SetGuestCredentialRequest) -> Self {
        let SetGuestCredentialRequest {
            subject,
            username,
            password,
        } = domain;
        Self {
            subject: Some(subject.into()),
            username,
            password: password.expose_secret().to_owned(),
        }
    }
}

impl TryFrom<pb::SetGuestCredentialRequest> for SetGuestCredentialRequest {
    type Error = FieldError;

    fn try_from(message: pb::SetGuestCredentialRequest) -> Result<Self, FieldError> {
        let pb::SetGuestCredentialRequest {
            subject,
            username,
            password,
        } = message;
        Ok(Self {
            subject: field::message("subject", subject)?,
            username: field::text("username", username)?,
            password: SecretString::from(field::text("password", password)?),
        })
    }
}
