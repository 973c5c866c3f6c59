//! The control plane against VMware's simulator.

#[path = "support/simulator.rs"]
mod simulator;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, find, image, snapshot};
use stillwater_types::{Extent, ExtentSet, Reason};
use stillwater_vsphere::{
    AttachDisk, AttachMode, Client, DetachDisk, Endpoint, Entity, Error, FaultKind, Fingerprint,
    GuestCommand, GuestExit, GuestFamily, GuestLogin, HostConnection, HostIdentity, HostRef, NewVm,
    NfcAccess, PlacementSpec, Power, PrivilegeGroup, Protectability, Quiesce, RungOutcome, Since,
    SnapshotSpec, Tools, Trust, VmRef, VmSurroundings, VssContext, WindowsQuiesce,
    probe_certificate,
};

/// One VM with a disk of 8 MiB.
fn one_vm(dir: &Path) -> Value {
    json!([{"name": "web", "cbt": true, "disks": [{"file": image(dir, "web.img", 8 * MIB, 1)}]}])
}

fn start() -> Simulator {
    Simulator::start_with(one_vm, &["--max-areas", "3", "--page-bytes", "1048576"])
}

const WEB: &str = "/DC0/vm/web";

async fn refused(endpoint: Endpoint) -> Error {
    Client::connect(endpoint)
        .await
        .map(drop)
        .expect_err("refused")
}

#[tokio::test]
async fn a_certificate_is_trusted_by_fingerprint_or_ca_and_not_otherwise() {
    let lab = Simulator::start(json!([]));
    let presented: Fingerprint = lab.text("sha256").parse().expect("a fingerprint");
    let shown = probe_certificate(&lab.endpoint().address)
        .await
        .expect("a certificate");
    assert_eq!(shown.sha256, presented);
    assert!(shown.subject.contains("lab vcenter"), "{}", shown.subject);
    assert_eq!(
        shown.pem,
        std::fs::read_to_string(lab.text("ca_pem")).expect("a file")
    );

    let ca = Trust::Ca(shown.pem.into_bytes());
    Client::connect(Endpoint {
        trust: ca,
        ..lab.endpoint()
    })
    .await
    .expect("by ca");
    let other = Trust::Fingerprint(Fingerprint::of(b"other"));
    let other_ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    for trust in [other, Trust::Ca(other_ca.cert.pem().into_bytes())] {
        let error = refused(Endpoint {
            trust,
            ..lab.endpoint()
        })
        .await;
        match &error {
            Error::CertificateUntrusted {
                presented: found, ..
            } => assert_eq!(*found, presented),
            other => panic!("{other:?}"),
        }
        assert_eq!(error.fault().reason, Reason::CertificateUntrusted);
    }
    let error = refused(Endpoint {
        trust: Trust::Ca(b"no pem".to_vec()),
        ..lab.endpoint()
    })
    .await;
    assert!(matches!(error, Error::BadEndpoint { .. }), "{error:?}");
    // One login: no password was sent to a server that is not trusted.
    assert_eq!(lab.calls("Login"), 1);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let lab = Simulator::start(json!([]));
    let password = SecretString::from("wrong".to_owned());
    let error = refused(Endpoint {
        password,
        ..lab.endpoint()
    })
    .await;
    assert!(matches!(error, Error::LoginRefused { .. }), "{error:?}");
    assert_eq!(error.fault().reason, Reason::VcenterLoginRefused);
    assert!(!error.fault().message.contains("wrong"));
    assert_eq!(lab.calls("Login"), 1);
}

