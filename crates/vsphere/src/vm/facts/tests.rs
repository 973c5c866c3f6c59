use super::*;
use crate::Protectability;
use crate::device;
use crate::vm::obstacle::of_the_vm;

const CONFIG: &str = r#"<val><files><vmPathName>[ds] web/web.vmx</vmPathName><snapshotDirectory>[ds] web/</snapshotDirectory><logDirectory>[ds2] logs/web</logDirectory></files>
    <guestId>debian11_64Guest</guestId><version>vmx-19</version><keyId><keyId>k</keyId></keyId>
    <hardware><device x:type="VirtualTPM"><key>11000</key></device>
    <device x:type="VirtualDisk"><key>2000</key><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds] web/web.vmdk</fileName><diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>4</capacityInKB></device></hardware>
    <extraConfig><key>nvram</key><value x:type="xsd:string">web.nvram</value></extraConfig>
    <extraConfig><key>disk.enableuuid</key><value x:type="xsd:string">TRUE</value></extraConfig></val>"#;
const RUNTIME: &str = "<val><connectionState>connected</connectionState><faultToleranceState>notConfigured</faultToleranceState></val>";

fn read(config: &str, runtime: &str, more: &[(&str, &str)]) -> VmFacts {
    let mut xml = String::from(r#"<objects xmlns:x="i"><obj type="VirtualMachine">vm-1</obj>"#);
    for (name, value) in more {
        xml.push_str(&format!(
            "<propSet><name>{name}</name><val>{value}</val></propSet>"
        ));
    }
    let vm = Element::parse(&(xml + "</objects>")).expect("reads");
    let vm = Properties::parse(&vm).expect("properties");
    let config = config.replacen("<val>", r#"<val xmlns:x="i">"#, 1);
    let config = Element::parse(&config).expect("reads");
    let runtime = Element::parse(runtime).expect("reads");
    facts(&vm, &config, &runtime).expect("facts")
}

#[test]
fn facts_are_read_from_their_places() {
    let more = [
        ("guest.toolsVersionStatus2", "guestToolsUnmanaged"),
        ("guest.guestFamily", "linuxGuest"),
        ("capability.snapshotOperationsSupported", "true"),
        ("capability.quiescedSnapshotsSupported", "false"),
        (
            "disabledMethod",
            "<string>MigrateVM_Task</string><string>RelocateVM_Task</string>",
        ),
        (
            "recentTask",
            r#"<ManagedObjectReference type="Task">task-7</ManagedObjectReference>"#,
        ),
    ];
    let found = read(CONFIG, RUNTIME, &more);
    assert_eq!(found.tools_version, ToolsVersion::Unmanaged);
    assert_eq!(found.guest_family, GuestFamily::Linux);
    assert_eq!(
        (found.snapshots_supported, found.quiescing_supported),
        (Some(true), Some(false))
    );
    assert!(found.is_encrypted && found.has_vtpm && found.disk_uuids_visible);
    assert!(!found.is_fault_tolerant && !found.has_question);
    assert!(found.disables("RelocateVM_Task") && !found.disables("RemoveSnapshot_Task"));
    assert_eq!(found.recent_tasks, [TaskRef::new("task-7")]);
    assert_eq!(found.hardware_version, "vmx-19");
    assert_eq!(found.nvram_file().as_deref(), Some("[ds] web/web.nvram"));
    assert_eq!(
        found.log_file().as_deref(),
        Some("[ds2] logs/web/vmware.log")
    );
    let manifest = found.manifest_file("web-vss_manifests1.zip");
    assert_eq!(manifest.as_deref(), Some("[ds] web/web-vss_manifests1.zip"));
}

#[test]
fn what_the_server_leaves_out_is_not_made_up() {
    let found = read("<val></val>", "<val></val>", &[]);
    assert_eq!(found, VmFacts::default());
    assert_eq!((found.nvram_file(), found.log_file()), (None, None));
}

#[test]
fn files_beside_a_vm_at_the_top_of_its_datastore_are_found() {
    let found = VmFacts {
        configuration_file: Some("[my ds] web.vmx".into()),
        snapshot_directory: Some("[my ds]".into()),
        ..VmFacts::default()
    };
    assert_eq!(found.nvram_file().as_deref(), Some("[my ds] web.nvram"));
    assert_eq!(found.log_file().as_deref(), Some("[my ds] vmware.log"));
    assert_eq!(found.manifest_file("m").as_deref(), Some("[my ds] m"));
}

#[track_caller]
fn check(template: bool, facts: &VmFacts, expected: Protectability) {
    let config = CONFIG.replacen("<val>", r#"<val xmlns:x="i">"#, 1);
    let config = Element::parse(&config).expect("reads");
    let hardware = config.find("hardware").expect("hardware");
    let mut disks = device::disks(&hardware.children).expect("disks");
    of_the_vm(&mut disks, template, facts);
    let found: Vec<_> = disks.into_iter().map(|disk| disk.protectability).collect();
    assert_eq!(found, [expected]);
}

#[test]
fn what_hinders_the_whole_vm_hinders_each_disk() {
    let runtime = RUNTIME.replace("notConfigured", "running");
    let tolerant = read("<val></val>", &runtime, &[]);
    check(false, &tolerant, Protectability::FaultTolerant);
    let secondary = read("<val><ftInfo><role>2</role></ftInfo></val>", RUNTIME, &[]);
    check(false, &secondary, Protectability::FaultTolerant);
    let none = VmFacts::default();
    check(true, &none, Protectability::Template);
    check(false, &none, Protectability::Protectable);
    let refused = VmFacts {
        snapshots_supported: Some(false),
        ..VmFacts::default()
    };
    check(false, &refused, Protectability::NoSnapshots);
}

#[test]
fn a_guest_is_known_by_its_own_word_or_by_what_it_was_made_for() {
    for (told, id, expected) in [
        (
            Some("linuxGuest"),
            Some("windows2019srv_64Guest"),
            GuestFamily::Linux,
        ),
        (Some("darwinGuestFamily"), None, GuestFamily::Other),
        (None, Some("windows2019srv_64Guest"), GuestFamily::Windows),
        (None, Some("rhel8_64Guest"), GuestFamily::Linux),
        (None, Some("other5xLinux64Guest"), GuestFamily::Linux),
        (None, Some("freebsd13_64Guest"), GuestFamily::Other),
        (None, None, GuestFamily::Unknown),
    ] {
        assert_eq!(family(told, id), expected, "{told:?} {id:?}");
    }
}
