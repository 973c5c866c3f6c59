//! What keeps a VM or a disk from being protected.

use super::{ToolsVersion, Vm, VmDisk, VmFacts};

/// Whether a snapshot can freeze a disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Protectability {
    /// A snapshot freezes it.
    Protectable,
    /// Independent of snapshots.
    Independent,
    /// A raw device in physical mode: vSphere never sees its blocks.
    PhysicalRdm,
    /// On a controller whose bus is shared with other VMs.
    SharedBus,
    /// Shared by several writers.
    MultiWriter,
    /// Encrypted by vSphere.
    Encrypted,
    /// The VM is protected by fault tolerance.
    FaultTolerant,
    /// The VM is a template.
    Template,
    /// The server allows no snapshot of this VM.
    NoSnapshots,
    /// A backing that we do not know; its type is named.
    UnknownBacking(String),
}

impl Protectability {
    /// Whether a snapshot freezes the disk.
    pub const fn is_protectable(&self) -> bool {
        matches!(self, Protectability::Protectable)
    }

    /// Why not, in words for a person; none when it is.
    pub fn obstacle(&self) -> Option<String> {
        let words = match self {
            Protectability::Protectable => return None,
            Protectability::Independent => "the disk is independent of snapshots",
            Protectability::PhysicalRdm => "a raw device mapping in physical mode",
            Protectability::SharedBus => "its controller's bus is shared",
            Protectability::MultiWriter => "several VMs may write it",
            Protectability::Encrypted => "it is encrypted by vsphere",
            Protectability::FaultTolerant => {
                "the vm is fault tolerant, which allows no snapshots: turn that off"
            }
            Protectability::Template => {
                "the vm is a template, which allows no snapshots: convert it to a vm"
            }
            Protectability::NoSnapshots => "vsphere says that the vm allows no snapshots",
            Protectability::UnknownBacking(kind) => {
                return Some(format!("backing {kind} is not known"));
            }
        };
        Some(words.to_owned())
    }
}

/// Something that keeps a VM from being protected, or makes less of its protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The disk that it is about; the whole VM when none.
    pub disk_key: Option<i32>,
    /// Whether the disk, or the VM, cannot be protected at all because of it.
    pub blocks: bool,
    /// What it is, in words for a person.
    pub words: String,
}

/// Lays what holds for the whole VM on each disk that could be protected otherwise.
pub(super) fn of_the_vm(disks: &mut [VmDisk], template: bool, facts: &VmFacts) {
    let common = if template {
        Protectability::Template
    } else if facts.is_fault_tolerant {
        Protectability::FaultTolerant
    } else if facts.snapshots_supported == Some(false) {
        Protectability::NoSnapshots
    } else {
        return;
    };
    for disk in disks {
        if disk.protectability.is_protectable() {
            disk.protectability = common.clone();
        }
    }
}

impl Vm {
    /// Everything that keeps the VM from being protected or makes less of it, disks first.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let of_disk = |disk: &VmDisk| {
            let words = disk.protectability.obstacle()?;
            Some(Obstacle {
                disk_key: Some(disk.key),
                blocks: true,
                words: format!("{}: {words}", disk.label),
            })
        };
        let disks = self.disks.iter().filter_map(of_disk);
        disks.chain(self.of_the_whole()).collect()
    }

    fn of_the_whole(&self) -> impl Iterator<Item = Obstacle> {
        let facts = &self.facts;
        let disabled = (facts.disables("CreateSnapshotEx_Task")
            || facts.disables("RemoveSnapshot_Task"))
        .then_some((true, "another product has disabled snapshots of the vm"));
        let question = facts
            .has_question
            .then_some((true, "the vm waits for an answer to a question in vsphere"));
        let tracking = (!self.cbt_supported).then_some((
            false,
            "its hardware version knows no change tracking: every run reads everything",
        ));
        let tpm = facts.has_vtpm.then_some((
            false,
            "the content of its virtual tpm is not kept: what the guest sealed to it asks for a recovery key after a restore",
        ));
        let encrypted = facts.is_encrypted.then_some((
            false,
            "its configuration is encrypted: its nvram is of no use elsewhere",
        ));
        let tools = matches!(
            facts.tools_version,
            ToolsVersion::TooOld | ToolsVersion::Blacklisted
        )
        .then_some((false, "its vmware tools are too old to quiesce the guest"));
        let all = [disabled, question, tracking, tpm, encrypted, tools];
        all.into_iter().flatten().map(|(blocks, words)| Obstacle {
            disk_key: None,
            blocks,
            words: words.to_owned(),
        })
    }
}
