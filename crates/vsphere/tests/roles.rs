//! The roles that we ship allow what our calls need, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use stillwater_vsphere::PrivilegeGroup;

#[track_caller]
fn check(list: &str, groups: &[PrivilegeGroup]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/vsphere-role");
    let text = std::fs::read_to_string(path.join(list)).expect("a list of privileges");
    let shipped: BTreeSet<&str> = text.lines().collect();
    assert_eq!(
        shipped.len(),
        text.lines().count(),
        "{list} names one twice"
    );
    let needs = groups.iter().flat_map(|group| group.needs());
    // Every role has these.
    let needed = needs.filter(|need| !need.privilege.starts_with("System."));
    let needed: BTreeSet<&str> = needed.map(|need| need.privilege).collect();
    assert_eq!(shipped, needed, "{list}");
}

#[test]
fn shipped_roles_are_what_the_table_says() {
    use PrivilegeGroup::*;
    check("backup.txt", &[Inventory, Tracking, Snapshot, Read, Files]);
    check("restore.txt", &[Inventory, Write, Files, Restore]);
    check("hot-add.txt", &[HotAdd]);
    check("guest.txt", &[Guest]);
}
