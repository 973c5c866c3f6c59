//! Our account with what the table of privileges names and nothing else, against the lab's checks.

#[path = "support/simulator.rs"]
mod simulator;

use std::collections::BTreeSet;
use std::path::Path;

use secrecy::SecretString;
use serde_json::{Value, json};
use simulator::{MIB, PATIENCE, Simulator, find, image};
use stillwater_types::Reason;
use stillwater_vsphere::{
    AttachDisk, AttachMode, Client, Endpoint, Entity, Error, GuestCommand, GuestExit, GuestLogin,
    NewVm, NfcAccess, PlacementSpec, PrivilegeGroup, Quiesce, Since, SnapshotSpec, Told,
};

fn vms(dir: &Path) -> Value {
    json!([
        {"name": "web", "disks": [{"file": image(dir, "web", 2 * MIB, 1)}]},
        {"name": "proxy", "proxy": true, "disks": [{"mib": 16}]},
    ])
}

fn start() -> Simulator {
    Simulator::start_with(vms, &["--enforce-privileges"])
}

async fn backup_account(lab: &Simulator) -> Client {
    let endpoint = Endpoint {
        username: lab.text("backup_user").into(),
        password: SecretString::from(lab.text("backup_password").to_owned()),
        ..lab.endpoint()
    };
    Client::connect(endpoint).await.expect("connects")
}

/// Every privilege of the table that something cannot be done without.
fn needed() -> BTreeSet<&'static str> {
    let all = PrivilegeGroup::ALL
        .into_iter()
        .flat_map(PrivilegeGroup::needs);
    all.filter(|need| !need.is_optional)
        .map(|need| need.privilege)
        .collect()
}

async fn entities(client: &Client) -> Vec<Entity> {
    let vm = find(client, "/DC0/vm/web").await.vm;
    let spec = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    let place = client.find_placement(&spec).await.expect("a placement");
    let around = client.vm_surroundings(&vm).await.expect("surroundings");
    let network = around.networks.first().expect("a network").network();
    vec![
        Entity::Root,
        Entity::Vm(vm),
        Entity::Datastore(place.datastore),
        Entity::Folder(place.folder),
        Entity::Pool(place.pool),
        Entity::Network(network),
    ]
}

#[tokio::test]
async fn without_one_privilege_just_that_one_is_named() {
    let lab = start();
    let client = backup_account(&lab).await;
    let entities = entities(&client).await;
    for privilege in needed() {
        // Without these nothing can be asked at all.
        if privilege.starts_with("System.") {
            continue;
        }
        lab.control("POST", "/role", json!({"without": [privilege]}));
        let missing = client
            .missing_privileges(&entities, &PrivilegeGroup::ALL)
            .await
            .expect("rights");
        let named: BTreeSet<_> = missing.iter().map(|missing| missing.privilege).collect();
        assert_eq!(named, BTreeSet::from([privilege]));
    }
    lab.control("POST", "/role", json!({}));
    let none = client
        .missing_privileges(&entities, &PrivilegeGroup::ALL)
        .await;
    assert_eq!(none.expect("rights"), []);
}

