//! Restoring a VM, and what that would do.

use stillwater_wire::{alike, mirror, words};

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
    PlanRestoreVmRequest { message restore }
    PlanRestoreVmResponse { maybe_message plan, faults refusals }
    PlanRestoreInPlaceRequest { message restore }
    PlanRestoreInPlaceResponse {
        id vm_id,
        plain vm_name,
        messages disks,
        plain steps,
        plain losses,
        faults refusals,
    }
}

alike! { pb:
    RestoreInPlaceDisk { key, label, length_bytes, compares_all }
    RestorePlanCard { label, from, to, connected, mac_address }
}