#[tokio::test]
async fn a_server_that_is_away_or_too_old_is_told_apart() {
    let lab = Simulator::start_with(|_| json!([]), &["--api-version", "6.0"]);
    let error = refused(lab.endpoint()).await;
    assert!(
        matches!(error, Error::UnsupportedVersion { .. }),
        "{error:?}"
    );
    let endpoint = lab.endpoint();
    drop(lab);
    let error = refused(endpoint).await;
    assert_eq!(
        error.fault().reason,
        Reason::VcenterUnreachable,
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_says_what_it_is() {
    let lab = Simulator::start(json!([]));
    let client = lab.client().await;
    assert!(client.about().is_vcenter);
    assert!(client.about().instance_uuid.is_some());
    client.keep_alive().await.expect("alive");
    client.logout().await.expect("logs out");
    client.keep_alive().await.expect("logs in again");
    assert_eq!(lab.calls("Login"), 2);
}

#[tokio::test]
async fn the_inventory_lists_every_vm_with_its_path() {
    let lab = Simulator::start_with(
        |dir| {
            let disk = |name: &str| json!({"file": image(dir, name, MIB, 3)});
            json!([
                {"name": "web", "folder": "shop", "disks": [disk("a"), disk("b")], "cbt": true},
                {"name": "web", "folder": "shop/old", "disks": [disk("c")], "power": "off"},
                {"name": "bare", "disks": [], "tools": "absent"},
            ])
        },
        &[],
    );
    let client = lab.client().await;
    let vms = client.inventory().await.expect("an inventory");
    let rows: Vec<_> = vms
        .iter()
        .map(|vm| {
            (
                vm.path.as_str(),
                vm.power,
                vm.tools,
                vm.cbt,
                vm.disk_count,
                vm.capacity_bytes,
            )
        })
        .collect();
    let expected = [
        ("/DC0/vm/bare", Power::On, Tools::NotRunning, false, 0, 0),
        (
            "/DC0/vm/shop/old/web",
            Power::Off,
            Tools::NotRunning,
            false,
            1,
            MIB,
        ),
        (
            "/DC0/vm/shop/web",
            Power::On,
            Tools::Running,
            true,
            2,
            2 * MIB,
        ),
    ];
    assert_eq!(rows, expected);
    for vm in &vms {
        assert!(
            vm.host.is_some() && vm.uuid.is_some() && vm.instance_uuid.is_some(),
            "{vm:?}"
        );
        assert_eq!(vm.datastores, ["lab-ds"]);
    }
}

#[tokio::test]
async fn a_long_inventory_comes_in_pages_and_outlives_its_session() {
    let many = |_: &Path| {
        let vms =
            (0..230).map(|n| json!({"name": format!("vm-{n:03}"), "disks": [], "power": "off"}));
        Value::Array(vms.collect())
    };
    let lab = Simulator::start_with(many, &[]);
    let client = lab.client().await;
    assert_eq!(client.inventory().await.expect("an inventory").len(), 230);
    assert!(lab.calls("ContinueRetrievePropertiesEx") >= 2);
    for kind in ["expire-session", "drop", "drop-after"] {
        let before = lab.calls("CreateContainerView");
        lab.fault("ContinueRetrievePropertiesEx", kind, 0, 1);
        assert_eq!(
            client.inventory().await.expect("an inventory").len(),
            230,
            "{kind}"
        );
        // The view was made anew.
        assert_eq!(lab.calls("CreateContainerView"), before + 2, "{kind}");
    }
}

#[tokio::test]
async fn a_vm_is_read_afresh_and_its_unprotectable_disks_are_named() {
    let lab = Simulator::start_with(
        |dir| {
            let disk = |name: &str| image(dir, name, 2 * MIB, 5);
            json!([{"name": "db", "folder": "shop", "annotation": "a < b & c", "disks": [
                {"file": disk("a")},
                {"file": disk("b"), "mode": "independent_persistent"},
                {"file": disk("c"), "rdm": "physical"},
                {"file": disk("d"), "rdm": "virtual"},
            ]}])
        },
        &[],
    );
    let client = lab.client().await;
    let summary = find(&client, "/DC0/vm/shop/db").await;
    let vm = client.vm(&summary.vm).await.expect("a vm");
    assert_eq!(
        (vm.path.as_str(), vm.datacenter.as_str()),
        ("/DC0/vm/shop/db", "/DC0")
    );
    assert_eq!(
        (vm.name.as_str(), vm.power, vm.tools),
        ("db", Power::On, Tools::Running)
    );
    assert!(vm.cbt_supported && !vm.cbt_enabled && !vm.consolidation_needed && !vm.template);
    let facts = &vm.facts;
    assert!(!facts.has_vtpm && !facts.is_encrypted && !facts.is_fault_tolerant);
    assert_eq!(facts.guest_family, GuestFamily::Linux);
    assert_eq!(facts.nvram_file().as_deref(), Some("[lab-ds] db/db.nvram"));
    let blocked: Vec<_> = vm
        .obstacles()
        .into_iter()
        .filter(|obstacle| obstacle.blocks)
        .map(|obstacle| obstacle.disk_key)
        .collect();
    assert_eq!(blocked, [Some(2001), Some(2002)]);
    assert_eq!(Some(vm.uuid), summary.uuid);
    let kinds: Vec<_> = vm
        .disks
        .iter()
        .map(|disk| disk.protectability.clone())
        .collect();
    let expected = [
        Protectability::Protectable,
        Protectability::Independent,
        Protectability::PhysicalRdm,
        Protectability::Protectable,
    ];
    assert_eq!(kinds, expected);
    assert!(
        vm.disks
            .iter()
            .all(|disk| disk.capacity_bytes == 2 * MIB && disk.backing_uuid.is_some())
    );
    let new = NewVm::from_config(&vm.config_xml, "copy").expect("usable");
    assert_eq!(new.annotation.as_deref(), Some("a < b & c"));
    assert_eq!(new.disks.len(), 4);
}

#[tokio::test]
async fn a_vm_that_is_not_there_is_told_as_such() {
    let lab = start();
    let client = lab.client().await;
    let gone = VmRef::new("vm-99999");
    let spec = SnapshotSpec {
        name: "n".into(),
        description: "d".into(),
        quiesce: Quiesce::None,
    };
    let errors = [
        client.vm(&gone).await.map(drop),
        client.snapshots(&gone).await.map(drop),
        client.create_snapshot(&gone, &spec).await.map(drop),
        client.set_change_tracking(&gone, true, PATIENCE).await,
        client.open_data_access(&gone).await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("gone");
        assert_eq!(error.fault().reason, Reason::VmNotFound, "{error:?}");
    }
}

#[tokio::test]
async fn a_snapshot_is_made_read_and_removed() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let spec = SnapshotSpec {
        name: "stillwater <1>".into(),
        description: "lease & owner".into(),
        quiesce: Quiesce::FileSystem { timeout_minutes: 5 },
    };
    let made = client
        .take_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("a snapshot");
    let listed = client.snapshots(&vm).await.expect("snapshots");
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].snapshot, listed[0].quiesced), (&made, true));
    assert!(listed[0].is_current && listed[0].created().is_some());
    assert_eq!(
        (listed[0].name.as_str(), listed[0].description.as_str()),
        ("stillwater <1>", "lease & owner")
    );
    let frozen = client
        .snapshot_config(&made)
        .await
        .expect("its configuration");
    assert_eq!(frozen.disks.len(), 1);
    assert!(frozen.disks[0].change_id.is_some());
    assert!(frozen.config_xml.contains("VirtualDisk"));
    // The frozen file is not the one that the VM writes now.
    let now = client.vm(&vm).await.expect("a vm");
    assert_ne!(now.disks[0].file_name, frozen.disks[0].file_name);

    client
        .discard_snapshot(&made, PATIENCE)
        .await
        .expect("removed");
    assert_eq!(client.snapshots(&vm).await.expect("snapshots"), []);
    client
        .discard_snapshot(&made, PATIENCE)
        .await
        .expect("gone is removed");
    assert_eq!(
        client.remove_snapshot(&made, true).await.expect("gone"),
        None
    );
    assert!(
        client
            .snapshot_config(&made)
            .await
            .expect_err("gone")
            .is(&FaultKind::ManagedObjectNotFound)
    );
}

#[tokio::test]
async fn a_windows_snapshot_and_a_snapshot_below_another_are_made() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    lab.control("POST", "/vm/web/snapshot", json!({"name": "theirs"}));
    let quiesce = Quiesce::Windows(WindowsQuiesce::new(5, VssContext::Auto));
    let spec = SnapshotSpec {
        name: "ours".into(),
        description: "d".into(),
        quiesce,
    };
    let ours = client
        .take_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("a snapshot");
    let listed = client.snapshots(&vm).await.expect("snapshots");
    let rows: Vec<_> = listed
        .iter()
        .map(|s| (s.name.as_str(), s.parent.is_some()))
        .collect();
    assert_eq!(rows, [("theirs", false), ("ours", true)]);
    client
        .discard_snapshot(&ours, PATIENCE)
        .await
        .expect("removed");
    let left = client.snapshots(&vm).await.expect("snapshots");
    assert_eq!(
        left.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["theirs"]
    );
}

