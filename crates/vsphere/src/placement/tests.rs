use super::*;
use crate::xml::Element;

/// One row: kind, value, parent's kind and value, name, more properties.
type Row<'a> = (&'a str, &'a str, (&'a str, &'a str), &'a str, &'a str);

/// The same, owning what is made up.
type Owned<'a> = (&'a str, String, (&'a str, &'a str), String, String);

fn object((kind, value, parent, name, more): &Row) -> Properties {
    let xml = format!(
        r#"<objects xmlns:x="i"><obj type="{kind}">{value}</obj>
        <propSet><name>name</name><val x:type="xsd:string">{name}</val></propSet>
        <propSet><name>parent</name><val type="{}">{}</val></propSet>{more}</objects>"#,
        parent.0, parent.1
    );
    Properties::parse(&Element::parse(&xml).expect("xml")).expect("an object")
}

fn set(name: &str, value: &str) -> String {
    format!("<propSet><name>{name}</name><val>{value}</val></propSet>")
}

fn one(name: &str, kind: &str, value: &str) -> String {
    format!(r#"<propSet><name>{name}</name><val type="{kind}">{value}</val></propSet>"#)
}

/// A datacenter with one cluster of two hosts, one of them in maintenance, and one datastore.
fn datacenter(n: u32) -> Vec<Properties> {
    let dc = format!("datacenter-{n}");
    let [vm, hosts, stores] = ["vm", "host", "datastore"].map(|folder| format!("{folder}-of-{n}"));
    let cluster = format!("cluster-{n}");
    let store = format!("datastore-{n}");
    let reference =
        format!(r#"<ManagedObjectReference type="Datastore">{store}</ManagedObjectReference>"#);
    let host = |resting: bool| {
        set("datastore", &reference)
            + &set("runtime.connectionState", "connected")
            + &set(
                "runtime.inMaintenanceMode",
                if resting { "true" } else { "false" },
            )
    };
    let vms = set(
        "childType",
        "<string>Folder</string><string>VirtualMachine</string>",
    );
    let root = ("Folder", "group-d1");
    let [in_dc, in_cluster] = [
        ("Datacenter", dc.as_str()),
        ("ClusterComputeResource", cluster.as_str()),
    ];
    let pool = format!("resgroup-{n}");
    let rows: Vec<Owned<'_>> = vec![
        (
            "Datacenter",
            dc.clone(),
            root,
            format!("DC{n}"),
            one("vmFolder", "Folder", &vm),
        ),
        ("Folder", vm.clone(), in_dc, "vm".into(), vms.clone()),
        (
            "Folder",
            format!("web-{n}"),
            ("Folder", &vm),
            "web".into(),
            vms,
        ),
        ("Folder", hosts.clone(), in_dc, "host".into(), String::new()),
        (
            "Folder",
            stores.clone(),
            in_dc,
            "datastore".into(),
            String::new(),
        ),
        (
            "Datastore",
            store.clone(),
            ("Folder", &stores),
            "shared".into(),
            set("summary.freeSpace", "4096"),
        ),
        (
            "ClusterComputeResource",
            cluster.clone(),
            ("Folder", &hosts),
            "C0".into(),
            one("resourcePool", "ResourcePool", &pool),
        ),
        (
            "HostSystem",
            format!("host-{n}-a"),
            in_cluster,
            "a".into(),
            host(true),
        ),
        (
            "HostSystem",
            format!("host-{n}-b"),
            in_cluster,
            "b".into(),
            host(false),
        ),
        (
            "ResourcePool",
            pool.clone(),
            in_cluster,
            "Resources".into(),
            one("owner", "ClusterComputeResource", &cluster),
        ),
    ];
    rows.iter()
        .map(|(k, v, p, n, m)| object(&(*k, v, *p, n, m)))
        .collect()
}

fn site() -> Site {
    let objects = [datacenter(0), datacenter(1)]
        .into_iter()
        .flatten()
        .collect();
    Site::new(objects).expect("a site")
}

fn spec() -> PlacementSpec {
    let datacenter = Some("DC1".to_owned());
    PlacementSpec {
        datastore: "shared".into(),
        datacenter,
        ..PlacementSpec::default()
    }
}

#[test]
fn what_is_not_said_is_chosen_within_the_datacenter() {
    let placement = site().place(&spec()).expect("a place");
    assert_eq!(placement.datacenter, "/DC1");
    assert_eq!(placement.datastore, DatastoreRef::new("datastore-1"));
    assert_eq!(placement.free_bytes, 4096);
    assert_eq!(placement.folder, FolderRef::new("vm-of-1"));
    assert_eq!(placement.folder_path, "/DC1/vm");
    assert_eq!(placement.pool, PoolRef::new("resgroup-1"));
    // The first host is in maintenance.
    assert_eq!(placement.host_name, "b");
}

#[test]
fn names_and_paths_are_both_understood() {
    let by_name = PlacementSpec {
        folder: Some("web".into()),
        ..spec()
    };
    let by_path = PlacementSpec {
        datastore: "/DC1/datastore/shared".into(),
        datacenter: None,
        folder: Some("/DC1/vm/web".into()),
        cluster: Some("C0".into()),
        pool: Some("Resources".into()),
        host: Some("/DC1/host/C0/b".into()),
    };
    let place = |spec| site().place(&spec).expect("a place");
    assert_eq!(place(by_name), place(by_path));
}

#[test]
fn a_host_is_looked_for_in_the_cluster_that_was_named() {
    let within = |cluster: &str| PlacementSpec {
        cluster: Some(cluster.into()),
        ..spec()
    };
    assert!(site().place(&within("C0")).is_ok());
    let error = site().place(&within("C9")).expect_err("no such cluster");
    assert!(
        matches!(
            &error,
            Error::PlacementNotFound {
                what: "cluster",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_name_in_two_datacenters_demands_the_path() {
    let error = site()
        .place(&PlacementSpec {
            datacenter: None,
            ..spec()
        })
        .expect_err("two fit");
    match error {
        Error::PlacementAmbiguous {
            what, candidates, ..
        } => {
            assert_eq!(what, "datastore");
            assert_eq!(
                candidates,
                ["/DC0/datastore/shared", "/DC1/datastore/shared"]
            );
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(spec: PlacementSpec, missing: &str) {
    match site().place(&spec) {
        Err(Error::PlacementNotFound { name, .. }) => assert_eq!(name, missing),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_must_be_there() {
    check(
        PlacementSpec {
            datastore: "none".into(),
            ..spec()
        },
        "none",
    );
    check(
        PlacementSpec {
            datacenter: Some("DC9".into()),
            ..spec()
        },
        "DC9",
    );
    check(
        PlacementSpec {
            folder: Some("datastore".into()),
            ..spec()
        },
        "datastore",
    );
    check(
        PlacementSpec {
            folder: Some("/DC0/vm/web".into()),
            ..spec()
        },
        "/DC0/vm/web",
    );
    check(
        PlacementSpec {
            pool: Some("gold".into()),
            ..spec()
        },
        "gold",
    );
    check(
        PlacementSpec {
            host: Some("c".into()),
            ..spec()
        },
        "c",
    );
}
