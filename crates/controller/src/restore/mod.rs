//! What a restore of a VM does, worked out before anything is made.
//!
//! A function of the point, of what the target has and of what was asked. `stillwater restore vm --plan`
//! prints it; a run works it out the same way when it is planned and makes just that.

mod cards;
mod in_place;
mod outfit;
mod permission;
mod rates;
mod room;
mod told;

use std::sync::Arc;

use stillwater_controller_api as api;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{
    CustomAttribute, Entity, NewDisk, NewVm, Placement, PlacementSpec, RestoreSite, SiteQuery,
    StoragePolicies, Tag, Told,
};

use crate::point::{Nvram, OpenedPoint, Section};
use crate::run::{Identity, Provisioning, RestoreWork, World};

pub use cards::Card;
pub use in_place::{InPlace, Matched, in_place};
pub use permission::Restorers;

/// How many of the newest runs are looked at for how fast they were.
const MEASURED_RUNS: usize = 200;

/// What a restore would do, and why it would refuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// What it would do; none when it is not known where.
    pub plan: Option<Plan>,
    /// Why it would refuse, before anything is made.
    pub refusals: Vec<Fault>,
}

/// What a restore does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where the VM goes.
    pub placement: Placement,
    /// The VM as it is made, without the mark of its run.
    pub vm: NewVm,
    /// Its disks, in the order of [`NewVm::disks`].
    pub disks: Vec<PlannedDisk>,
    /// Its cards, in the order of [`NewVm::nics`].
    pub cards: Vec<Card>,
    /// What it gets when its disks are written.
    pub outfit: Outfit,
    /// Whether it is powered on in the end.
    pub power_on: bool,
    /// How fast earlier restores were.
    pub bytes_per_second: Option<u64>,
    /// What the new VM will lack, each in words.
    pub losses: Vec<String>,
}

/// A disk that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDisk {
    /// Its device key in the point.
    pub key: i32,
    /// What is written of it.
    pub write_bytes: u64,
    /// Name of its datastore.
    pub datastore: String,
}

/// What a VM gets beside its hardware, when its disks are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outfit {
    /// Its NVRAM.
    pub nvram: Option<Nvram>,
    /// Its tags, all of which are there.
    pub tags: Vec<Tag>,
    /// Its custom attributes, all of which are defined there.
    pub attributes: Vec<CustomAttribute>,
    /// Its storage policies, all of which are there; disks by their key in the point.
    pub policies: StoragePolicies,
    /// Whether it becomes a template.
    pub template: bool,
}

/// What there is of a disk in a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDisk {
    /// Its device key.
    pub key: i32,
    /// Its label.
    pub label: String,
    /// What is not a hole.
    pub data_bytes: u64,
}

/// What is restored.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What only key holders can read of the point.
    pub section: &'a Section,
    /// Its disks.
    pub disks: &'a [StoredDisk],
}

/// What a restore of an opened point would do.
///
/// # Errors
/// When the target cannot be looked at, or the point's configuration not be read.
pub async fn outline(
    world: &Arc<World>,
    work: &RestoreWork,
    opened: &OpenedPoint,
) -> Result<Outline, Fault> {
    let query = query(work, &opened.section);
    let site = world
        .vsphere
        .restore_site(work.placement.vcenter, &query)
        .await;
    let site = match site {
        Err(fault) if is_refusal(fault.reason) => Err(fault),
        site => Ok(site?),
    };
    let memory = world.memory.clone();
    let rate = tokio::task::spawn_blocking(move || {
        rates::written_per_second(&memory.ended_runs(None, MEASURED_RUNS))
    });
    let disks: Vec<StoredDisk> = opened.manifest.disks.iter().map(stored).collect();
    let source = Source {
        section: &opened.section,
        disks: &disks,
    };
    // A rate that could not be looked up costs an estimate.
    plan(&source, work, site, rate.await.unwrap_or_default())
}

fn stored(disk: &stillwater_format::manifest::Disk) -> StoredDisk {
    StoredDisk {
        key: disk.key,
        label: disk.label.clone(),
        data_bytes: disk.root.length.saturating_sub(disk.effort.zero_bytes),
    }
}

/// What must be known of the target.
pub fn query(work: &RestoreWork, section: &Section) -> SiteQuery {
    let (tags, policies) = match &section.surroundings {
        Some(around) => (outfit::tags(around), outfit::policy_ids(around)),
        None => Default::default(),
    };
    let placement = &work.placement;
    SiteQuery {
        placement: PlacementSpec {
            datastore: placement.datastore.clone(),
            datacenter: placement.datacenter.clone(),
            folder: placement.folder.clone(),
            cluster: placement.cluster.clone(),
            pool: placement.resource_pool.clone(),
            host: placement.host.clone(),
        },
        name: work.name.clone(),
        tags,
        policies,
        asks_identities: work.options.identity == Identity::Original,
    }
}