/// Writes `bytes` of noise into the VM's disk, as its guest would.
fn write_live(lab: &Simulator, offset: u64, bytes: usize, seed: u64) {
    let file = OpenOptions::new()
        .write(true)
        .open(lab.live_disk("web", 0))
        .expect("a disk");
    file.write_all_at(&simulator::noise(bytes, seed), offset)
        .expect("writes");
}

#[tokio::test]
async fn changed_areas_come_in_pages_and_cover_what_was_written() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let first = snapshot(&client, &vm, "first").await;
    let disk = client
        .snapshot_config(&first)
        .await
        .expect("a configuration")
        .disks
        .remove(0);
    let (key, length) = (disk.key, disk.capacity_bytes);
    let areas = client
        .changed_areas(&vm, &first, key, Since::Beginning, length)
        .await;
    let map = areas.expect("a map");
    assert!(map.oddities.is_none() && map.page_count >= 8, "{map:?}");
    let allocated = map.areas;
    assert!(
        allocated.len() > 10 && allocated.bytes() < length,
        "{allocated:?}"
    );
    assert!(lab.calls("QueryChangedDiskAreas") >= 8);
    client
        .discard_snapshot(&first, PATIENCE)
        .await
        .expect("removed");

    let written = [(0, 5000), (3 * MIB + 700, 70_000), (8 * MIB - 100, 100)];
    for (seed, (offset, bytes)) in (10..).zip(written) {
        write_live(&lab, offset, bytes, seed);
    }
    let second = snapshot(&client, &vm, "second").await;
    let before = disk.change_id.expect("tracked");
    let since = Since::Change(&before);
    let changed = client
        .changed_areas(&vm, &second, key, since, length)
        .await
        .expect("a map");
    assert!(changed.empty_page_count > 0 && changed.oddities.is_none());
    let changed = changed.areas;
    let wanted = written.map(|(offset, bytes)| Extent::new(offset, bytes as u64));
    let wanted = ExtentSet::collect(wanted, length);
    assert_eq!(changed.union(&wanted), changed, "{changed:?}");
    assert!(changed.bytes() < MIB, "{changed:?}");
    let now = client
        .snapshot_config(&second)
        .await
        .expect("a configuration")
        .disks
        .remove(0);
    assert!(now.change_id.expect("tracked").same_tracking(&before));
}

#[tokio::test]
async fn a_change_id_of_a_tracking_that_was_reset_is_a_fault_of_its_own() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let first = snapshot(&client, &vm, "first").await;
    let disk = client
        .snapshot_config(&first)
        .await
        .expect("a configuration")
        .disks
        .remove(0);
    client
        .discard_snapshot(&first, PATIENCE)
        .await
        .expect("removed");
    lab.control("POST", "/vm/web/reset-tracking", Value::Null);
    let second = snapshot(&client, &vm, "second").await;
    let before = disk.change_id.expect("tracked");
    let error = client
        .changed_areas(
            &vm,
            &second,
            disk.key,
            Since::Change(&before),
            disk.capacity_bytes,
        )
        .await
        .expect_err("reset");
    assert!(error.is(&FaultKind::FileFault), "{error:?}");
    assert!(matches!(error, Error::TrackingLost { .. }), "{error:?}");
    let now = client
        .snapshot_config(&second)
        .await
        .expect("a configuration")
        .disks
        .remove(0);
    assert!(!now.change_id.expect("tracked").same_tracking(&before));
}

#[tokio::test]
async fn change_tracking_is_turned_on_and_off() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    for on in [false, true] {
        client
            .set_change_tracking(&vm, on, PATIENCE)
            .await
            .expect("set");
        assert_eq!(client.vm(&vm).await.expect("a vm").cbt_enabled, on);
    }
}

#[tokio::test]
async fn a_session_that_ended_is_renewed_by_the_call_that_meets_it() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    lab.control("POST", "/sessions/expire", Value::Null);
    // A call that changes something is sent again: the server said that it did not run.
    let made = snapshot(&client, &vm, "after").await;
    lab.control("POST", "/sessions/expire", Value::Null);
    client.keep_alive().await.expect("alive");
    lab.control("POST", "/sessions/expire", Value::Null);
    client.inventory().await.expect("an inventory");
    lab.control("POST", "/sessions/expire", Value::Null);
    client
        .discard_snapshot(&made, PATIENCE)
        .await
        .expect("removed");
    assert_eq!(lab.calls("Login"), 5);
    assert_eq!(client.snapshots(&vm).await.expect("snapshots"), []);
}

#[tokio::test]
async fn reads_are_repeated_when_the_connection_breaks() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    for kind in ["drop", "drop-after", "http-503"] {
        lab.fault("RetrievePropertiesEx", kind, 0, 2);
        client.snapshots(&vm).await.expect(kind);
    }
    lab.fault("RetrievePropertiesEx", "drop", 0, -1);
    let error = client.snapshots(&vm).await.expect_err("always");
    assert_eq!(
        error.fault().reason,
        Reason::VcenterUnreachable,
        "{error:?}"
    );
}

#[tokio::test]
async fn a_lost_answer_to_a_snapshot_is_told_and_the_snapshot_is_found() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let spec = SnapshotSpec {
        name: "n".into(),
        description: "lease-7".into(),
        quiesce: Quiesce::None,
    };
    lab.fault("CreateSnapshotEx_Task", "drop-after", 0, 1);
    let error = client
        .take_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect_err("lost");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    for task in client.snapshot_tasks(&vm).await.expect("tasks") {
        client.wait_task(&task, PATIENCE).await.expect("ends");
    }
    let listed = client.snapshots(&vm).await.expect("snapshots");
    assert_eq!(
        listed
            .iter()
            .map(|s| s.description.as_str())
            .collect::<Vec<_>>(),
        ["lease-7"]
    );
    // It was sent once.
    assert_eq!(lab.calls("CreateSnapshotEx_Task"), 1);

    lab.fault("RemoveSnapshot_Task", "drop-after", 0, 1);
    client
        .discard_snapshot(&listed[0].snapshot, PATIENCE)
        .await
        .expect("removed");
    assert_eq!(client.snapshots(&vm).await.expect("snapshots"), []);
}

