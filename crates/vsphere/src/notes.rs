//! The notes of VMs, which vSphere's API calls annotations.

use std::time::Duration;

use crate::body::Body;
use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::inventory::display_name;
use crate::{Result, VmRef};

const NOTES: &str = "config.annotation";

const VMS: Wanted = Wanted {
    kind: "VirtualMachine",
    paths: &["name", NOTES],
};

/// What a VM's notes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmNotes {
    /// The VM.
    pub vm: VmRef,
    /// Its display name.
    pub name: String,
    /// Its notes.
    pub notes: String,
}

impl Client {
    /// The notes of every VM that has some.
    pub async fn all_notes(&self) -> Result<Vec<VmNotes>> {
        let listed = self.list(&[VMS]).await?;
        Ok(listed.iter().filter_map(read).collect())
    }

    /// A VM's notes, empty when it has none.
    pub async fn notes(&self, vm: &VmRef) -> Result<String> {
        let read = self.read_vm(vm, &[NOTES]).await?;
        Ok(read.text(NOTES).unwrap_or_default())
    }

    /// Writes a VM's notes anew.
    pub async fn set_notes(&self, vm: &VmRef, notes: &str, timeout: Duration) -> Result<()> {
        let spec = Body::new().value("annotation", notes);
        let body = Body::new().inside("spec", spec);
        let this = vm.moref();
        let task = self.start_task("ReconfigVM_Task", &this, body).await?;
        self.wait_task(&task, timeout).await.map(drop)
    }
}

fn read(vm: &Properties) -> Option<VmNotes> {
    let notes = vm.text(NOTES).filter(|notes| !notes.is_empty())?;
    Some(VmNotes {
        vm: VmRef::new(&vm.object.value),
        name: display_name(&vm.text("name")?),
        notes,
    })
}
