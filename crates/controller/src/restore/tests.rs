use stillwater_types::{NodeId, PointId, VcenterId};
use stillwater_vsphere::{
    DatastoreFacts, DatastoreKind, DatastoreRef, FolderRef, HostRef, IdentityOwner,
    MissingPrivilege, NetworkRef, NicNetwork, PoolRef, PrivilegeGroup, SiteNetwork,
};

use super::*;
use crate::point::Surroundings;
use crate::run::{Placement as Place, RestoreOptions};

const MIB: u64 = 1 << 20;
const UUID: &str = "421ffb5c-0000-0000-0000-000000000001";

/// Two disks, two cards, EFI; `more` are further devices.
fn config(more: &str) -> String {
    let disk = |key: i32, unit: i32, mib: u64| {
        format!(
            r#"<device x:type="VirtualDisk"><key>{key}</key><deviceInfo><label>Hard disk {}</label></deviceInfo><backing x:type="VirtualDiskFlatVer2BackingInfo"><fileName>[old] web/web.vmdk</fileName><diskMode>persistent</diskMode><thinProvisioned>{}</thinProvisioned></backing><controllerKey>1000</controllerKey><unitNumber>{unit}</unitNumber><capacityInBytes>{}</capacityInBytes></device>"#,
            unit + 1,
            unit == 0,
            mib * MIB
        )
    };
    let card = |key: i32, backing: &str, mac: &str| {
        format!(
            r#"<device x:type="VirtualVmxnet3"><key>{key}</key><deviceInfo><label>Network adapter {}</label></deviceInfo>{backing}<connectable><startConnected>true</startConnected></connectable><addressType>assigned</addressType><macAddress>{mac}</macAddress></device>"#,
            key - 3999
        )
    };
    let lan = r#"<backing x:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>lan</deviceName></backing>"#;
    let dmz = r#"<backing x:type="VirtualEthernetCardDistributedVirtualPortBackingInfo"><port><switchUuid>50 old</switchUuid><portgroupKey>dvportgroup-9</portgroupKey></port></backing>"#;
    format!(
        r#"<config xmlns:x="i"><guestId>debian11_64Guest</guestId><uuid>{UUID}</uuid><instanceUuid>i-1</instanceUuid><firmware>efi</firmware><hardware><numCPU>2</numCPU><memoryMB>1024</memoryMB><device x:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber></device>{}{}{}{}{more}</hardware></config>"#,
        disk(2000, 0, 4096),
        disk(2001, 1, 2048),
        card(4000, lan, "00:50:56:00:00:01"),
        card(4001, dmz, "00:50:56:00:00:02"),
    )
}

fn section() -> Section {
    Section {
        config_xml: config(""),
        surroundings: Some(Surroundings {
            networks: vec![crate::point::Network {
                name: "dmz".into(),
                kind: "DistributedVirtualPortgroup".into(),
                reference: "dvportgroup-9".into(),
                portgroup_key: Some("dvportgroup-9".into()),
                switch_uuid: Some("50 old".into()),
            }],
            tags: vec![crate::point::Tag {
                category: "tier".into(),
                name: "gold".into(),
            }],
            attributes: vec![crate::point::Attribute {
                name: "owner".into(),
                value: "sales".into(),
            }],
            home_policy: Some("p-home".into()),
            disk_policies: vec![crate::point::Policy {
                key: 2000,
                policy: "p-disk".into(),
            }],
            nvram: Nvram::pack("[old] web/web.nvram", &[1, 2, 3]).ok(),
            ..Surroundings::default()
        }),
        ..Section::default()
    }
}

fn stored_disks() -> Vec<StoredDisk> {
    let disk = |key: i32, mib: u64| StoredDisk {
        key,
        label: format!("Hard disk {}", key - 1999),
        data_bytes: mib * MIB,
    };
    vec![disk(2000, 700), disk(2001, 300)]
}

fn datastore(name: &str, free_mib: u64) -> DatastoreFacts {
    DatastoreFacts {
        datastore: DatastoreRef::new(name),
        name: name.into(),
        url: None,
        kind: DatastoreKind::Vmfs,
        capacity_bytes: 1 << 40,
        free_bytes: free_mib * MIB,
        is_accessible: true,
        hosts: vec![HostRef::new("host-1")],
    }
}

fn network(name: &str, network: NicNetwork) -> SiteNetwork {
    SiteNetwork {
        name: name.into(),
        reference: format!("ref-{name}"),
        network,
    }
}