#[tokio::test]
async fn a_snapshot_that_fails_tells_why() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let spec = SnapshotSpec {
        name: "n".into(),
        description: "d".into(),
        quiesce: Quiesce::None,
    };
    for (kind, fault, reason) in [
        (
            "fault:InvalidPowerState",
            FaultKind::InvalidPowerState,
            Reason::SnapshotFailed,
        ),
        (
            "task-error:FilesystemQuiesceFault",
            FaultKind::FilesystemQuiesce,
            Reason::SnapshotFailed,
        ),
        (
            "task-error:ApplicationQuiesceFault",
            FaultKind::ApplicationQuiesce,
            Reason::SnapshotFailed,
        ),
        (
            "task-error:NoDiskSpace",
            FaultKind::NoDiskSpace,
            Reason::DatastoreFull,
        ),
        (
            "fault:NoPermission",
            FaultKind::NoPermission {
                privilege: Some("System.Read".into()),
            },
            Reason::VcenterPrivilegeMissing,
        ),
        (
            "task-error:TooManySnapshotLevels",
            FaultKind::Snapshot("TooManySnapshotLevels".into()),
            Reason::SnapshotFailed,
        ),
    ] {
        lab.fault("CreateSnapshotEx_Task", kind, 0, 1);
        let error = client
            .take_snapshot(&vm, &spec, PATIENCE)
            .await
            .expect_err(kind);
        assert!(matches!(error, Error::SnapshotFailed { .. }), "{error:?}");
        assert!(error.is(&fault), "{error:?}");
        assert_eq!(error.fault().reason, reason, "{error:?}");
    }
    assert_eq!(client.snapshots(&vm).await.expect("snapshots"), []);
}

#[tokio::test]
async fn consolidation_is_seen_done_and_refused() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let needed = || async { client.vm(&vm).await.expect("a vm").consolidation_needed };
    lab.control(
        "POST",
        "/vm/web/consolidation-needed",
        json!({"needed": true, "stuck": true}),
    );
    assert!(needed().await);
    let task = client.consolidate(&vm).await.expect("a task");
    let error = client.wait_task(&task, PATIENCE).await.expect_err("stuck");
    assert!(error.is(&FaultKind::FileLocked), "{error:?}");
    assert_eq!(error.fault().reason, Reason::VcenterTaskFailed);
    lab.control(
        "POST",
        "/vm/web/consolidation-needed",
        json!({"needed": true, "stuck": false}),
    );
    let task = client.consolidate(&vm).await.expect("a task");
    client.wait_task(&task, PATIENCE).await.expect("done");
    assert!(!needed().await);
}

#[tokio::test]
async fn a_task_that_cannot_be_looked_at_makes_one_snapshot_when_it_is_asked_for_again() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    lab.control("POST", "/vm/web/tasks", json!({"create_seconds": 0.5}));
    let spec = SnapshotSpec {
        name: "ours".into(),
        description: "lease of run 1".into(),
        quiesce: Quiesce::None,
    };
    let fault = json!({"method": "RetrievePropertiesEx", "kind": "fault:HostCommunication"});
    lab.control("POST", "/faults", fault);
    let error = client.take_snapshot(&vm, &spec, PATIENCE).await;
    let error = error.expect_err("the task could not be seen");
    assert!(matches!(error, Error::Fault { .. }), "{error:?}");
    assert_eq!(error.rung_outcome(), RungOutcome::Busy);
    let again = client.ensure_snapshot(&vm, &spec, PATIENCE).await;
    assert!(again.expect("a snapshot").was_found);
    assert_eq!(client.snapshots(&vm).await.expect("snapshots").len(), 1);
}

#[tokio::test]
async fn deltas_that_no_snapshot_explains_are_seen_though_nobody_tells_of_them() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let seen = || async { client.unmerged(&vm).await.expect("an answer") };
    assert!(seen().await.is_none());
    lab.control("POST", "/vm/web/snapshot", json!({"name": "foreign"}));
    assert!(seen().await.is_none(), "a snapshot explains its delta");
    let orphan = json!({"needed": false, "deltas": true});
    lab.control("POST", "/vm/web/consolidation-needed", orphan);
    let found = seen().await;
    assert_eq!((found.is_told, found.deltas), (false, 1));
    let task = client.consolidate(&vm).await.expect("a task");
    client.wait_task(&task, PATIENCE).await.expect("done");
    assert!(seen().await.is_none());
    assert_eq!(client.snapshots(&vm).await.expect("snapshots").len(), 1);
}

#[tokio::test]
async fn a_removal_that_another_began_is_waited_for() {
    let lab = start();
    let vm = find(&lab.client().await, WEB).await.vm;
    let (first, second) = (lab.client().await, lab.client().await);
    let made = snapshot(&first, &vm, "slow to go").await;
    lab.control("POST", "/vm/web/tasks", json!({"remove_seconds": 0.6}));
    let begun = first.remove_snapshot(&made, true).await.expect("a task");
    assert!(begun.is_some());
    assert_eq!(second.snapshots(&vm).await.expect("snapshots").len(), 1);
    let settled = second.settle_snapshot_tasks(&vm, PATIENCE).await;
    settled.expect("it ended");
    assert_eq!(second.snapshots(&vm).await.expect("snapshots"), []);
}

