//! Whether datastores have room for what a restore makes.

use std::collections::BTreeMap;

use stillwater_types::{Fault, Reason};
use stillwater_vsphere::Provisioning;

use super::Draft;

/// Configuration, NVRAM, logs and descriptors.
const SMALL_FILES_BYTES: u64 = 16 << 20;

impl Draft<'_> {
    /// Thin disks take what is written, others their size; a VM that is started takes room to swap.
    pub(super) fn check_room(&mut self) {
        for (datastore, needed) in self.needed() {
            let known = self.site.datastores.iter().find(|ds| ds.name == datastore);
            let free = match known {
                Some(known) => known.free_bytes,
                None if datastore == self.site.placement.datastore_name => {
                    self.site.placement.free_bytes
                }
                // That it is not there was told.
                None => continue,
            };
            if needed > free {
                let message = format!(
                    "datastore {datastore} has {} MiB free and the restore needs {} MiB; make room, choose another one, or restore thin",
                    free >> 20,
                    needed.div_ceil(1 << 20),
                );
                let fault = Fault::new(Reason::DatastoreFull, message).with("datastore", datastore);
                self.refusals.push(fault);
            }
        }
    }

    fn needed(&self) -> BTreeMap<String, u64> {
        let mut needed = BTreeMap::new();
        let home = self.site.placement.datastore_name.clone();
        let swap = match self.work.power_on {
            true => self.vm.memory_mib.saturating_mul(1 << 20),
            false => 0,
        };
        needed.insert(home, SMALL_FILES_BYTES.saturating_add(swap));
        for (planned, disk) in self.disks.iter().zip(&self.vm.disks) {
            let bytes = match disk.provisioning {
                Provisioning::Thin => planned.write_bytes,
                Provisioning::Thick | Provisioning::Eager => disk.capacity_bytes,
            };
            let total: &mut u64 = needed.entry(planned.datastore.clone()).or_default();
            *total = total.saturating_add(bytes);
        }
        needed
    }
}
