use stillwater_vsphere::{
    Connection, DatastoreRef, DiskTraits, Entity, MissingPrivilege, Power, Protectability, Told,
    Tools, ToolsVersion, VmDisk, VmFacts, VmRef,
};

use super::*;

fn disk(key: i32, protectability: Protectability) -> VmDisk {
    VmDisk {
        key,
        label: format!("Hard disk {}", key - 1999),
        capacity_bytes: 1 << 20,
        file_name: format!("[ds] web/web_{key}.vmdk"),
        backing_uuid: None,
        mode: "persistent".into(),
        protectability,
        controller_key: 1000,
        unit: 0,
        traits: DiskTraits::default(),
    }
}

/// A VM that nothing is wrong with.
pub(crate) fn sound() -> Vm {
    Vm {
        vm: VmRef::new("vm-1"),
        name: "web".into(),
        path: "/DC0/vm/web".into(),
        datacenter: "/DC0".into(),
        uuid: "uuid".into(),
        instance_uuid: None,
        guest_id: "debian11_64Guest".into(),
        power: Power::On,
        tools: Tools::Running,
        cbt_enabled: true,
        cbt_supported: true,
        consolidation_needed: false,
        template: false,
        host: None,
        datastores: vec!["ds".into()],
        disks: vec![disk(2000, Protectability::Protectable)],
        snapshots: vec![],
        facts: VmFacts {
            tools_version: ToolsVersion::Unmanaged,
            hardware_version: "vmx-19".into(),
            snapshots_supported: Some(true),
            ..VmFacts::default()
        },
        config_xml: String::new(),
    }
}

fn around(missing: Vec<MissingPrivilege>) -> Circumstances {
    Circumstances {
        datastores: Told::Known(Vec::new()),
        missing: Told::Known(missing),
    }
}

fn lacking(entity: Entity, group: PrivilegeGroup, privilege: &'static str) -> MissingPrivilege {
    MissingPrivilege {
        entity,
        group,
        privilege,
        is_optional: false,
    }
}

fn found(vm: &Vm, around: &Circumstances, reads_nfc: bool) -> Vec<Finding> {
    examine(&Facts {
        vm,
        around,
        exclude: &[2009],
        cluster: ClusterId::from_bytes([1; 16]),
        purposes: BACKUP,
        guards: &Guards::default(),
        reads_nfc,
        now: Timestamp::UNIX_EPOCH,
    })
}

/// What is not in order, in the order of the checks.
fn problems(vm: &Vm) -> Vec<(Check, Verdict)> {
    let found = found(vm, &around(Vec::new()), false);
    let problems = found.into_iter().filter(|f| f.verdict != Verdict::Ok);
    problems.map(|f| (f.check, f.verdict)).collect()
}

#[track_caller]
fn check(change: impl FnOnce(&mut Vm), expected: &[(Check, Verdict)]) {
    let mut vm = sound();
    change(&mut vm);
    assert_eq!(problems(&vm), expected);
}

#[test]
fn a_sound_vm_passes_every_check() {
    let found = found(&sound(), &around(Vec::new()), false);
    assert!(found.iter().all(|f| f.verdict == Verdict::Ok), "{found:?}");
    let asked: std::collections::BTreeSet<Check> = found.iter().map(|f| f.check).collect();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), Check::ALL);
    assert_eq!(
        Ruling::of(&found),
        Ok(Ruling {
            missing: vec![],
            warnings: vec![],
        })
    );
}