#[tokio::test]
async fn a_vm_is_made_from_a_saved_configuration() {
    let lab = Simulator::start_with(
        |dir| {
            let disks = [("a", 4 * MIB), ("b", 6 * MIB + 512)];
            let disks = disks.map(|(name, length)| json!({"file": image(dir, name, length, 9)}));
            json!([{"name": "web", "disks": disks, "cpus": 4, "memory_mb": 3072,
                "firmware": "efi", "cbt": true}])
        },
        &[],
    );
    let client = lab.client().await;
    let old = find(&client, WEB).await.vm;
    let made = snapshot(&client, &old, "saved").await;
    let saved = client
        .snapshot_config(&made)
        .await
        .expect("a configuration");
    let new = NewVm::from_config(&saved.config_xml, "web restored").expect("usable");
    let spec = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    let placement = client.find_placement(&spec).await.expect("a place");
    let created = client
        .create_vm(&new, &placement, PATIENCE)
        .await
        .expect("a vm");

    let sizes: Vec<_> = created
        .disks
        .iter()
        .map(|disk| disk.capacity_bytes)
        .collect();
    assert_eq!(sizes, [4 * MIB, 6 * MIB + 512]);
    let keys: Vec<_> = created.disks.iter().map(|disk| disk.source_key).collect();
    assert_eq!(
        keys,
        saved.disks.iter().map(|disk| disk.key).collect::<Vec<_>>()
    );
    let vm = client.vm(&created.vm).await.expect("a vm");
    assert_eq!(vm.path, "/DC0/vm/web restored");
    assert_eq!(
        (vm.power, vm.cbt_enabled, vm.snapshots.len()),
        (Power::Off, false, 0)
    );
    let was = client.vm(&old).await.expect("the old one");
    assert_ne!(vm.uuid, was.uuid);
    assert_ne!(vm.instance_uuid, was.instance_uuid);
    let again = NewVm::from_config(&vm.config_xml, "web restored").expect("usable");
    assert_eq!((again.cpus, again.memory_mib), (4, 3072));
    assert_eq!(again.firmware.as_deref(), Some("efi"));
    assert_eq!(again.nics.len(), new.nics.len());
    for (disk, made) in vm.disks.iter().zip(&created.disks) {
        assert_eq!(disk.file_name, made.file_name);
        assert!(
            disk.file_name.starts_with("[lab-ds] web restored/"),
            "{}",
            disk.file_name
        );
    }

    let error = client
        .create_vm(&new, &placement, PATIENCE)
        .await
        .expect_err("twice");
    assert_eq!(error.fault().reason, Reason::VmExists, "{error:?}");
    client.power_on(&created.vm, PATIENCE).await.expect("on");
    client.power_off(&created.vm, PATIENCE).await.expect("off");
    client
        .destroy_vm(&created.vm, PATIENCE)
        .await
        .expect("destroyed");
    let error = client.vm(&created.vm).await.expect_err("gone");
    assert_eq!(error.fault().reason, Reason::VmNotFound);
    // The directory may remain; a name is free again all the same.
    client
        .create_vm(&new, &placement, PATIENCE)
        .await
        .expect("a vm again");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_named() {
    let lab = Simulator::start(json!([]));
    let client = lab.client().await;
    let good = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    for (spec, name) in [
        (
            PlacementSpec {
                datastore: "none".into(),
                ..good.clone()
            },
            "none",
        ),
        (
            PlacementSpec {
                folder: Some("nowhere".into()),
                ..good.clone()
            },
            "nowhere",
        ),
        (
            PlacementSpec {
                host: Some("nobody".into()),
                ..good.clone()
            },
            "nobody",
        ),
        (
            PlacementSpec {
                pool: Some("puddle".into()),
                ..good.clone()
            },
            "puddle",
        ),
    ] {
        let fault = client.find_placement(&spec).await.expect_err(name).fault();
        assert_eq!(fault.reason, Reason::PlacementNotFound);
        assert!(fault.message.contains(name), "{}", fault.message);
    }
    let placement = client.find_placement(&good).await.expect("a place");
    assert_eq!(
        (
            placement.datacenter.as_str(),
            placement.folder_path.as_str()
        ),
        ("/DC0", "/DC0/vm")
    );
    let by_name = PlacementSpec {
        host: Some(placement.host_name.clone()),
        ..good
    };
    assert_eq!(
        client
            .find_placement(&by_name)
            .await
            .expect("the same place"),
        placement
    );
}

#[tokio::test]
async fn a_data_access_is_a_session_of_its_own() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let one = client.open_data_access(&vm).await.expect("access");
    let two = client.open_data_access(&vm).await.expect("access");
    assert_eq!(one.datacenter, "/DC0");
    assert_ne!(one.cookie.expose_secret(), two.cookie.expose_secret());
    assert!(!format!("{one:?}").contains(one.cookie.expose_secret()));
    client.keep_data_access_alive(&one).await.expect("alive");
    client.close_data_access(&one).await.expect("closed");
    client.close_data_access(&one).await.expect("closed before");
    client.close_data_access(&two).await.expect("closed");
    let error = client.keep_data_access_alive(&one).await.expect_err("over");
    assert!(error.is(&FaultKind::NotAuthenticated), "{error:?}");
    client.keep_alive().await.expect("ours goes on");
    assert_eq!(lab.calls("Login"), 3);
}

#[tokio::test]
async fn a_ticket_names_a_host_and_how_it_is_known() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let key = client.vm(&vm).await.expect("a vm").disks[0].key;
    let all = [
        NfcAccess::ReadVm,
        NfcAccess::ReadDisk { key },
        NfcAccess::WriteDisk { key },
    ];
    let mut sessions = Vec::new();
    for access in all {
        let ticket = client
            .nfc_ticket(&vm, access, None)
            .await
            .expect("a ticket");
        assert!(!ticket.host.is_empty() && ticket.service == "vpxa-nfc");
        assert!(
            matches!(ticket.identity, HostIdentity::Sha1(_)),
            "{ticket:?}"
        );
        sessions.push(ticket.session_id.expose_secret().to_owned());
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
    let unknown = NfcAccess::ReadDisk { key: 1 };
    let error = client
        .nfc_ticket(&vm, unknown, None)
        .await
        .expect_err("no disk");
    assert!(error.is(&FaultKind::InvalidArgument), "{error:?}");
    let gone = VmRef::new("vm-99999");
    let error = client.nfc_ticket(&gone, NfcAccess::ReadVm, None).await;
    assert!(matches!(error, Err(Error::VmNotFound { .. })), "{error:?}");
}

#[tokio::test]
async fn a_borrowed_session_is_used_and_neither_renewed_nor_ended() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let access = client.open_data_access(&vm).await.expect("access");
    let borrowed = Client::borrow(&access).await.expect("borrows");
    let ticket = borrowed.nfc_ticket(&vm, NfcAccess::ReadVm, None).await;
    ticket.expect("a ticket");
    borrowed.logout().await.expect("leaves");
    client.keep_data_access_alive(&access).await.expect("alive");

    let again = Client::borrow(&access).await.expect("borrows");
    let logins = lab.calls("Login");
    client.close_data_access(&access).await.expect("closes");
    let error = again.vm(&vm).await.expect_err("over");
    assert!(matches!(error, Error::SessionOver), "{error:?}");
    assert_eq!(error.fault().reason, Reason::VcenterUnreachable);
    assert_eq!(lab.calls("Login"), logins);
}

