//! What a restored VM gets beside its hardware: NVRAM, tags, attributes, storage policies.

use stillwater_vsphere::{CustomAttribute, StoragePolicies, Tag, Told};

use super::{Draft, Outfit};
use crate::point::{Section, Surroundings};

impl Draft<'_> {
    /// What is there is given, and what is not is told.
    pub(super) fn outfit(&mut self, section: &Section) -> Outfit {
        let template = self.work.options.template;
        let Some(around) = &section.surroundings else {
            let loss = "the point keeps no nvram, tags, attributes and storage policies: it is of an old release";
            self.losses.push(loss.to_owned());
            return Outfit {
                template,
                ..Outfit::default()
            };
        };
        let tags = self.tags(around);
        let attributes = self.attributes(around);
        let policies = self.policies(around);
        Outfit {
            nvram: self.nvram(section, around),
            tags,
            attributes,
            policies,
            template,
        }
    }

    fn tags(&mut self, around: &Surroundings) -> Vec<Tag> {
        let wanted = tags(around);
        let known = match self.site.tags.clone() {
            Told::Known(known) => known,
            Told::Unknown(why) => {
                let names: Vec<String> = wanted.iter().map(name).collect();
                if !names.is_empty() {
                    let names = names.join(", ");
                    self.losses
                        .push(format!("tags {names} could not be looked up there: {why}"));
                }
                return Vec::new();
            }
        };
        let (kept, lost): (Vec<Tag>, Vec<Tag>) =
            wanted.into_iter().partition(|tag| known.contains(tag));
        let lost = lost
            .iter()
            .map(|tag| format!("tag {} is not there", name(tag)));
        self.losses.extend(lost);
        kept
    }

    fn attributes(&mut self, around: &Surroundings) -> Vec<CustomAttribute> {
        let (kept, lost): (Vec<_>, Vec<_>) = around
            .attributes
            .iter()
            .partition(|attribute| self.site.attributes.contains(&attribute.name));
        for attribute in lost {
            let name = &attribute.name;
            self.losses
                .push(format!("custom attribute {name} is not defined there"));
        }
        kept.into_iter()
            .map(|attribute| CustomAttribute::new(&attribute.name, &attribute.value))
            .collect()
    }

    fn policies(&mut self, around: &Surroundings) -> StoragePolicies {
        let known = match self.site.policies.clone() {
            Told::Known(known) => known,
            Told::Unknown(why) => {
                if !policy_ids(around).is_empty() {
                    let loss = format!("storage policies could not be looked up there: {why}");
                    self.losses.push(loss);
                }
                return StoragePolicies::default();
            }
        };
        let mut lost = Vec::new();
        let mut there = |whose: String, policy: &String| {
            let is_there = known.contains(policy);
            if !is_there {
                lost.push(format!("storage policy {policy} of {whose} is not there"));
            }
            is_there
        };
        let home = around.home_policy.clone();
        let home = home.filter(|policy| there("the vm's own files".to_owned(), policy));
        let restored = |key: i32| self.vm.disks.iter().any(|disk| disk.source_key == key);
        let disks = around
            .disk_policies
            .iter()
            .filter(|kept| restored(kept.key))
            .filter(|kept| there(format!("disk {}", kept.key), &kept.policy))
            .map(|kept| (kept.key, kept.policy.clone()))
            .collect();
        self.losses.extend(lost);
        StoragePolicies { home, disks }
    }

    fn nvram(&mut self, section: &Section, around: &Surroundings) -> Option<crate::point::Nvram> {
        let is_efi = self.vm.firmware.as_deref() == Some("efi");
        match &around.nvram {
            // What an encrypted VM keeps there nobody else can read.
            Some(_) if section.config_xml.contains("<keyId") => {
                let loss = "the nvram of an encrypted vm is not restored";
                self.losses.push(loss.to_owned());
                None
            }
            None if is_efi => {
                let loss = "the point has no nvram: boot entries and keys of efi are the server's";
                self.losses.push(loss.to_owned());
                None
            }
            nvram => nvram.clone(),
        }
    }
}

fn name(tag: &Tag) -> String {
    format!("{}:{}", tag.category, tag.name)
}

pub(super) fn tags(around: &Surroundings) -> Vec<Tag> {
    let tags = around.tags.iter().map(|tag| Tag {
        category: tag.category.clone(),
        name: tag.name.clone(),
    });
    tags.collect()
}

pub(super) fn policy_ids(around: &Surroundings) -> Vec<String> {
    let disks = around.disk_policies.iter().map(|kept| kept.policy.clone());
    let mut ids: Vec<String> = around.home_policy.iter().cloned().chain(disks).collect();
    ids.sort();
    ids.dedup();
    ids
}
