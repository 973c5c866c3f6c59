//! Every VM, and where things are in the inventory.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::device;
use crate::reference::Moref;
use crate::vm::{power, tools};
use crate::{Result, VmRef, VmSummary};

/// Inventories nest less deep than this; a loop would nest deeper.
const DEPTH_MAX: usize = 100;

/// What a path is made of.
pub(crate) const PLACES: [Wanted; 4] = [
    Wanted {
        kind: "Datacenter",
        paths: &["name", "parent"],
    },
    Wanted {
        kind: "Folder",
        paths: &["name", "parent"],
    },
    Wanted {
        kind: "VirtualApp",
        paths: &["name", "parent", "parentFolder", "parentVApp"],
    },
    Wanted {
        kind: "HostSystem",
        paths: &["name", "parent"],
    },
];

const DATASTORES: Wanted = Wanted {
    kind: "Datastore",
    paths: &["name"],
};

/// Where VMs run, which scopes of policies name.
const POOLS: [Wanted; 2] = [
    Wanted {
        kind: "ClusterComputeResource",
        paths: &["name", "parent"],
    },
    Wanted {
        kind: "ResourcePool",
        paths: &["name", "parent"],
    },
];

const VMS: Wanted = Wanted {
    kind: "VirtualMachine",
    paths: &[
        "name",
        "parent",
        "parentVApp",
        "config.uuid",
        "config.instanceUuid",
        "config.template",
        "config.changeTrackingEnabled",
        "config.hardware.device",
        "runtime.powerState",
        "runtime.host",
        "guest.toolsRunningStatus",
        "datastore",
        "resourcePool",
    ],
};

/// Names and parents of objects, to build paths from.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<Moref, Place>);

#[derive(Debug)]
struct Place {
    name: String,
    parent: Option<Moref>,
}

impl Places {
    /// Takes in an object; one without a name we may not see, and its children start the path.
    pub(crate) fn add(&mut self, object: &Properties) -> Result<()> {
        if let Some(name) = object.text("name") {
            let place = Place {
                name,
                parent: parent(object)?,
            };
            self.0.insert(object.object.clone(), place);
        }
        Ok(())
    }

    /// Takes in an object that lies in another than its own properties say.
    pub(crate) fn add_below(&mut self, object: &Properties, parent: Option<Moref>) {
        if let Some(name) = object.text("name") {
            let place = Place { name, parent };
            self.0.insert(object.object.clone(), place);
        }
    }

    pub(crate) fn collect<'a>(objects: impl IntoIterator<Item = &'a Properties>) -> Result<Self> {
        let mut places = Self::default();
        objects
            .into_iter()
            .try_for_each(|object| places.add(object))?;
        Ok(places)
    }

    pub(crate) fn name(&self, object: &Moref) -> Option<&str> {
        self.0.get(object).map(|place| place.name.as_str())
    }

    /// Such as `/DC0/vm/web`. The root folder has no part in it.
    pub(crate) fn path(&self, object: &Moref) -> String {
        let mut names: Vec<&str> = self.chain(object).map(|(_, name)| name).collect();
        names.reverse();
        format!("/{}", names.join("/"))
    }

    /// The name of the cluster that a host is in.
    fn cluster(&self, host: &Moref) -> Option<String> {
        let mut chain = self.chain(host);
        let found = chain.find(|(moref, _)| moref.kind == "ClusterComputeResource");
        found.map(|(_, name)| display_name(name))
    }

    /// The path of the datacenter that an object is in.
    pub(crate) fn datacenter(&self, object: &Moref) -> Option<String> {
        let found = self
            .chain(object)
            .find(|(moref, _)| moref.kind == "Datacenter");
        found.map(|(moref, _)| self.path(moref))
    }

    /// The object and what it lies in, inside out.
    fn chain<'a>(&'a self, object: &'a Moref) -> impl Iterator<Item = (&'a Moref, &'a str)> {
        let mut next = Some(object);
        let up = move || {
            let moref = next?;
            let place = self.0.get(moref)?;
            next = place.parent.as_ref();
            Some((moref, place.name.as_str()))
        };
        std::iter::from_fn(up)
            .filter(|(moref, _)| !is_root(moref))
            .take(DEPTH_MAX)
    }
}

/// Every server names its root folder so.
fn is_root(moref: &Moref) -> bool {
    moref.kind == "Folder" && matches!(moref.value.as_str(), "group-d1" | "ha-folder-root")
}

/// What an object lies in. A VM of a vApp has no `parent`.
pub(crate) fn parent(object: &Properties) -> Result<Option<Moref>> {
    for path in ["parent", "parentFolder", "parentVApp"] {
        if let Some(parent) = object.moref(path)? {
            // The parent of a vApp is a resource pool, which has no part in a VM's path.
            if parent.kind != "ResourcePool" {
                return Ok(Some(parent));
            }
        }
    }
    Ok(None)
}