#[tokio::test]
async fn an_administrator_lacks_no_privilege() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    assert!(!client.own_name().await.expect("a name").is_empty());
    let entities = [Entity::Root, Entity::Vm(vm)];
    let groups = PrivilegeGroup::ALL;
    let missing = client.missing_privileges(&entities, &groups).await;
    let missing = missing.expect("rights");
    // The simulator knows no tags, so that it lists no privilege of theirs.
    let needed: Vec<_> = missing.iter().filter(|m| !m.is_optional).collect();
    assert!(needed.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn small_files_of_a_vm_are_fetched_within_a_bound() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let vm = client.vm(&vm).await.expect("a vm");
    let nvram = client.nvram(&vm).await.expect("fetches").expect("a file");
    assert!(!nvram.is_empty());
    let vmx = vm.facts.configuration_file.clone().expect("a path");
    let whole = client.datastore_file(&vm.datacenter, &vmx, 1 << 20).await;
    let whole = whole.expect("fetches");
    let small = client
        .datastore_file(&vm.datacenter, &vmx, whole.len() - 1)
        .await;
    assert!(
        matches!(small, Err(Error::FileTooLarge { .. })),
        "{small:?}"
    );
    let exact = client
        .datastore_file(&vm.datacenter, &vmx, whole.len())
        .await;
    assert_eq!(exact.expect("fits"), whole);

    let end = client.datastore_file_tail(&vm.datacenter, &vmx, 7).await;
    let end = end.expect("fetches");
    assert_eq!(
        (end.bytes.as_slice(), end.is_truncated),
        (&whole[whole.len() - 7..], true)
    );
    let all = client
        .datastore_file_tail(&vm.datacenter, &vmx, 1 << 20)
        .await;
    let all = all.expect("fetches");
    assert_eq!((all.bytes, all.is_truncated), (whole.clone(), false));

    lab.fault("folder-get", "status-200", 0, 1);
    let end = client.datastore_file_tail(&vm.datacenter, &vmx, 7).await;
    assert_eq!(end.expect("fetches").bytes, whole[whole.len() - 7..]);
    lab.fault("folder-get", "wrong-range", 0, 1);
    let wrong = client.datastore_file_tail(&vm.datacenter, &vmx, 7).await;
    assert!(
        matches!(wrong, Err(Error::FileTransfer { .. })),
        "{wrong:?}"
    );
    lab.fault("folder-get", "http-503", 0, 1);
    lab.fault("folder-get", "expire-session", 0, 1);
    let again = client.datastore_file(&vm.datacenter, &vmx, 1 << 20).await;
    assert_eq!(again.expect("fetches"), whole);
    lab.fault("folder-get", "short", 0, 1);
    let short = client.datastore_file(&vm.datacenter, &vmx, 1 << 20).await;
    assert!(
        matches!(short, Err(Error::FileTransfer { .. })),
        "{short:?}"
    );
    let none = client
        .datastore_file(&vm.datacenter, "[lab-ds] web/none", 9)
        .await;
    assert!(matches!(none, Err(Error::FileMissing { .. })), "{none:?}");
}

fn with_proxy(dir: &Path) -> Value {
    let disk = |name: &str, seed| json!({"file": image(dir, name, 4 * MIB, seed)});
    json!([
        {"name": "web", "disks": [disk("a", 1), disk("b", 2)]},
        {"name": "proxy", "proxy": true, "disks": [{"mib": 16}]},
    ])
}

/// A snapshot's disks, to be attached.
async fn frozen(client: &Client, vm: &VmRef) -> Vec<AttachDisk> {
    let snapshot = snapshot(client, vm, "attach").await;
    let config = client.snapshot_config(&snapshot).await.expect("a config");
    let disks = config.disks.into_iter().map(|disk| AttachDisk {
        file_name: disk.file_name,
        capacity_bytes: disk.capacity_bytes,
    });
    disks.collect()
}

#[tokio::test]
async fn disks_are_attached_in_one_step_found_and_detached() {
    let lab = Simulator::start_with(with_proxy, &[]);
    let client = lab.client().await;
    let web = find(&client, WEB).await.vm;
    let proxy = find(&client, "/DC0/vm/proxy").await;
    let found = client
        .vms_by_bios_uuid(proxy.uuid.as_deref().expect("a uuid"))
        .await;
    assert_eq!(
        found.expect("finds").as_slice(),
        std::slice::from_ref(&proxy.vm)
    );
    let none = client
        .vms_by_bios_uuid("00000000-0000-0000-0000-000000000001")
        .await;
    assert_eq!(none.expect("finds"), []);

    let disks = frozen(&client, &web).await;
    let own = client.attached_disks(&proxy.vm).await.expect("disks");
    assert!(own.len() == 1 && own[0].is_at_home);
    let attached = client
        .attach_disks(&proxy.vm, &disks, AttachMode::Read, PATIENCE)
        .await
        .expect("attaches");
    assert_eq!(lab.calls("ReconfigVM_Task"), 1);
    for (disk, asked) in attached.iter().zip(&disks) {
        assert_eq!(disk.file_name, asked.file_name);
        assert_eq!(disk.mode, "independent_nonpersistent");
        assert!(disk.pci_slot.is_some() && !disk.is_at_home);
        assert_ne!(disk.controller_key, own[0].controller_key);
    }
    assert_ne!(attached[0].unit, attached[1].unit);

    let all: Vec<_> = attached.iter().map(|disk| disk.detachment()).collect();
    // A device that is no longer what was attached is left alone.
    let wrong = DetachDisk {
        key: own[0].key,
        ..attached[0].detachment()
    };
    let error = client.detach_disks(&proxy.vm, &[wrong], PATIENCE).await;
    assert!(matches!(error, Err(Error::NotOurDisk { .. })), "{error:?}");
    client
        .detach_disks(&proxy.vm, &all, PATIENCE)
        .await
        .expect("detaches");
    client
        .detach_disks(&proxy.vm, &all, PATIENCE)
        .await
        .expect("gone is detached");
    let left = client.attached_disks(&proxy.vm).await.expect("disks");
    assert_eq!(left, own);
    // The files are still there: they can be attached again, now that the controller is.
    let again = client
        .attach_disks(&proxy.vm, &disks, AttachMode::Read, PATIENCE)
        .await;
    assert_eq!(
        again.expect("attaches")[0].controller_key,
        attached[0].controller_key
    );
}