/// Whether a fault of looking for a place says that there is none.
const fn is_refusal(reason: Reason) -> bool {
    matches!(reason, Reason::PlacementNotFound | Reason::BadField)
}

/// Works out what a restore does.
///
/// # Errors
/// `MANIFEST_UNREADABLE` when the point's configuration is not one.
pub fn plan(
    source: &Source<'_>,
    work: &RestoreWork,
    site: Result<RestoreSite, Fault>,
    bytes_per_second: Option<u64>,
) -> Result<Outline, Fault> {
    let site = match site {
        Ok(site) => site,
        Err(fault) => {
            return Ok(Outline {
                plan: None,
                refusals: vec![fault],
            });
        }
    };
    let section = source.section;
    let mut draft = Draft::new(site, work, section)?;
    draft.take_disks(source);
    draft.take_cards(section)?;
    draft.take_identity(section)?;
    draft.check_name();
    draft.check_room();
    draft.check_privileges();
    draft.tell_losses(section)?;
    let outfit = draft.outfit(section);
    Ok(draft.done(outfit, bytes_per_second))
}

/// A plan in the making.
struct Draft<'a> {
    site: RestoreSite,
    work: &'a RestoreWork,
    vm: NewVm,
    disks: Vec<PlannedDisk>,
    cards: Vec<Card>,
    losses: Vec<String>,
    refusals: Vec<Fault>,
}

impl<'a> Draft<'a> {
    fn new(site: RestoreSite, work: &'a RestoreWork, section: &Section) -> Result<Self, Fault> {
        Ok(Self {
            site,
            work,
            vm: NewVm::from_config(&section.config_xml, &work.name)?,
            disks: Vec::new(),
            cards: Vec::new(),
            losses: Vec::new(),
            refusals: Vec::new(),
        })
    }

    fn refuse(&mut self, reason: Reason, message: impl Into<String>) {
        self.refusals.push(Fault::new(reason, message.into()));
    }

    /// The disks that the point has, where they go and how their space is taken.
    fn take_disks(&mut self, source: &Source<'_>) {
        let find = |key: i32| source.disks.iter().find(|disk| disk.key == key);
        let (kept, lost): (Vec<NewDisk>, Vec<NewDisk>) = std::mem::take(&mut self.vm.disks)
            .into_iter()
            .partition(|disk| find(disk.source_key).is_some());
        for disk in lost {
            let loss = format!(
                "disk {} ({}) is not in the point",
                disk.source_key, disk.label
            );
            self.losses.push(loss);
        }
        self.vm.disks = kept;
        for stored in source.disks {
            if !self
                .vm
                .disks
                .iter()
                .any(|disk| disk.source_key == stored.key)
            {
                let message = format!(
                    "the configuration in the point has no disk {} ({}); restore it with `stillwater restore disk`",
                    stored.key, stored.label
                );
                self.refuse(Reason::ManifestUnreadable, message);
            }
        }
        self.place_disks();
        let disks = self.vm.disks.iter().map(|disk| PlannedDisk {
            key: disk.source_key,
            write_bytes: find(disk.source_key).map_or(0, |stored| stored.data_bytes),
            datastore: match &disk.datastore {
                Some(datastore) => datastore.clone(),
                None => self.site.placement.datastore_name.clone(),
            },
        });
        self.disks = disks.collect();
    }

    fn place_disks(&mut self) {
        if let Some(provisioning) = self.work.options.provisioning {
            for disk in &mut self.vm.disks {
                disk.provisioning = match provisioning {
                    Provisioning::Thin => stillwater_vsphere::Provisioning::Thin,
                    Provisioning::Thick => stillwater_vsphere::Provisioning::Thick,
                    Provisioning::Eager => stillwater_vsphere::Provisioning::Eager,
                };
            }
        }
        for (wanted, datastore) in &self.work.options.disk_datastores {
            let known = self.site.datastores.iter().find(|ds| ds.name == *datastore);
            if !known.is_some_and(|known| known.is_accessible) {
                let message = format!(
                    "host {} reaches no datastore {datastore:?}",
                    self.site.placement.host_name
                );
                let fault = Fault::new(Reason::PlacementNotFound, message);
                self.refusals.push(fault.with("datastore", datastore));
            }
            let disk = self
                .vm
                .disks
                .iter_mut()
                .find(|disk| disk.source_key.to_string() == *wanted || disk.label == *wanted);
            match disk {
                Some(disk) => disk.datastore = Some(datastore.clone()),
                None => self.refuse(
                    Reason::DiskNotFound,
                    format!(
                        "the point has no disk {wanted:?}; `stillwater point show` names its disks"
                    ),
                ),
            }
        }
    }

