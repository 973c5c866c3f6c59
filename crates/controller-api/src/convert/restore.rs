//! Restoring a VM, and what that would do.

use stillwater_types::Fault;
use stillwater_wire::{FieldError, alike, field, mirror, words};

use crate::model::*;
use crate::pb;

words! { pb:
    RestoreIdentity { New, Original }
    DiskProvisioning { Thin, Thick, Eager }
}

mirror! { pb:
    StartRestoreVm {
        id point_id,
        text name,
        maybe_text vcenter,
        text datastore,
        maybe_text folder,
        maybe_text resource_pool,
        maybe_text host,
        plain power_on,
        maybe_text datacenter,
        maybe_text cluster,
        messages disk_datastores,
        messages networks,
        maybe_word identity,
        maybe_word provisioning,
        plain template,
    }
    StartRestoreInPlace { id point_id, plain discard_changes }
    RestoreInPlaceRun { id point_id, id vm_id, plain vm_name }
    DiskDatastore { text disk, text datastore }
    NetworkChange { text from, text to }
    RestorePlanDisk {
        plain key,
        plain label,
        plain capacity_bytes,
        plain write_bytes,
        text datastore,
        word provisioning,
    }
    RestorePlan {
        text name,
        plain vcenter,
        plain folder,
        plain host,
        plain datastore,
        messages disks,
        messages cards,
        plain write_bytes,
        plain bytes_per_second,
        plain seconds,
        plain steps,
        plain losses,
    }
}

alike! { pb:
    RestoreInPlaceDisk { key, label, length_bytes, compares_all }
    RestorePlanCard { label, from, to, connected, mac_address }
}

impl From<PlanRestoreVmRequest> for pb::PlanRestoreVmRequest {
    fn from(domain: PlanRestoreVmRequest) -> Self {
        let PlanRestoreVmRequest { restore } = domain;
        Self {
            restore: Some(restore.into()),
        }
    }
}

impl TryFrom<pb::PlanRestoreVmRequest> for PlanRestoreVmRequest {
    type Error = FieldError;

    fn try_from(message: pb::PlanRestoreVmRequest) -> Result<Self, FieldError> {
        let pb::PlanRestoreVmRequest { restore } = message;
        Ok(Self {
            restore: field::message("restore", restore)?,
        })
    }
}

impl From<PlanRestoreVmResponse> for pb::PlanRestoreVmResponse {
    fn from(domain: PlanRestoreVmResponse) -> Self {
        let PlanRestoreVmResponse { plan, refusals } = domain;
        Self {
            plan: plan.map(Into::into),
            refusals: refusals.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::PlanRestoreVmResponse> for PlanRestoreVmResponse {
    type Error = FieldError;

    fn try_from(message: pb::PlanRestoreVmResponse) -> Result<Self, FieldError> {
        let pb::PlanRestoreVmResponse { plan, refusals } = message;
        Ok(Self {
            plan: field::maybe_message("plan", plan)?,
            refusals: refusals.into_iter().map(Fault::from).collect(),
        })
    }
}

impl From<PlanRestoreInPlaceRequest> for pb::PlanRestoreInPlaceRequest {
    fn from(domain: PlanRestoreInPlaceRequest) -> Self {
        let PlanRestoreInPlaceRequest { restore } = domain;
        Self {
            restore: Some(restore.into()),
        }
    }
}

impl TryFrom<pb::PlanRestoreInPlaceRequest> for PlanRestoreInPlaceRequest {
    type Error = FieldError;

    fn try_from(message: pb::PlanRestoreInPlaceRequest) -> Result<Self, FieldError> {
        let pb::PlanRestoreInPlaceRequest { restore } = message;
        Ok(Self {
            restore: field::message("restore", restore)?,
        })
    }
}

impl From<PlanRestoreInPlaceResponse> for pb::PlanRestoreInPlaceResponse {
    fn from(domain: PlanRestoreInPlaceResponse) -> Self {
        let PlanRestoreInPlaceResponse {
            vm_id,
            vm_name,
            disks,
            steps,
            losses,
            refusals,
        } = domain;
        Self {
            vm_id: vm_id.to_string(),
            vm_name,
            disks: disks.into_iter().map(Into::into).collect(),
            steps,
            losses,
            refusals: refusals.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::PlanRestoreInPlaceResponse> for PlanRestoreInPlaceResponse {
    type Error = FieldError;

    fn try_from(message: pb::PlanRestoreInPlaceResponse) -> Result<Self, FieldError> {
        let pb::PlanRestoreInPlaceResponse {
            vm_id,
            vm_name,
            disks,
            steps,
            losses,
            refusals,
        } = message;
        Ok(Self {
            vm_id: field::id("vm_id", &vm_id)?,
            vm_name,
            disks: field::messages("disks", disks)?,
            steps,
            losses,
            refusals: refusals.into_iter().map(Fault::from).collect(),
        })
    }
}