#[tokio::test]
async fn lost_answers_of_attaching_and_detaching_are_read_from_the_vm() {
    let lab = Simulator::start_with(with_proxy, &[]);
    let client = lab.client().await;
    let web = find(&client, WEB).await.vm;
    let proxy = find(&client, "/DC0/vm/proxy").await.vm;
    let disks = frozen(&client, &web).await;
    lab.fault("ReconfigVM_Task", "fault:TaskInProgress", 0, 1);
    lab.fault("ReconfigVM_Task", "drop-after", 0, 1);
    let attached = client
        .attach_disks(&proxy, &disks, AttachMode::Read, PATIENCE)
        .await;
    let attached = attached.expect("found after all");
    assert_eq!(attached.len(), 2);
    let attached: Vec<_> = attached.iter().map(|disk| disk.detachment()).collect();
    lab.fault("ReconfigVM_Task", "drop-after", 0, 1);
    client
        .detach_disks(&proxy, &attached, PATIENCE)
        .await
        .expect("detaches");
    lab.fault("ReconfigVM_Task", "drop", 0, 1);
    let error = client
        .attach_disks(&proxy, &disks, AttachMode::Read, PATIENCE)
        .await;
    assert!(
        matches!(error, Err(Error::OutcomeUnknown { .. })),
        "{error:?}"
    );
    let left = client.attached_disks(&proxy).await.expect("disks");
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_snapshot_is_made_once_whatever_becomes_of_the_answer() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let spec = SnapshotSpec {
        name: "stillwater".into(),
        description: "run 7".into(),
        quiesce: Quiesce::None,
    };
    lab.fault("CreateSnapshotEx_Task", "drop-after", 0, 1);
    let first = client
        .ensure_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("there");
    assert!(first.was_found);
    let second = client
        .ensure_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("there");
    assert_eq!((&second.info, second.was_found), (&first.info, true));
    assert_eq!(lab.calls("CreateSnapshotEx_Task"), 1);
    let other = SnapshotSpec {
        description: "run 8".into(),
        ..spec
    };
    let third = client
        .ensure_snapshot(&vm, &other, PATIENCE)
        .await
        .expect("made");
    assert!(!third.was_found && third.info.is_current);
    assert_eq!(client.snapshots(&vm).await.expect("snapshots").len(), 2);
    lab.fault("CreateSnapshotEx_Task", "drop", 0, 1);
    let never = SnapshotSpec {
        description: "run 9".into(),
        ..other
    };
    let error = client.ensure_snapshot(&vm, &never, PATIENCE).await;
    assert!(
        matches!(error, Err(Error::OutcomeUnknown { .. })),
        "{error:?}"
    );
    assert_eq!(client.snapshots(&vm).await.expect("snapshots").len(), 2);
}

#[tokio::test]
async fn datastores_and_hosts_tell_what_can_reach_what() {
    let lab = start();
    let client = lab.client().await;
    let datastores = client.datastores().await.expect("datastores");
    let first = datastores.first().expect("a datastore");
    assert_eq!(first.name, "lab-ds");
    assert!(first.free_bytes <= first.capacity_bytes && first.is_accessible);
    let one = client
        .datastore(&first.datastore)
        .await
        .expect("a datastore");
    assert_eq!(&one, first);
    let hosts = client.hosts().await.expect("hosts");
    assert_eq!(hosts.len(), 2);
    // The simulator tells a datastore of one of its hosts only.
    let known = |host: &HostRef| hosts.iter().any(|facts| facts.host == *host);
    assert!(!first.hosts.is_empty() && first.hosts.iter().all(known));
    for host in &hosts {
        assert_eq!(host.cluster.as_deref(), Some("DC0_C0"));
        assert_eq!(host.connection, HostConnection::Connected);
        assert!(!host.version.is_empty() && !host.build.is_empty());
        assert!(host.datastores.contains(&first.datastore));
    }
    let web = find(&client, WEB).await.vm;
    let seat = client.seat(&web).await.expect("a seat").expect("a host");
    let host = hosts.iter().find(|host| host.host == seat.host);
    let host = host.expect("one of the hosts");
    let build = seat.build.map(|build| build.to_string());
    assert_eq!(
        (&seat.host_name, &seat.version),
        (&host.name, &host.version)
    );
    assert_eq!(build.as_ref(), Some(&host.build));
    assert_eq!(seat.datastores, host.datastores);
    assert!(!seat.is_on_vsan);
}

#[tokio::test]
async fn what_is_around_a_vm_is_told_and_what_cannot_be_is_told_too() {
    let lab = Simulator::start_with(
        |dir| json!([{"name": "db", "folder": "shop/eu", "disks": [{"file": image(dir, "a", MIB, 1)}]}]),
        &[],
    );
    let client = lab.client().await;
    let vm = find(&client, "/DC0/vm/shop/eu/db").await.vm;
    let around = client.vm_surroundings(&vm).await.expect("surroundings");
    assert_eq!(around.folder.as_deref(), Some("/DC0/vm/shop/eu"));
    let pool = around.resource_pool.as_deref();
    assert_eq!(pool, Some("/DC0/host/DC0_C0/Resources"));
    assert_eq!(around.cluster.as_deref(), Some("DC0_C0"));
    assert!(around.host.is_some());
    let names: Vec<_> = around.networks.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["VM Network"]);
    let missing = client
        .missing_privileges(
            &[Entity::Network(around.networks[0].network())],
            &[PrivilegeGroup::Restore],
        )
        .await;
    assert_eq!(missing.expect("rights"), []);
    let kept = serde_json::to_string(&around).expect("json");
    assert_eq!(
        serde_json::from_str::<VmSurroundings>(&kept).expect("reads"),
        around
    );
}

fn guest_login(password: &str) -> GuestLogin {
    GuestLogin {
        username: "root".into(),
        password: SecretString::from(password.to_owned()),
    }
}

