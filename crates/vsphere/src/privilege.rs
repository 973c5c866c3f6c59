//! What our account must be allowed, and what it is not.
//!
//! The table is the one place that says so: preflight checks against it and the roles that we ship are
//! held to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::body::Body;
use crate::client::{Call, Client, Repeat, bad_answer};
use crate::error::{FaultKind, VimFault};
use crate::reference::Moref;
use crate::xml::{Element, Problem};
use crate::{Entity, Error, Result};

mod table;

pub use table::{Need, Scope};

const FETCH: &str = "FetchUserPrivilegeOnEntities";

/// A group of calls that are made for one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrivilegeGroup {
    /// Listing VMs and keeping the session.
    Inventory,
    /// Turning change tracking on and off.
    Tracking,
    /// Making and removing snapshots, consolidating.
    Snapshot,
    /// Reading disks over NFC.
    Read,
    /// Writing disks over NFC.
    Write,
    /// Reading and writing files of datastores.
    Files,
    /// Attaching disks to the proxy's own VM.
    HotAdd,
    /// Running programs in the guest.
    Guest,
    /// Making a VM anew.
    Restore,
}

impl PrivilegeGroup {
    /// Every group.
    pub const ALL: [PrivilegeGroup; 9] = [
        PrivilegeGroup::Inventory,
        PrivilegeGroup::Tracking,
        PrivilegeGroup::Snapshot,
        PrivilegeGroup::Read,
        PrivilegeGroup::Write,
        PrivilegeGroup::Files,
        PrivilegeGroup::HotAdd,
        PrivilegeGroup::Guest,
        PrivilegeGroup::Restore,
    ];

    /// The group's name, as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PrivilegeGroup::Inventory => "inventory",
            PrivilegeGroup::Tracking => "change tracking",
            PrivilegeGroup::Snapshot => "snapshots",
            PrivilegeGroup::Read => "reading disks",
            PrivilegeGroup::Write => "writing disks",
            PrivilegeGroup::Files => "files of datastores",
            PrivilegeGroup::HotAdd => "attaching disks to the proxy",
            PrivilegeGroup::Guest => "work in the guest",
            PrivilegeGroup::Restore => "restoring vms",
        }
    }
}

impl fmt::Display for PrivilegeGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A privilege that our account lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingPrivilege {
    /// On what.
    pub entity: Entity,
    /// For what.
    pub group: PrivilegeGroup,
    /// Its id, as vSphere's roles list it.
    pub privilege: &'static str,
    /// Whether only less is possible without it, not nothing.
    pub is_optional: bool,
}

impl fmt::Display for MissingPrivilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entity,
            group,
            privilege,
            is_optional: _,
        } = self;
        write!(f, "{privilege} on {entity}, for {group}")
    }
}

impl Client {
    /// What our account lacks on these objects for these purposes, in the order of the objects. Each
    /// privilege is checked on the objects that it must be held on.
    pub async fn missing_privileges(
        &self,
        entities: &[Entity],
        groups: &[PrivilegeGroup],
    ) -> Result<Vec<MissingPrivilege>> {
        let held = self.held_privileges(entities).await?;
        let mut missing = Vec::new();
        for entity in entities {
            let held = held.get(&self.entity_moref(entity));
            let held = held.ok_or_else(|| bad_answer(FETCH, not_told(entity)))?;
            missing.extend(lacking(entity, groups, held));
        }
        Ok(missing)
    }

    /// Who we are, as the server writes it in its lists of rights.
    pub async fn own_name(&self) -> Result<String> {
        let manager = &self.content().session_manager;
        let read = self.read(manager, &["currentSession"]).await?;
        let session = read.need("currentSession")?;
        session
            .string("userName")
            .map_err(|problem| read.bad(problem))
    }

    async fn held_privileges(
        &self,
        entities: &[Entity],
    ) -> Result<BTreeMap<Moref, BTreeSet<String>>> {
        let this = self.content().authorization.as_ref();
        let this = this.ok_or_else(|| no_authorization(FETCH))?;
        let mut body = Body::new();
        for entity in entities {
            body = body.moref("entities", &self.entity_moref(entity));
        }
        let call = Call {
            method: FETCH,
            this,
            body: body.value("userName", self.own_name().await?),
            repeat: Repeat::Safe,
        };
        let returned = self.call(call).await?;
        returned
            .iter()
            .map(held)
            .collect::<Result<_, _>>()
            .map_err(|problem| bad_answer(FETCH, problem))
    }

