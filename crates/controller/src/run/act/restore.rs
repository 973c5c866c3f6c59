//! Making a VM from a point.

use stillwater_types::{Fault, Reason};

use super::{Act, Came, missing};
use crate::run::cause::Cause;
use crate::run::event::{RestoreWork, RunEvent, Work};
use crate::run::marker::Marker;
use crate::run::outside::VmOrder;

impl Act {
    pub(super) async fn create_vm(&self) -> Came {
        let work = self.restore()?;
        let (config_xml, warnings) = {
            let notes = self.scratch.notes();
            let point = notes.point.as_ref().ok_or_else(|| missing("point"))?;
            let lost = |name: &String| {
                Cause::new(
                    Reason::DiskUnprotectable,
                    format!("not in the point, so not restored: {name}"),
                )
            };
            (
                point.section.config_xml.clone(),
                point.section.missing.iter().map(lost).collect::<Vec<_>>(),
            )
        };
        let order = VmOrder {
            name: work.name.clone(),
            placement: work.placement.clone(),
            marker: self.marker(),
            config_xml,
            disks: self.run.disks.keys().copied().collect(),
        };
        let made = self.world.vsphere.create_vm(&order).await?;
        if let Some(key) = order.disks.iter().find(|key| !made.files.contains_key(key)) {
            // The event is not lost for it: what was made is found by its marker.
            return Err(Fault::new(
                Reason::VcenterTaskFailed,
                "vsphere made the vm without one of its disks",
            )
            .with("disk", key));
        }
        self.scratch.notes().files = made.files;
        Ok(vec![RunEvent::VmCreated {
            vm: made.vm,
            warnings,
        }])
    }

    /// The VM is whole whether it starts or not, so a failure is a warning.
    pub(super) async fn power_on(&self) -> Came {
        let vm = self.vm()?;
        let powered = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.power_on(vm).await
            })
            .await;
        let warning = powered.err().map(|fault| {
            let message = format!(
                "the vm is restored but could not be powered on: {}",
                fault.message
            );
            Cause(Fault { message, ..fault })
        });
        Ok(vec![RunEvent::PoweredOn { warning }])
    }

    pub(super) fn restore(&self) -> Result<&RestoreWork, Fault> {
        match &self.run.work {
            Work::RestoreVm(work) => Ok(work),
            _ => Err(missing("restore")),
        }
    }

    pub(super) fn marker(&self) -> Marker {
        Marker {
            cluster: self.world.cluster,
            run: self.run.id,
        }
    }
}
