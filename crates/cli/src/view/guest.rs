//! Accounts in guests.

use serde_json::{Value, json};
use stillwater_controller_api::{GuestCredential, GuestSubject};

use crate::output::{Field, table};

pub(crate) fn list(kept: &[GuestCredential]) -> String {
    let row = |kept: &GuestCredential| {
        let (kind, vcenter, subject) = match &kept.subject {
            GuestSubject::Vm(vm) => ("vm", None, vm),
            GuestSubject::Folder(folder) => ("folder", folder.vcenter.as_ref(), &folder.path),
        };
        [
            Field::text(kind),
            Field::text(subject),
            Field::maybe(vcenter),
            Field::text(&kept.username),
        ]
    };
    table(
        ["KIND", "GUESTS OF", "VCENTER", "USERNAME"],
        kept.iter().map(row),
    )
}

pub(crate) fn json(kept: &GuestCredential) -> Value {
    match &kept.subject {
        GuestSubject::Vm(vm) => json!({"vm": vm, "username": kept.username}),
        GuestSubject::Folder(folder) => json!({
            "folder": folder.path,
            "vcenter": folder.vcenter,
            "username": kept.username,
        }),
    }
}