#[test]
fn what_holds_for_the_whole_vm_is_named() {
    use Verdict::{Blocked, Warning};
    check(|vm| vm.template = true, &[(Check::Template, Blocked)]);
    check(
        |vm| vm.facts.connection = Connection::Disconnected,
        &[(Check::Connection, Blocked)],
    );
    check(
        |vm| vm.facts.is_fault_tolerant = true,
        &[(Check::FaultTolerance, Blocked)],
    );
    check(
        |vm| vm.facts.snapshots_supported = Some(false),
        &[(Check::SnapshotSupport, Blocked)],
    );
    check(
        |vm| vm.facts.disabled_methods = vec!["CreateSnapshotEx_Task".into()],
        &[(Check::DisabledMethods, Blocked)],
    );
    check(
        |vm| vm.facts.disabled_methods = vec!["PowerOnVM_Task".into()],
        &[],
    );
    check(
        |vm| vm.facts.has_question = true,
        &[(Check::Question, Blocked)],
    );
    check(|vm| vm.power = Power::Suspended, &[(Check::Power, Warning)]);
    check(
        |vm| vm.facts.hardware_version = "vmx-04".into(),
        &[(Check::HardwareVersion, Warning)],
    );
    check(
        |vm| vm.cbt_supported = false,
        &[(Check::ChangeTracking, Warning)],
    );
    check(|vm| vm.cbt_enabled = false, &[]);
    check(
        |vm| vm.tools = Tools::NotRunning,
        &[(Check::Tools, Warning)],
    );
    check(
        |vm| vm.facts.tools_version = ToolsVersion::TooOld,
        &[(Check::Tools, Warning)],
    );
    check(
        |vm| {
            vm.facts.tools_version = ToolsVersion::NotInstalled;
            vm.power = Power::Off;
        },
        &[],
    );
    check(
        |vm| vm.facts.is_encrypted = true,
        &[(Check::Encryption, Warning)],
    );
    check(
        |vm| vm.facts.has_vtpm = true,
        &[(Check::VirtualTpm, Warning)],
    );
    check(
        |vm| vm.consolidation_needed = true,
        &[(Check::Consolidation, Warning)],
    );
    check(|vm| vm.disks.clear(), &[(Check::Disk, Blocked)]);
}

#[test]
fn every_unprotectable_disk_is_named_with_its_reason_and_one_left_out_is_in_order() {
    let mut vm = sound();
    let kinds = [
        Protectability::Independent,
        Protectability::PhysicalRdm,
        Protectability::SharedBus,
        Protectability::MultiWriter,
        Protectability::Encrypted,
        Protectability::UnknownBacking("New".into()),
    ];
    let keys = 2001..;
    let disks = keys.zip(kinds.clone());
    vm.disks.extend(disks.map(|(key, kind)| disk(key, kind)));
    vm.disks.push(disk(2009, Protectability::Independent));
    let found = found(&vm, &around(Vec::new()), false);
    let ruling = Ruling::of(&found).expect("the first disk is protected");
    assert_eq!(ruling.missing.len(), kinds.len());
    for ((key, kind), Cause(fault)) in (2001..).zip(&kinds).zip(&ruling.missing) {
        let reason = kind.obstacle().expect("an obstacle");
        let words = format!(
            "disk {key} (\"Hard disk {}\") is not in the point: {reason}; exclude it by its key to accept that",
            key - 1999
        );
        assert_eq!(
            (fault.reason, fault.message.as_str()),
            (Reason::DiskUnprotectable, words.as_str())
        );
        assert_eq!(fault.details.get("disk"), Some(&key.to_string()));
    }
}

#[test]
fn a_datastore_that_no_host_reaches_blocks_the_vm_by_its_name() {
    let datastore = |name: &str, is_accessible| stillwater_vsphere::DatastoreFacts {
        datastore: DatastoreRef::new(name),
        name: name.to_owned(),
        url: None,
        kind: stillwater_vsphere::DatastoreKind::Vmfs,
        capacity_bytes: 1 << 40,
        free_bytes: 1 << 39,
        is_accessible,
        hosts: Vec::new(),
    };
    let around = Circumstances {
        datastores: Told::Known(vec![datastore("near", true), datastore("far", false)]),
        missing: Told::Known(Vec::new()),
    };
    let found = found(&sound(), &around, false);
    let blocked: Vec<_> = found
        .iter()
        .filter(|f| f.verdict == Verdict::Blocked)
        .map(|f| (f.check, f.subject.to_string()))
        .collect();
    assert_eq!(blocked, [(Check::Datastore, "datastore far".to_owned())]);
    let fault = Ruling::of(&found).expect_err("refused");
    assert!(fault.message.contains("datastore far"), "{fault}");
}

#[test]
fn a_template_is_told_once_and_not_again_for_each_disk() {
    check(
        |vm| {
            vm.template = true;
            vm.disks = vec![disk(2000, Protectability::Template)];
        },
        &[(Check::Template, Verdict::Blocked)],
    );
}

