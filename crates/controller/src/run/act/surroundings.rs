//! Gathering what belongs to a VM besides its disks.
//!
//! None of it can fail a run: what could not be read is a remark in the point.

use stillwater_types::Fault;
use stillwater_vsphere::Vm;

use super::{Act, missing};
use crate::point::{Nvram, Surroundings};

impl Act {
    /// What is around the VM. Before the freeze: it has nothing to do with the disks, and asking takes
    /// time.
    pub(super) async fn gather_surroundings(&self, vm: &Vm) -> Surroundings {
        let found = async {
            let vm_id = self.vm()?;
            self.repeat(&self.world.timing.call, || async {
                self.world.vsphere.around(vm_id).await
            })
            .await
        };
        match found.await {
            Ok(around) => Surroundings::of(around, &vm.datastores),
            Err(fault) => Surroundings {
                remarks: vec![format!("what is around the vm could not be read: {fault}")],
                ..Surroundings::default()
            },
        }
    }

    /// The VM's NVRAM, as near to the freeze as it can be had.
    pub(super) async fn gather_nvram(&self) {
        let read = self.read_nvram().await;
        let mut notes = self.scratch.notes();
        let Some(surroundings) = notes.surroundings.as_mut() else {
            return;
        };
        match read {
            Ok(Some((file, bytes))) => match Nvram::pack(&file, &bytes) {
                Ok(nvram) => surroundings.nvram = Some(nvram),
                Err(why) => surroundings.remarks.push(why),
            },
            // It never ran.
            Ok(None) => {}
            Err(fault) => {
                let remark = format!("the nvram could not be read: {fault}");
                surroundings.remarks.push(remark);
            }
        }
    }

    /// The NVRAM's file and its bytes.
    async fn read_nvram(&self) -> Result<Option<(String, Vec<u8>)>, Fault> {
        let vcenter = self.vm()?.vcenter;
        let vm = self.scratch.notes().vm.clone();
        let vm = vm.ok_or_else(|| missing("plan"))?;
        let Some(file) = vm.facts.nvram_file() else {
            return Ok(None);
        };
        let bytes = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.nvram(vcenter, &vm).await
            })
            .await?;
        Ok(bytes.map(|bytes| (file, bytes)))
    }
}