    fn entity_moref(&self, entity: &Entity) -> Moref {
        match entity {
            Entity::Root => self.content().root_folder.clone(),
            Entity::Vm(vm) => vm.moref(),
            Entity::Datastore(datastore) => datastore.moref(),
            Entity::Folder(folder) => folder.moref(),
            Entity::Pool(pool) => pool.moref(),
            Entity::Network(network) => network.0.clone(),
        }
    }
}

fn no_authorization(method: &'static str) -> Error {
    let message = "this server keeps no rights".to_owned();
    let kind = FaultKind::NotSupported;
    Error::Fault {
        method,
        fault: Box::new(VimFault { kind, message }),
    }
}

fn not_told(entity: &Entity) -> Problem {
    Problem(format!("nothing about {entity}"))
}

/// `UserPrivilegeResult`.
fn held(result: &Element) -> Result<(Moref, BTreeSet<String>), Problem> {
    let privileges = result.all("privileges");
    Ok((
        result.need_moref("entity")?,
        privileges.map(|privilege| privilege.text.clone()).collect(),
    ))
}

fn lacking(
    entity: &Entity,
    groups: &[PrivilegeGroup],
    held: &BTreeSet<String>,
) -> Vec<MissingPrivilege> {
    let needs = groups
        .iter()
        .flat_map(|group| group.needs().iter().map(move |need| (*group, need)));
    needs
        .filter(|(_, need)| need.scope == Scope::of(entity) && !held.contains(need.privilege))
        .map(|(group, need)| MissingPrivilege {
            entity: entity.clone(),
            group,
            privilege: need.privilege,
            is_optional: need.is_optional,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatastoreRef, VmRef};

    fn lacked(entity: &Entity, groups: &[PrivilegeGroup], held: &[&str]) -> Vec<&'static str> {
        let held = held.iter().map(|id| (*id).to_owned()).collect();
        let found = lacking(entity, groups, &held);
        found.into_iter().map(|missing| missing.privilege).collect()
    }

    #[test]
    fn a_privilege_is_missed_only_where_it_must_be_held() {
        let vm = Entity::Vm(VmRef::new("vm-1"));
        let groups = [PrivilegeGroup::Snapshot, PrivilegeGroup::Files];
        let create = "VirtualMachine.State.CreateSnapshot";
        let remove = "VirtualMachine.State.RemoveSnapshot";
        assert_eq!(lacked(&vm, &groups, &[]), [create, remove]);
        assert_eq!(lacked(&vm, &groups, &[create]), [remove]);
        assert_eq!(lacked(&vm, &groups, &[create, remove]), [""; 0]);
        let datastore = Entity::Datastore(DatastoreRef::new("ds-1"));
        let files = ["Datastore.Browse", "Datastore.FileManagement"];
        assert_eq!(lacked(&datastore, &groups, &files), [""; 0]);
        assert_eq!(lacked(&datastore, &groups, &[]), files);
    }

    #[test]
    fn what_is_missing_is_told_with_its_place_and_purpose() {
        let vm = Entity::Vm(VmRef::new("vm-1"));
        let found = lacking(&vm, &[PrivilegeGroup::Guest], &BTreeSet::new());
        let first = found.first().map(ToString::to_string);
        let expected = "VirtualMachine.GuestOperations.Query on vm vm-1, for work in the guest";
        assert_eq!(first.as_deref(), Some(expected));
    }

    #[test]
    fn an_answer_is_read_by_its_object() {
        let xml = r#"<returnval><entity type="VirtualMachine">vm-1</entity><privileges>A.B</privileges><privileges>C</privileges></returnval>"#;
        let (entity, privileges) = held(&Element::parse(xml).expect("reads")).expect("rights");
        assert_eq!(entity, Moref::new("VirtualMachine", "vm-1"));
        assert_eq!(privileges.into_iter().collect::<Vec<_>>(), ["A.B", "C"]);
    }
}