/// A name as people write it: vSphere escapes three characters.
pub(crate) fn display_name(name: &str) -> String {
    name.replace("%2f", "/")
        .replace("%5c", "\\")
        .replace("%25", "%")
}

impl Client {
    /// Every VM, in the order of their inventory paths.
    pub async fn inventory(&self) -> Result<Vec<VmSummary>> {
        let mut wanted = PLACES.to_vec();
        wanted.extend(POOLS);
        wanted.extend([DATASTORES, VMS]);
        let objects = self.list(&wanted).await?;
        let places = Places::collect(&objects)?;
        let vms = objects
            .iter()
            .filter(|object| object.object.kind == VMS.kind);
        let mut vms: Vec<VmSummary> = vms
            .filter_map(|vm| summary(vm, &places).transpose())
            .collect::<Result<_>>()?;
        vms.sort_by(|a, b| (&a.path, &a.vm).cmp(&(&b.path, &b.vm)));
        Ok(vms)
    }
}

/// A VM for a list; none when it went away while the list was made.
fn summary(vm: &Properties, places: &Places) -> Result<Option<VmSummary>> {
    let Some(name) = vm.text("name") else {
        return Ok(None);
    };
    let disks = vm
        .get("config.hardware.device")
        .map(|list| device::disks(&list.children));
    let disks = disks
        .transpose()
        .map_err(|problem| vm.bad(problem))?
        .unwrap_or_default();
    let flag = |path: &str| {
        vm.get(path)
            .is_some_and(|value| value.text.trim() == "true")
    };
    let host = vm.moref("runtime.host")?;
    let pool = vm.moref("resourcePool")?;
    Ok(Some(VmSummary {
        vm: VmRef::new(&vm.object.value),
        name: display_name(&name),
        path: places.path(&vm.object),
        uuid: vm.text("config.uuid"),
        instance_uuid: vm.text("config.instanceUuid"),
        power: power(vm)?,
        tools: tools(vm),
        cbt: flag("config.changeTrackingEnabled"),
        disk_count: disks.len(),
        capacity_bytes: disks.iter().map(|disk| disk.capacity_bytes).sum(),
        disks,
        template: flag("config.template"),
        cluster: host.as_ref().and_then(|host| places.cluster(host)),
        resource_pool: pool.map(|pool| places.path(&pool)),
        host: host.and_then(|host| places.name(&host).map(str::to_owned)),
        datastores: datastores(vm, places)?,
    }))
}

/// Names of a VM's datastores, sorted.
pub(crate) fn datastores(vm: &Properties, places: &Places) -> Result<Vec<String>> {
    let morefs = vm.morefs("datastore")?;
    let mut names: Vec<String> = morefs
        .iter()
        .filter_map(|moref| places.name(moref).map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, value, name, parent.
    type Row<'a> = (&'a str, &'a str, &'a str, Option<(&'a str, &'a str)>);

    fn places(rows: &[Row<'_>]) -> Places {
        let place = |(kind, value, name, parent): &Row<'_>| {
            let parent = parent.map(|(kind, value)| Moref::new(kind, value));
            (
                Moref::new(kind, value),
                Place {
                    name: (*name).into(),
                    parent,
                },
            )
        };
        Places(rows.iter().map(place).collect())
    }

    #[test]
    fn a_path_starts_below_the_root_and_names_the_datacenter() {
        let places = places(&[
            ("Folder", "group-d1", "Datacenters", None),
            (
                "Datacenter",
                "datacenter-2",
                "DC0",
                Some(("Folder", "group-d1")),
            ),
            (
                "Folder",
                "group-v3",
                "vm",
                Some(("Datacenter", "datacenter-2")),
            ),
            (
                "VirtualMachine",
                "vm-9",
                "web",
                Some(("Folder", "group-v3")),
            ),
            ("VirtualMachine", "vm-8", "lost", Some(("Folder", "hidden"))),
        ]);
        let web = Moref::new("VirtualMachine", "vm-9");
        assert_eq!(places.path(&web), "/DC0/vm/web");
        assert_eq!(places.datacenter(&web).as_deref(), Some("/DC0"));
        let lost = Moref::new("VirtualMachine", "vm-8");
        assert_eq!(places.path(&lost), "/lost");
        assert_eq!(places.datacenter(&lost), None);
    }

    #[test]
    fn a_loop_of_parents_ends() {
        let places = places(&[
            ("Folder", "a", "a", Some(("Folder", "b"))),
            ("Folder", "b", "b", Some(("Folder", "a"))),
        ]);
        let path = places.path(&Moref::new("Folder", "a"));
        assert_eq!(path.matches('/').count(), DEPTH_MAX);
    }

    #[test]
    fn escaped_names_read_as_people_wrote_them() {
        assert_eq!(display_name("a%2fb%5cc%25"), "a/b\\c%");
        assert_eq!(display_name("100%252f"), "100%2f");
    }
}