/// A place that has all that the point's VM had.
fn whole_site() -> RestoreSite {
    RestoreSite {
        placement: Placement {
            datacenter: "/DC1".into(),
            datastore: DatastoreRef::new("big"),
            datastore_name: "big".into(),
            free_bytes: 20_000 * MIB,
            folder: FolderRef::new("group-v1"),
            folder_path: "/DC1/vm".into(),
            pool: PoolRef::new("pool-1"),
            host: HostRef::new("host-1"),
            host_name: "esx-9".into(),
        },
        name_is_taken: false,
        datastores: vec![datastore("big", 20_000), datastore("fast", 3_000)],
        networks: vec![
            network("lan", NicNetwork::Standard("lan".into())),
            network(
                "dmz",
                NicNetwork::Distributed {
                    switch_uuid: "50 new".into(),
                    portgroup_key: "dvportgroup-33".into(),
                },
            ),
        ],
        attributes: vec!["owner".into()],
        tags: Told::Known(vec![Tag {
            category: "tier".into(),
            name: "gold".into(),
        }]),
        policies: Told::Known(vec!["p-home".into(), "p-disk".into()]),
        owners: Vec::new(),
        missing: Told::Known(Vec::new()),
    }
}

fn work(options: RestoreOptions) -> RestoreWork {
    RestoreWork {
        point: PointId::from_bytes([1; 16]),
        repository: NodeId::from_bytes([2; 16]),
        name: "web-2".into(),
        placement: Place {
            vcenter: VcenterId::from_bytes([3; 16]),
            datastore: "big".into(),
            folder: None,
            resource_pool: None,
            host: None,
            datacenter: None,
            cluster: None,
        },
        power_on: false,
        options,
    }
}

fn planned(section: &Section, work: &RestoreWork, site: RestoreSite) -> Outline {
    let disks = stored_disks();
    let source = Source {
        section,
        disks: &disks,
    };
    plan(&source, work, Ok(site), Some(100 * MIB)).expect("plans")
}

/// What is asked for, what of the point and of the place is otherwise.
struct Case {
    options: RestoreOptions,
    section: Section,
    site: RestoreSite,
}

fn case() -> Case {
    Case {
        options: RestoreOptions::default(),
        section: section(),
        site: whole_site(),
    }
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Case), reason: Reason, words: &str) {
    let mut case = case();
    change(&mut case);
    let outline = planned(&case.section, &work(case.options), case.site);
    let refusals = outline.refusals.clone();
    let [refusal] = refusals.as_slice() else {
        panic!("{refusals:?}")
    };
    assert_eq!(refusal.reason, reason, "{refusal}");
    assert!(refusal.message.contains(words), "{refusal}");
    assert_eq!(outline.accepted().unwrap_err().reason, reason);
}

#[track_caller]
fn check_loss(change: impl FnOnce(&mut Case), words: &str) -> Plan {
    let mut case = case();
    change(&mut case);
    let outline = planned(&case.section, &work(case.options), case.site);
    let plan = outline.accepted().expect("no refusal");
    let [loss] = plan.losses.as_slice() else {
        panic!("{:?}", plan.losses)
    };
    assert!(loss.contains(words), "{loss}");
    assert!(plan.warnings()[0].0.message.contains(words));
    plan
}