#[tokio::test]
async fn what_the_table_names_is_enough_for_all_that_we_do() {
    let lab = start();
    lab.control("POST", "/role", json!({"privileges": needed()}));
    let client = backup_account(&lab).await;
    client.keep_alive().await.expect("stays");
    let web = find(&client, "/DC0/vm/web").await.vm;
    let proxy = find(&client, "/DC0/vm/proxy").await.vm;
    client
        .set_change_tracking(&web, true, PATIENCE)
        .await
        .expect("tracks");
    let vm = client.vm(&web).await.expect("a vm");
    client.datastores().await.expect("datastores");
    client.hosts().await.expect("hosts");
    client.nvram(&vm).await.expect("fetches").expect("an nvram");

    let spec = SnapshotSpec {
        name: "least".into(),
        description: "least".into(),
        quiesce: Quiesce::FileSystem { timeout_minutes: 5 },
    };
    let made = client
        .ensure_snapshot(&web, &spec, PATIENCE)
        .await
        .expect("a snapshot");
    let frozen = client
        .snapshot_config(&made.info.snapshot)
        .await
        .expect("a config");
    let disk = frozen.disks.first().expect("a disk");
    let map = client
        .changed_areas(
            &web,
            &made.info.snapshot,
            disk.key,
            Since::Beginning,
            disk.capacity_bytes,
        )
        .await;
    map.expect("a map");
    let read = NfcAccess::ReadDisk { key: disk.key };
    for access in [NfcAccess::ReadVm, read] {
        client
            .nfc_ticket(&web, access, None)
            .await
            .expect("a ticket");
    }
    let asked = [AttachDisk {
        file_name: disk.file_name.clone(),
        capacity_bytes: disk.capacity_bytes,
    }];
    let attached = client
        .attach_disks(&proxy, &asked, AttachMode::Read, PATIENCE)
        .await;
    let detachment = attached
        .expect("attaches")
        .first()
        .expect("a disk")
        .detachment();
    client
        .detach_disks(&proxy, &[detachment], PATIENCE)
        .await
        .expect("detaches");
    let write = NfcAccess::WriteDisk { key: disk.key };
    client
        .nfc_ticket(&web, write, None)
        .await
        .expect("a ticket");
    client
        .discard_snapshot(&made.info.snapshot, PATIENCE)
        .await
        .expect("removes");

    let login = GuestLogin {
        username: "root".into(),
        password: SecretString::from("guest".to_owned()),
    };
    let guest = client.guest(&web, login).await.expect("a guest");
    let outcome = guest.run(&echo()).await.expect("runs");
    assert_eq!(outcome.exit, GuestExit::Code(0));

    let place = PlacementSpec {
        datastore: "lab-ds".into(),
        ..PlacementSpec::default()
    };
    let place = client.find_placement(&place).await.expect("a placement");
    let new = NewVm::from_config(&vm.config_xml, "again").expect("hardware");
    let created = client
        .create_vm(&new, &place, PATIENCE)
        .await
        .expect("creates");
    client
        .power_on(&created.vm, PATIENCE)
        .await
        .expect("starts");
}

fn echo() -> GuestCommand {
    GuestCommand {
        program: "/bin/echo".into(),
        arguments: vec!["hello".into()],
        environment: vec![],
        working_directory: None,
        input: None,
        timeout: PATIENCE,
        output_limit: 1024,
    }
}

#[tokio::test]
async fn a_call_that_is_refused_names_the_privilege() {
    let lab = start();
    let client = backup_account(&lab).await;
    let web = find(&client, "/DC0/vm/web").await.vm;
    let vm = client.vm(&web).await.expect("a vm");
    let without = |privilege: &str| {
        lab.control("POST", "/role", json!({"without": [privilege]}));
    };
    without("VirtualMachine.State.CreateSnapshot");
    let spec = SnapshotSpec {
        name: "refused".into(),
        description: "refused".into(),
        quiesce: Quiesce::None,
    };
    let error = client
        .ensure_snapshot(&web, &spec, PATIENCE)
        .await
        .expect_err("refused");
    named(&error, "VirtualMachine.State.CreateSnapshot");
    without("VirtualMachine.Provisioning.DiskRandomRead");
    let read = NfcAccess::ReadDisk {
        key: vm.disks[0].key,
    };
    let error = client
        .nfc_ticket(&web, read, None)
        .await
        .expect_err("refused");
    named(&error, "VirtualMachine.Provisioning.DiskRandomRead");
    without("Datastore.Browse");
    let error = client.nvram(&vm).await.expect_err("refused");
    named(&error, "may not read [lab-ds] web/web.nvram");
    // Tags are no reason to fail.
    without("System.Read");
    let around = client.vm_surroundings(&web).await.expect("surroundings");
    assert!(matches!(around.tags, Told::Unknown(_)), "{around:?}");
}

#[track_caller]
fn named(error: &Error, words: &str) {
    let fault = error.fault();
    assert_eq!(fault.reason, Reason::VcenterPrivilegeMissing, "{error:?}");
    assert!(fault.message.contains(words), "{}", fault.message);
}
