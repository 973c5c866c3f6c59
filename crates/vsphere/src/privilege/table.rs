//! Which privileges a group of calls needs, and on what.

use super::PrivilegeGroup;
use crate::Entity;

/// A privilege and where it must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Its id.
    pub privilege: &'static str,
    /// On what kind of object.
    pub scope: Scope,
    /// Whether only less is possible without it, not nothing.
    pub is_optional: bool,
}

/// A kind of object that privileges are held on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The root of the inventory.
    Root,
    /// VMs.
    Vm,
    /// Datastores.
    Datastore,
    /// Folders of VMs.
    Folder,
    /// Resource pools.
    Pool,
    /// Networks.
    Network,
}

impl Scope {
    pub(super) const fn of(entity: &Entity) -> Self {
        match entity {
            Entity::Root => Scope::Root,
            Entity::Vm(_) => Scope::Vm,
            Entity::Datastore(_) => Scope::Datastore,
            Entity::Folder(_) => Scope::Folder,
            Entity::Pool(_) => Scope::Pool,
            Entity::Network(_) => Scope::Network,
        }
    }
}

const fn need(privilege: &'static str, scope: Scope) -> Need {
    Need {
        privilege,
        scope,
        is_optional: false,
    }
}

const fn wish(privilege: &'static str, scope: Scope) -> Need {
    Need {
        privilege,
        scope,
        is_optional: true,
    }
}

const INVENTORY: &[Need] = &[
    need("System.Anonymous", Scope::Root),
    need("System.View", Scope::Root),
    need("System.Read", Scope::Root),
    // Storage policies are part of what is kept.
    wish("StorageProfile.View", Scope::Root),
];
const TRACKING: &[Need] = &[
    need("VirtualMachine.Config.ChangeTracking", Scope::Vm),
    // A map of changed areas tells something of the disk's content.
    need("VirtualMachine.Provisioning.DiskRandomRead", Scope::Vm),
];
// Consolidating needs what removing needs.
const SNAPSHOT: &[Need] = &[
    need("VirtualMachine.State.CreateSnapshot", Scope::Vm),
    need("VirtualMachine.State.RemoveSnapshot", Scope::Vm),
];
const READ: &[Need] = &[
    need("VirtualMachine.Provisioning.GetVmFiles", Scope::Vm),
    need("VirtualMachine.Provisioning.DiskRandomRead", Scope::Vm),
];
const WRITE: &[Need] = &[
    need("VirtualMachine.Provisioning.DiskRandomAccess", Scope::Vm),
    need("VirtualMachine.Provisioning.PutVmFiles", Scope::Vm),
    need("VirtualMachine.Provisioning.FileRandomAccess", Scope::Vm),
    need("VirtualMachine.Config.DiskLease", Scope::Vm),
];
const FILES: &[Need] = &[
    need("Datastore.Browse", Scope::Datastore),
    need("Datastore.FileManagement", Scope::Datastore),
];
const HOT_ADD: &[Need] = &[
    need("VirtualMachine.Config.AddExistingDisk", Scope::Vm),
    need("VirtualMachine.Config.AddNewDisk", Scope::Vm),
    need("VirtualMachine.Config.RemoveDisk", Scope::Vm),
    need("VirtualMachine.Config.AddRemoveDevice", Scope::Vm),
    need("VirtualMachine.Config.Resource", Scope::Vm),
    need("VirtualMachine.Config.Settings", Scope::Vm),
    need("VirtualMachine.Config.EditDevice", Scope::Vm),
    // The redo log of an attached disk takes space beside it.
    need("Datastore.AllocateSpace", Scope::Datastore),
    need("Datastore.Browse", Scope::Datastore),
    need("Datastore.FileManagement", Scope::Datastore),
];
const GUEST: &[Need] = &[
    need("VirtualMachine.GuestOperations.Query", Scope::Vm),
    need("VirtualMachine.GuestOperations.Modify", Scope::Vm),
    need("VirtualMachine.GuestOperations.Execute", Scope::Vm),
];
const RESTORE: &[Need] = &[
    need("VirtualMachine.Inventory.Create", Scope::Folder),
    // A restore that fails removes what it made.
    need("VirtualMachine.Inventory.Delete", Scope::Folder),
    need("VirtualMachine.Config.AddNewDisk", Scope::Folder),
    need("VirtualMachine.Config.AddRemoveDevice", Scope::Folder),
    need("VirtualMachine.Config.AdvancedConfig", Scope::Folder),
    need("VirtualMachine.Config.Annotation", Scope::Folder),
    need("VirtualMachine.Config.CPUCount", Scope::Folder),
    need("VirtualMachine.Config.Memory", Scope::Folder),
    need("VirtualMachine.Config.Settings", Scope::Folder),
    need("VirtualMachine.Interact.PowerOn", Scope::Folder),
    need("VirtualMachine.Interact.PowerOff", Scope::Folder),
    wish("VirtualMachine.Interact.AnswerQuestion", Scope::Folder),
    wish("VirtualMachine.Interact.DeviceConnection", Scope::Folder),
    wish("VirtualMachine.Config.Rename", Scope::Folder),
    wish("Folder.Create", Scope::Folder),
    // Applying a storage policy to a disk edits it.
    wish("VirtualMachine.Config.EditDevice", Scope::Folder),
    wish("VirtualMachine.Provisioning.MarkAsTemplate", Scope::Folder),
    need("Resource.AssignVMToPool", Scope::Pool),
    need("Datastore.AllocateSpace", Scope::Datastore),
    need("Datastore.Browse", Scope::Datastore),
    need("Datastore.FileManagement", Scope::Datastore),
    need("Network.Assign", Scope::Network),
    wish("Global.SetCustomField", Scope::Root),
    wish("Global.ManageCustomFields", Scope::Root),
    wish("StorageProfile.Apply", Scope::Root),
    wish("InventoryService.Tagging.AttachTag", Scope::Root),
];

impl PrivilegeGroup {
    /// What the group's calls need.
    pub const fn needs(self) -> &'static [Need] {
        match self {
            PrivilegeGroup::Inventory => INVENTORY,
            PrivilegeGroup::Tracking => TRACKING,
            PrivilegeGroup::Snapshot => SNAPSHOT,
            PrivilegeGroup::Read => READ,
            PrivilegeGroup::Write => WRITE,
            PrivilegeGroup::Files => FILES,
            PrivilegeGroup::HotAdd => HOT_ADD,
            PrivilegeGroup::Guest => GUEST,
            PrivilegeGroup::Restore => RESTORE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_group_needs_something_and_nothing_twice() {
        for group in PrivilegeGroup::ALL {
            let needs = group.needs();
            let apart: BTreeSet<_> = needs
                .iter()
                .map(|need| (need.privilege, format!("{:?}", need.scope)))
                .collect();
            assert!(needs.iter().any(|need| !need.is_optional), "{group}");
            assert_eq!(apart.len(), needs.len(), "{group}");
        }
    }
}