#[test]
fn what_blocks_the_whole_vm_refuses_a_run_in_the_words_of_preflight() {
    let mut vm = sound();
    vm.template = true;
    vm.facts.has_question = true;
    let found = found(&vm, &around(Vec::new()), false);
    let fault = Ruling::of(&found).expect_err("refused");
    assert_eq!(fault.reason, Reason::SnapshotFailed);
    let blocked = found.iter().filter(|f| f.verdict == Verdict::Blocked);
    for finding in blocked {
        assert!(fault.message.contains(&finding.message), "{fault}");
    }
}

#[test]
fn runs_tell_what_they_do_not_measure_themselves() {
    let mut vm = sound();
    vm.tools = Tools::NotRunning;
    vm.cbt_supported = false;
    vm.consolidation_needed = true;
    vm.facts.has_vtpm = true;
    let ruling = Ruling::of(&found(&vm, &around(Vec::new()), false)).expect("works");
    let told: Vec<_> = ruling.warnings.iter().map(|c| c.0.reason).collect();
    assert_eq!(told, [Reason::NotSupported, Reason::VcenterTaskFailed]);
}

#[track_caller]
fn check_privilege(
    missing: Vec<MissingPrivilege>,
    reads_nfc: bool,
    expected: &[(&str, Verdict, bool)],
) {
    let found = found(&sound(), &around(missing), reads_nfc);
    let found: Vec<_> = found
        .iter()
        .filter(|f| f.check == Check::Privilege)
        .map(|f| {
            let name = f.privilege.expect("named");
            (name, f.verdict, f.is_told_by_runs)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_missing_privilege_blocks_only_what_cannot_be_done_otherwise() {
    use PrivilegeGroup::{Files, Inventory, Read, Restore, Snapshot, Tracking};
    use Verdict::{Blocked, Warning};
    let vm = || Entity::Vm(VmRef::new("vm-1"));
    let datastore = || Entity::Datastore(DatastoreRef::new("ds-1"));
    let remove = "VirtualMachine.State.RemoveSnapshot";
    let snapshot = || lacking(vm(), Snapshot, remove);
    check_privilege(vec![snapshot()], false, &[(remove, Blocked, false)]);
    let random = "VirtualMachine.Provisioning.DiskRandomRead";
    let read = || [lacking(vm(), Tracking, random), lacking(vm(), Read, random)];
    check_privilege(read().into(), false, &[(random, Warning, true)]);
    let browse = "Datastore.Browse";
    let files = || lacking(datastore(), Files, browse);
    // The folder is the only way, then one of two, then neither is left.
    check_privilege(vec![files()], false, &[(browse, Blocked, false)]);
    check_privilege(vec![files()], true, &[(browse, Warning, true)]);
    let both = read().into_iter().chain([files()]).collect();
    let none_is_left = [(random, Blocked, false), (browse, Blocked, false)];
    check_privilege(both, true, &none_is_left);
    // What a run can do without is told by preflight only.
    let view = lacking(Entity::Root, Inventory, "System.View");
    check_privilege(vec![view], false, &[("System.View", Warning, false)]);
    let create = "VirtualMachine.Inventory.Create";
    let restore = lacking(vm(), Restore, create);
    check_privilege(vec![restore], false, &[(create, Warning, false)]);
}

#[test]
fn privileges_that_could_not_be_asked_for_are_no_obstacle_and_are_told() {
    let fault = Fault::new(Reason::VcenterUnreachable, "away");
    let found = found(&sound(), &Circumstances::unknown(&fault), false);
    let told = found.iter().find(|f| f.check == Check::Privilege);
    let told = told.expect("the check");
    assert!(told.verdict == Verdict::Warning && told.message.contains("away"));
    let ruling = Ruling::of(&found).expect("works");
    assert!(ruling.missing.is_empty() && ruling.warnings.is_empty());
}

#[test]
fn the_operations_guide_has_every_check() {
    let guide = include_str!("../../../../docs/operations/preflight.md");
    for check in Check::ALL {
        let row = format!("| `{check}` |");
        assert!(
            guide.contains(&row),
            "docs/operations/preflight.md lacks {row}"
        );
    }
}
