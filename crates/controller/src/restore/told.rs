//! A plan as the protocol tells it, and as a run warns.

use stillwater_controller_api as api;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::Provisioning;

use super::Plan;
use crate::run::Cause;

impl Plan {
    /// What will be written.
    pub fn write_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.write_bytes).sum()
    }

    /// What the new VM will lack, as a run warns of it.
    pub fn warnings(&self) -> Vec<Cause> {
        let warn = |loss: &String| {
            let message = format!("not restored as it was: {loss}");
            Cause(Fault::new(Reason::RestoreDiffers, message))
        };
        self.losses.iter().map(warn).collect()
    }

    pub(super) fn told(self, vcenter: &str) -> api::RestorePlan {
        let write_bytes = self.write_bytes();
        let rate = self.bytes_per_second.unwrap_or_default();
        let disks = self.vm.disks.iter().zip(&self.disks);
        let disks = disks.map(|(disk, planned)| api::RestorePlanDisk {
            key: disk.source_key,
            label: disk.label.clone(),
            capacity_bytes: disk.capacity_bytes,
            write_bytes: planned.write_bytes,
            datastore: planned.datastore.clone(),
            provisioning: told_provisioning(disk.provisioning),
        });
        let cards = self.cards.iter().map(|card| api::RestorePlanCard {
            label: card.label.clone(),
            from: card.from.clone().unwrap_or_default(),
            to: card.to.clone(),
            connected: card.is_connected,
            mac_address: card.mac.clone().unwrap_or_default(),
        });
        api::RestorePlan {
            name: self.vm.name.clone(),
            vcenter: vcenter.to_owned(),
            folder: self.placement.folder_path.clone(),
            host: self.placement.host_name.clone(),
            datastore: self.placement.datastore_name.clone(),
            disks: disks.collect(),
            cards: cards.collect(),
            write_bytes,
            bytes_per_second: rate,
            seconds: match rate {
                0 => 0,
                rate => write_bytes.div_ceil(rate),
            },
            steps: self.steps(),
            losses: self.losses,
        }
    }

    /// What is done, in order, each in words.
    fn steps(&self) -> Vec<String> {
        let place = &self.placement;
        let mut steps = vec![
            format!(
                "make vm {} in {} on host {}, with {} disks and {} network cards",
                self.vm.name,
                place.folder_path,
                place.host_name,
                self.vm.disks.len(),
                self.vm.nics.len()
            ),
            "write the disks; every byte is held against its chunk's id before".to_owned(),
        ];
        let outfit = &self.outfit;
        if let Some(nvram) = &outfit.nvram {
            steps.push(format!(
                "write {} bytes of nvram before its first start",
                nvram.bytes
            ));
        }
        for tag in &outfit.tags {
            steps.push(format!("attach tag {}:{}", tag.category, tag.name));
        }
        for attribute in &outfit.attributes {
            steps.push(format!("set custom attribute {}", attribute.name));
        }
        let policies = outfit.policies.home.iter();
        let disks = outfit.policies.disks.iter().map(|(_, policy)| policy);
        let mut policies: Vec<&String> = policies.chain(disks).collect();
        policies.sort();
        policies.dedup();
        for policy in policies {
            steps.push(format!("apply storage policy {policy}"));
        }
        steps.push("hold the new configuration against the saved one, field by field".to_owned());
        if outfit.template {
            steps.push("make it a template".to_owned());
        }
        if self.power_on {
            steps.push("power it on".to_owned());
        }
        steps
    }
}

const fn told_provisioning(provisioning: Provisioning) -> api::DiskProvisioning {
    match provisioning {
        Provisioning::Thin => api::DiskProvisioning::Thin,
        Provisioning::Thick => api::DiskProvisioning::Thick,
        Provisioning::Eager => api::DiskProvisioning::Eager,
    }
}
