//! VMs.

use stillwater_wire::{FieldError, alike, field, mirror, words, wraps};

use crate::model::*;
use crate::pb;

alike! { pb: VmSnapshot { name, created_at, ours } }

words! { pb: PreflightVerdict { Ok, Warning, Blocked } }

mirror! { pb:
    PreflightVmRequest { text vm, plain restore }
    PreflightVmResponse { message summary, messages findings }
    PreflightFinding {
        text check,
        word verdict,
        plain subject,
        plain disk_key,
        maybe_text privilege,
        plain message,
    }
}

wraps! { pb:
    messages ListVmsResponse.vms: Vec<VmSummary>;
    text GetVmRequest.vm: String;
    message GetVmResponse.vm: Vm;
}

impl From<Option<String>> for pb::ListVmsRequest {
    fn from(vcenter: Option<String>) -> Self {
        Self {
            vcenter: vcenter.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListVmsRequest> for Option<String> {
    type Error = FieldError;

    fn try_from(message: pb::ListVmsRequest) -> Result<Self, FieldError> {
        let pb::ListVmsRequest { vcenter } = message;
        Ok(field::maybe_text(vcenter))
    }
}

impl From<VmSummary> for pb::VmSummary {
    fn from(domain: VmSummary) -> Self {
        let VmSummary {
            vm_id,
            name,
            path,
            vcenter_name,
            power,
            change_tracking,
            disk_count,
        } = domain;
        Self {
            vm_id: vm_id.to_string(),
            name,
            path,
            vcenter_name,
            power,
            change_tracking,
            disk_count,
        }
    }
}

impl TryFrom<pb::VmSummary> for VmSummary {
    type Error = FieldError;

    fn try_from(message: pb::VmSummary) -> Result<Self, FieldError> {
        let pb::VmSummary {
            vm_id,
            name,
            path,
            vcenter_name,
            power,
            change_tracking,
            disk_count,
        } = message;
        Ok(Self {
            vm_id: field::id("vm_id", &vm_id)?,
            name,
            path,
            vcenter_name,
            power,
            change_tracking,
            disk_count,
        })
    }
}

impl From<Vm> for pb::Vm {
    fn from(domain: Vm) -> Self {
        let Vm {
            summary,
            guest_id,
            tools,
            disks,
            snapshots,
        } = domain;
        Self {
            summary: Some(summary.into()),
            guest_id,
            tools,
            disks: disks.into_iter().map(Into::into).collect(),
            snapshots: snapshots.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Vm> for Vm {
    type Error = FieldError;

    fn try_from(message: pb::Vm) -> Result<Self, FieldError> {
        let pb::Vm {
            summary,
            guest_id,
            tools,
            disks,
            snapshots,
        } = message;
        Ok(Self {
            summary: field::message("summary", summary)?,
            guest_id,
            tools,
            disks: field::messages("disks", disks)?,
            snapshots: field::messages("snapshots", snapshots)?,
        })
    }
}

impl From<VmDisk> for pb::VmDisk {
    fn from(domain: VmDisk) -> Self {
        let VmDisk {
            key,
            label,
            capacity_bytes,
            file,
            unprotectable,
        } = domain;
        Self {
            key,
            label,
            capacity_bytes,
            file,
            unprotectable: unprotectable.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::VmDisk> for VmDisk {
    type Error = FieldError;

    fn try_from(message: pb::VmDisk) -> Result<Self, FieldError> {
        let pb::VmDisk {
            key,
            label,
            capacity_bytes,
            file,
            unprotectable,
        } = message;
        let unprotectable = field::maybe_text(unprotectable);
        Ok(Self {
            key,
            label,
            capacity_bytes,
            file,
            unprotectable,
        })
    }
}