fn in_guest(script: &str) -> GuestCommand {
    GuestCommand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("KEY".into(), SecretString::from("value".to_owned()))],
        working_directory: Some("/tmp".into()),
        input: Some(SecretString::from("typed".to_owned())),
        timeout: PATIENCE,
        output_limit: 1024,
    }
}

#[tokio::test]
async fn a_program_runs_in_the_labs_guest_and_its_files_go() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let guest = client
        .guest(&vm, guest_login("guest"))
        .await
        .expect("a guest");
    assert_eq!(guest.family(), GuestFamily::Linux);
    let outcome = guest
        .run(&in_guest("cat; echo \" $KEY\"; pwd >&2; exit 5"))
        .await
        .expect("runs");
    assert_eq!(outcome.exit, GuestExit::Code(5));
    assert_eq!(outcome.stdout.text(), "typed value\n");
    assert_eq!(outcome.stderr.text(), "/tmp\n");
    assert_eq!(outcome.left_behind, [""; 0]);
    let listed = guest.run(&in_guest("ls /tmp")).await.expect("runs");
    // Only the files of this very run are there, without its script.
    assert!(
        !listed.stdout.text().contains(".sh"),
        "{}",
        listed.stdout.text()
    );
    assert_eq!(listed.stdout.text().lines().count(), 3);

    guest.put_file("/tmp/kept", b"bytes").await.expect("puts");
    let kept = guest.fetch_file("/tmp/kept", 3).await.expect("fetches");
    assert_eq!((kept.text().as_str(), kept.is_truncated), ("byt", true));
    guest.delete_file("/tmp/kept").await.expect("deletes");
    let gone = guest.fetch_file("/tmp/kept", 3).await;
    assert!(matches!(gone, Err(Error::FileMissing { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_guest_that_cannot_be_worked_in_says_why() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let wrong = client
        .guest(&vm, guest_login("wrong"))
        .await
        .expect("a guest");
    let error = wrong.run(&in_guest("exit 0")).await.expect_err("refused");
    assert_eq!(error.fault().reason, Reason::GuestLoginRefused, "{error:?}");
    let right = client
        .guest(&vm, guest_login("guest"))
        .await
        .expect("a guest");
    for (change, words) in [
        (json!({"operations": "off"}), "OperationDisabledByGuest"),
        (
            json!({"operations": "on", "tools": "absent"}),
            "ToolsUnavailable",
        ),
    ] {
        lab.control("POST", "/vm/web/guest", change);
        let error = right.run(&in_guest("exit 0")).await.expect_err("refused");
        assert_eq!(error.fault().reason, Reason::GuestUnavailable, "{error:?}");
        assert!(
            error.is(&FaultKind::GuestUnavailable(words.into())),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_start_in_the_labs_guest_whose_answer_is_lost_runs_once() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let guest = client
        .guest(&vm, guest_login("guest"))
        .await
        .expect("a guest");
    lab.fault("StartProgramInGuest", "drop-after", 0, 1);
    let outcome = guest
        .run(&in_guest("echo x >> /root/count"))
        .await
        .expect("runs");
    assert_eq!(
        outcome.exit,
        GuestExit::Code(0),
        "{}",
        outcome.stderr.text()
    );
    let count = guest.run(&in_guest("cat /root/count")).await.expect("runs");
    assert_eq!(count.stdout.text(), "x\n");
}

#[tokio::test]
async fn the_manifest_of_a_freeze_is_fetched_while_its_snapshot_is_there() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let spec = SnapshotSpec {
        name: "ours".into(),
        description: "d".into(),
        quiesce: Quiesce::FileSystem { timeout_minutes: 5 },
    };
    let made = client
        .ensure_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("a snapshot");
    let read = client.vm(&vm).await.expect("a vm");
    let manifest = client.backup_manifest(&read, &made.info).await;
    let manifest = manifest.expect("fetches").expect("a manifest");
    let text = String::from_utf8(manifest).expect("xml");
    assert!(text.contains('<'), "{text}");
    let log = client.log_tail(&read, 4096).await.expect("fetches");
    let log = log.expect("a log").text();
    assert!(log.contains("Checkpoint_Unstun"), "{log}");
    client
        .discard_snapshot(&made.info.snapshot, PATIENCE)
        .await
        .expect("removed");
    let gone = client.backup_manifest(&read, &made.info).await;
    assert!(matches!(gone, Err(Error::FileMissing { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_failing_guest_fails_the_rung_and_not_the_ladder() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    let mut spec = SnapshotSpec {
        name: "ours".into(),
        description: "first rung".into(),
        quiesce: Quiesce::FileSystem { timeout_minutes: 5 },
    };
    lab.control("POST", "/vm/web/guest", json!({"freeze_script": "fails"}));
    let error = client
        .ensure_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect_err("fails");
    assert!(error.is(&FaultKind::ApplicationQuiesce), "{error:?}");
    assert_eq!(error.rung_outcome(), RungOutcome::Failed);
    spec.quiesce = Quiesce::None;
    let made = client
        .ensure_snapshot(&vm, &spec, PATIENCE)
        .await
        .expect("made");
    assert!(!made.info.quiesced);
    assert_eq!(client.snapshots(&vm).await.expect("snapshots").len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_takes_too_long_is_cancelled() {
    let lab = start();
    let client = lab.client().await;
    let vm = find(&client, WEB).await.vm;
    lab.control("POST", "/vm/web/guest", json!({"freeze_seconds": 30}));
    let spec = SnapshotSpec {
        name: "slow".into(),
        description: "d".into(),
        quiesce: Quiesce::FileSystem { timeout_minutes: 5 },
    };
    let task = client.create_snapshot(&vm, &spec).await.expect("starts");
    let running = client.snapshot_tasks(&vm).await.expect("tasks");
    assert_eq!(running.as_slice(), std::slice::from_ref(&task));
    client.cancel_task(&task).await.expect("cancels");
    let error = client
        .wait_task(&task, PATIENCE)
        .await
        .expect_err("cancelled");
    assert!(error.is(&FaultKind::Cancelled), "{error:?}");
    assert_eq!(client.snapshots(&vm).await.expect("snapshots"), []);
    client.cancel_task(&task).await.expect("has ended");
}