    /// Gives the VM its identity back where that was asked for and nobody has it.
    fn take_identity(&mut self, section: &Section) -> Result<(), Fault> {
        if self.work.options.identity != Identity::Original {
            return Ok(());
        }
        let mut original = self.vm.clone();
        original.identify(&section.config_xml)?;
        let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        };
        let mac_is_of =
            |mac: &str, macs: &[String]| macs.iter().any(|m| m.eq_ignore_ascii_case(mac));
        let owner = self.site.owners.iter().find(|owner| {
            same(&owner.bios_uuid, &original.bios_uuid)
                || same(&owner.instance_uuid, &original.instance_uuid)
                || original.nics.iter().any(|nic| {
                    let mac = nic.mac.as_ref();
                    mac.is_some_and(|mac| mac_is_of(&mac.address, &owner.macs))
                })
        });
        if let Some(owner) = owner {
            let message = format!(
                "vm {:?} has the original identity (a UUID or a MAC address); remove it, or restore with a new identity",
                owner.name
            );
            self.refuse(Reason::VmExists, message);
        }
        self.vm = original;
        for (card, nic) in self.cards.iter_mut().zip(&self.vm.nics) {
            card.mac = nic.mac.as_ref().map(|mac| mac.address.clone());
        }
        Ok(())
    }

    fn check_name(&mut self) {
        if self.site.name_is_taken {
            let message = format!(
                "{} has something that is called {:?}; choose another name",
                self.site.placement.folder_path, self.work.name
            );
            self.refuse(Reason::VmExists, message);
        }
        if self.work.options.template && self.work.power_on {
            let message = "a template cannot be powered on; leave one of the two out";
            self.refuse(Reason::BadField, message);
        }
    }

    /// Only what is needed where something is done.
    fn check_privileges(&mut self) {
        let missing = match &self.site.missing {
            Told::Known(missing) => missing.clone(),
            Told::Unknown(why) => {
                let loss = format!("what our account may do there could not be asked: {why}");
                self.losses.push(loss);
                return;
            }
        };
        for lack in missing {
            let is_used = match &lack.entity {
                Entity::Network(network) => self.cards.iter().any(|card| {
                    let network = network.as_str();
                    card.reference.as_deref() == Some(network)
                }),
                _ => true,
            };
            if is_used && !lack.is_optional {
                let message = format!(
                    "our account lacks {lack}; add it to the account's role there (deploy/vsphere-role/restore.txt has the list)"
                );
                let fault = Fault::new(Reason::VcenterPrivilegeMissing, message);
                self.refusals.push(fault.with("privilege", lack.privilege));
            }
        }
    }

    fn tell_losses(&mut self, section: &Section) -> Result<(), Fault> {
        self.losses.extend(NewVm::left_out(&section.config_xml)?);
        let snapshots = section.foreign_snapshots.len();
        if snapshots > 0 {
            self.losses.push(format!(
                "{snapshots} snapshots of the vm are not restored: it begins with what was frozen"
            ));
        }
        Ok(())
    }

    fn done(self, outfit: Outfit, bytes_per_second: Option<u64>) -> Outline {
        let plan = Plan {
            placement: self.site.placement,
            vm: self.vm,
            disks: self.disks,
            cards: self.cards,
            outfit,
            power_on: self.work.power_on,
            bytes_per_second,
            losses: self.losses,
        };
        Outline {
            plan: Some(plan),
            refusals: self.refusals,
        }
    }
}

impl Outline {
    /// What a run does.
    ///
    /// # Errors
    /// Why it refuses: the first reason, in the words of all.
    pub fn accepted(self) -> Result<Plan, Fault> {
        let words: Vec<&str> = self.refusals.iter().map(|f| f.message.as_str()).collect();
        let message = words.join("; ");
        match (self.refusals.into_iter().next(), self.plan) {
            (None, Some(plan)) => Ok(plan),
            (Some(first), _) => Err(Fault { message, ..first }),
            (None, None) => Err(Fault::new(
                Reason::Bug,
                "there is neither a plan nor a refusal",
            )),
        }
    }

    /// The same as the protocol tells it.
    pub fn told(self, vcenter: &str) -> api::PlanRestoreVmResponse {
        api::PlanRestoreVmResponse {
            plan: self.plan.map(|plan| plan.told(vcenter)),
            refusals: self.refusals,
        }
    }
}

#[cfg(test)]
mod tests;