#[test]
fn where_everything_is_there_nothing_is_lost_and_the_plan_says_all() {
    let Case {
        options,
        section,
        site,
    } = case();
    let outline = planned(&section, &work(options), site);
    let plan = outline.clone().accepted().expect("accepted");
    assert_eq!(plan.losses, Vec::<String>::new());
    assert_eq!(plan.vm.name, "web-2");
    assert_eq!(plan.vm.bios_uuid, None);
    assert!(plan.vm.nics.iter().all(|nic| nic.mac.is_none()));
    let distributed = NicNetwork::Distributed {
        switch_uuid: "50 new".into(),
        portgroup_key: "dvportgroup-33".into(),
    };
    assert_eq!(
        plan.vm.nics[1].network, distributed,
        "a port group is found by its name, for keys are each switch's own"
    );
    assert_eq!(plan.outfit.tags.len(), 1);
    assert_eq!(
        plan.outfit.attributes,
        [CustomAttribute::new("owner", "sales")]
    );
    assert_eq!(plan.outfit.policies.home.as_deref(), Some("p-home"));
    let told = outline.told("vc-1").plan.expect("a plan");
    // What is written, not what the disks could hold.
    assert_eq!(told.write_bytes, 1000 * MIB);
    assert_eq!((told.bytes_per_second, told.seconds), (100 * MIB, 10));
    assert_eq!(told.disks[1].capacity_bytes, 2048 * MIB);
    assert_eq!(told.disks[0].provisioning, api::DiskProvisioning::Thin);
    assert_eq!(told.disks[1].provisioning, api::DiskProvisioning::Thick);
    let steps = told.steps.join("\n");
    for step in [
        "3 bytes of nvram",
        "tier:gold",
        "attribute owner",
        "policy p-home",
        "policy p-disk",
    ] {
        assert!(steps.contains(step), "{steps}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    check_refused(|c| c.site.name_is_taken = true, Reason::VmExists, "web-2");
    check_refused(
        |c| c.options.disk_datastores = vec![("Hard disk 2".into(), "slow".into())],
        Reason::PlacementNotFound,
        "slow",
    );
    check_refused(
        |c| c.options.disk_datastores = vec![("Hard disk 3".into(), "fast".into())],
        Reason::DiskNotFound,
        "Hard disk 3",
    );
    check_refused(
        |c| c.options.networks = vec![("wan".into(), "lan".into())],
        Reason::BadField,
        "wan",
    );
    check_refused(
        |c| c.options.networks = vec![("lan".into(), "nowhere".into())],
        Reason::PlacementNotFound,
        "nowhere",
    );
}

#[test]
fn room_is_held_against_what_each_datastore_gets() {
    // 700 MiB thin and 2048 MiB thick, and small files.
    let free = |mib: u64| {
        move |c: &mut Case| {
            c.site.datastores = vec![datastore("big", mib), datastore("fast", 3_000)]
        }
    };
    check_refused(free(2_700), Reason::DatastoreFull, "big has 2700 MiB free");
    let Case {
        options,
        section,
        mut site,
    } = case();
    site.datastores[0].free_bytes = 2_800 * MIB;
    assert_eq!(planned(&section, &work(options), site.clone()).refusals, []);
    let thin = RestoreOptions {
        provisioning: Some(Provisioning::Thin),
        ..RestoreOptions::default()
    };
    site.datastores[0].free_bytes = 1_100 * MIB;
    assert_eq!(
        planned(&section, &work(thin.clone()), site.clone()).refusals,
        []
    );
    // A VM that is started takes room to swap.
    let started = RestoreWork {
        power_on: true,
        ..work(thin)
    };
    let refusals = planned(&section, &started, site).refusals;
    assert_eq!(refusals[0].reason, Reason::DatastoreFull);
    // 4096 MiB thick do not fit on `fast`, however much there is beside.
    check_refused(
        |c| {
            c.options.provisioning = Some(Provisioning::Eager);
            c.options.disk_datastores = vec![("2000".into(), "fast".into())];
        },
        Reason::DatastoreFull,
        "fast has 3000 MiB free and the restore needs 4096 MiB",
    );
}

#[test]
fn an_identity_that_somebody_has_is_not_given_twice() {
    let original = |owner: IdentityOwner| {
        move |c: &mut Case| {
            c.options.identity = Identity::Original;
            c.site.owners = vec![IdentityOwner {
                name: "web".into(),
                ..owner
            }];
        }
    };
    let uuid = IdentityOwner {
        bios_uuid: Some(UUID.to_uppercase()),
        ..IdentityOwner::default()
    };
    check_refused(original(uuid), Reason::VmExists, "\"web\" has the original");
    let mac = IdentityOwner {
        macs: vec!["00:50:56:00:00:02".into()],
        ..IdentityOwner::default()
    };
    check_refused(original(mac), Reason::VmExists, "\"web\" has the original");
    let mut free = case();
    original(IdentityOwner::default())(&mut free);
    let outline = planned(&free.section, &work(free.options), free.site);
    let plan = outline.accepted().expect("nobody has it");
    assert_eq!(plan.vm.bios_uuid.as_deref(), Some(UUID));
    assert_eq!(plan.vm.instance_uuid.as_deref(), Some("i-1"));
    assert_eq!(plan.cards[1].mac.as_deref(), Some("00:50:56:00:00:02"));
    assert!(
        query(&work(RestoreOptions::default()), &free.section)
            .policies
            .len()
            == 2
    );
}

#[test]
fn what_is_not_there_is_lost_and_said() {
    let plan = check_loss(
        |c| c.site.networks.truncate(1),
        "Network adapter 2: network dmz is not there; the card is made disconnected, on lan",
    );
    assert_eq!(plan.vm.nics.len(), 2);
    assert!(!plan.vm.nics[1].start_connected && plan.vm.nics[0].start_connected);
    check_loss(|c| c.site.tags = Told::Known(vec![]), "tag tier:gold");
    check_loss(
        |c| c.site.tags = Told::Unknown("status 503".into()),
        "tier:gold",
    );
    check_loss(|c| c.site.attributes.clear(), "attribute owner");
    check_loss(
        |c| c.site.policies = Told::Known(vec!["p-home".into()]),
        "storage policy p-disk of disk 2000",
    );
    check_loss(
        |c| c.section.surroundings.as_mut().unwrap().nvram = None,
        "no nvram",
    );
    check_loss(
        |c| c.section.foreign_snapshots = vec!["snapshot-1".into()],
        "1 snapshots",
    );
    let device = |kind: &str| {
        format!(
            r#"<device x:type="{kind}"><key>9000</key><deviceInfo><label>it</label></deviceInfo></device>"#
        )
    };
    check_loss(
        |c| c.section.config_xml = config(&device("VirtualTPM")),
        "tpm",
    );
    check_loss(
        |c| c.section.config_xml = config(&device("VirtualPCIPassthrough")),
        "old host",
    );
    check_loss(
        |c| c.section.config_xml = config(&device("VirtualCdrom")),
        "drive",
    );
}

#[test]
fn a_disk_that_is_not_in_the_point_is_not_made_and_said() {
    let disks = &stored_disks()[..1];
    let section = section();
    let source = Source {
        section: &section,
        disks,
    };
    let outline = plan(
        &source,
        &work(RestoreOptions::default()),
        Ok(whole_site()),
        None,
    );
    let plan = outline.expect("plans").accepted().expect("accepted");
    assert_eq!(plan.vm.disks.len(), 1);
    assert!(
        plan.losses[0].contains("disk 2001 (Hard disk 2)"),
        "{:?}",
        plan.losses
    );
}

#[test]
fn a_card_goes_where_it_is_told() {
    let Case {
        mut options,
        section,
        site,
    } = case();
    options.networks = vec![("lan".into(), "dmz".into()), ("dmz".into(), "lan".into())];
    let plan = planned(&section, &work(options), site)
        .accepted()
        .expect("accepted");
    let to: Vec<(&str, bool)> = plan
        .cards
        .iter()
        .map(|c| (c.to.as_str(), c.is_connected))
        .collect();
    assert_eq!(to, [("dmz", true), ("lan", true)]);
}

#[test]
fn privileges_count_where_something_is_done() {
    let lack = |entity: Entity, is_optional: bool| {
        move |c: &mut Case| {
            c.site.missing = Told::Known(vec![MissingPrivilege {
                entity,
                group: PrivilegeGroup::Restore,
                privilege: "Network.Assign",
                is_optional,
            }]);
        }
    };
    let folder = Entity::Folder(FolderRef::new("group-v1"));
    check_refused(
        lack(folder.clone(), false),
        Reason::VcenterPrivilegeMissing,
        "Network.Assign",
    );
    for (entity, is_optional) in [(folder, true), (foreign_network(), false)] {
        let mut case = case();
        lack(entity, is_optional)(&mut case);
        let outline = planned(&case.section, &work(case.options), case.site);
        assert_eq!(outline.refusals, []);
    }
}

/// A network of the host that no card is plugged into.
fn foreign_network() -> Entity {
    Entity::Network(NetworkRef::standard("ref-backup"))
}

#[test]
fn without_a_place_there_is_no_plan() {
    let nowhere = Fault::new(Reason::PlacementNotFound, "no such datastore");
    let disks = stored_disks();
    let section = section();
    let source = Source {
        section: &section,
        disks: &disks,
    };
    let outline = plan(
        &source,
        &work(RestoreOptions::default()),
        Err(nowhere),
        None,
    );
    let outline = outline.expect("an outline");
    assert_eq!(outline.plan, None);
    assert_eq!(
        outline.accepted().unwrap_err().reason,
        Reason::PlacementNotFound
    );
}
