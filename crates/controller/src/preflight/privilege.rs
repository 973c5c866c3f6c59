//! What our account may do, and what would not work without.

use std::collections::BTreeMap;

use stillwater_types::Reason;
use stillwater_vsphere::{DatastoreFacts, Entity, MissingPrivilege, PrivilegeGroup, Told};

use super::{Check, Facts, Finding, Subject, Verdict};

/// What a backup does.
pub const BACKUP: &[PrivilegeGroup] = &[
    PrivilegeGroup::Inventory,
    PrivilegeGroup::Tracking,
    PrivilegeGroup::Snapshot,
    PrivilegeGroup::Read,
    PrivilegeGroup::Files,
];
/// What a backup with hooks in the guest does.
pub const BACKUP_WITH_HOOKS: &[PrivilegeGroup] = &[
    PrivilegeGroup::Inventory,
    PrivilegeGroup::Tracking,
    PrivilegeGroup::Snapshot,
    PrivilegeGroup::Read,
    PrivilegeGroup::Files,
    PrivilegeGroup::Guest,
];
/// What a restore does.
pub const RESTORE: &[PrivilegeGroup] = &[PrivilegeGroup::Write, PrivilegeGroup::Restore];

/// A privilege that is lacking on an object, with all that it is needed for.
struct Lack<'a> {
    groups: Vec<PrivilegeGroup>,
    missing: &'a MissingPrivilege,
    is_optional: bool,
}

pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let missing = match &facts.around.missing {
        Told::Known(missing) => missing,
        Told::Unknown(why) => {
            let message = format!("what our account may do could not be asked: {why}");
            let account = Subject::Account(facts.vm.path.clone());
            let mut found = Finding::new(Check::Privilege, Verdict::Warning, account, message);
            found.is_told_by_runs = false;
            return vec![found.because(Reason::VcenterPrivilegeMissing)];
        }
    };
    if missing.is_empty() {
        let purposes: Vec<&str> = facts.purposes.iter().map(|group| group.as_str()).collect();
        let message = format!("has every privilege for {}", purposes.join(", "));
        let account = Subject::Account(facts.vm.path.clone());
        return vec![Finding::new(
            Check::Privilege,
            Verdict::Ok,
            account,
            message,
        )];
    }
    let is_readable = is_readable(missing, facts.reads_nfc);
    lacks(missing)
        .iter()
        .map(|lack| finding(facts, lack, is_readable))
        .collect()
}

/// One entry per privilege and object, in the order of the objects.
fn lacks(missing: &[MissingPrivilege]) -> Vec<Lack<'_>> {
    let mut order = Vec::new();
    let mut by_object: BTreeMap<(&Entity, &str), Lack<'_>> = BTreeMap::new();
    for one in missing {
        let at = (&one.entity, one.privilege);
        let lack = by_object.entry(at).or_insert_with(|| {
            order.push(at);
            Lack {
                groups: Vec::new(),
                missing: one,
                is_optional: true,
            }
        });
        lack.groups.push(one.group);
        lack.is_optional &= one.is_optional;
    }
    order.iter().filter_map(|at| by_object.remove(at)).collect()
}

/// Whether disks can be read by one way at least.
fn is_readable(missing: &[MissingPrivilege], reads_nfc: bool) -> bool {
    let holds = |group| {
        !missing
            .iter()
            .any(|one| one.group == group && !one.is_optional)
    };
    (reads_nfc && holds(PrivilegeGroup::Read)) || holds(PrivilegeGroup::Files)
}

fn finding(facts: &Facts<'_>, lack: &Lack<'_>, is_readable: bool) -> Finding {
    let MissingPrivilege {
        entity, privilege, ..
    } = lack.missing;
    let verdicts = lack.groups.iter().map(|group| verdict(*group, is_readable));
    let verdict = match lack.is_optional {
        true => Verdict::Warning,
        false => verdicts.max().unwrap_or(Verdict::Warning),
    };
    let losses: Vec<&str> = lack.groups.iter().map(|group| loss(*group)).collect();
    let object = name(facts, entity);
    let message = format!(
        "our account lacks {privilege} on {object}: {}; add it to the account's role there (deploy/vsphere-role has the lists)",
        losses.join("; ")
    );
    let is_told = lack.groups.iter().any(|group| is_told_by_runs(*group));
    let mut found = Finding::new(Check::Privilege, verdict, Subject::Account(object), message)
        .because(Reason::VcenterPrivilegeMissing);
    found.is_told_by_runs &= is_told && !lack.is_optional;
    found.privilege = Some(privilege);
    found
}

const fn verdict(group: PrivilegeGroup, is_readable: bool) -> Verdict {
    match group {
        PrivilegeGroup::Snapshot => Verdict::Blocked,
        PrivilegeGroup::Read | PrivilegeGroup::Files if !is_readable => Verdict::Blocked,
        _ => Verdict::Warning,
    }
}

/// A VM that was read is in an inventory that can be seen; that is lacking only further up.
const fn is_told_by_runs(group: PrivilegeGroup) -> bool {
    matches!(
        group,
        PrivilegeGroup::Tracking
            | PrivilegeGroup::Snapshot
            | PrivilegeGroup::Read
            | PrivilegeGroup::Files
            | PrivilegeGroup::Guest
    )
}

/// What does not work without.
const fn loss(group: PrivilegeGroup) -> &'static str {
    match group {
        PrivilegeGroup::Inventory => "not all that lies around the vm is kept",
        PrivilegeGroup::Tracking => "changes are not tracked, and every run reads everything",
        PrivilegeGroup::Snapshot => "no snapshot can be made and removed",
        PrivilegeGroup::Read => "disks cannot be read through their host",
        PrivilegeGroup::Write => "disks cannot be written through their host",
        PrivilegeGroup::Files => {
            "neither disks nor nvram can be read from datastores, nor what proves a freeze"
        }
        PrivilegeGroup::HotAdd => "disks cannot be attached to a proxy",
        PrivilegeGroup::Guest => "no program can be run in the guest",
        PrivilegeGroup::Restore => "the vm cannot be restored there",
    }
}

/// An object by the name that people know it by.
fn name(facts: &Facts<'_>, entity: &Entity) -> String {
    let known = match &facts.around.datastores {
        Told::Known(datastores) => datastores.as_slice(),
        Told::Unknown(_) => &[],
    };
    match entity {
        Entity::Vm(vm) if *vm == facts.vm.vm => format!("vm {}", facts.vm.path),
        Entity::Datastore(datastore) => {
            let same = |known: &&DatastoreFacts| known.datastore == *datastore;
            match known.iter().find(same) {
                Some(known) => format!("datastore {}", known.name),
                None => entity.to_string(),
            }
        }
        entity => entity.to_string(),
    }
}
