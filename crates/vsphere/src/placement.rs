//! Where a new VM goes.

use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::inventory::Places;
use crate::reference::Moref;
use crate::{DatastoreRef, Error, FolderRef, HostRef, PoolRef, Result};

/// Where a person wants a new VM. Each may be a name or an inventory path (`/DC0/vm/web`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementSpec {
    /// The datastore.
    pub datastore: String,
    /// The datacenter, when the datastore's name is in several.
    pub datacenter: Option<String>,
    /// The VM folder; the datacenter's own when none.
    pub folder: Option<String>,
    /// The cluster that the host is to be in.
    pub cluster: Option<String>,
    /// The resource pool; the root pool of the host's cluster when none.
    pub pool: Option<String>,
    /// The host; the first usable one that mounts the datastore when none.
    pub host: Option<String>,
}

/// Where a new VM goes, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Inventory path of the datacenter.
    pub datacenter: String,
    /// The datastore.
    pub datastore: DatastoreRef,
    /// Its name, as file names carry it.
    pub datastore_name: String,
    /// Free space of the datastore, as vCenter last saw it.
    pub free_bytes: u64,
    /// The folder.
    pub folder: FolderRef,
    /// Its inventory path.
    pub folder_path: String,
    /// The resource pool.
    pub pool: PoolRef,
    /// The host.
    pub host: HostRef,
    /// Its name.
    pub host_name: String,
}

const WANTED: [Wanted; 7] = [
    Wanted {
        kind: "Datacenter",
        paths: &["name", "parent", "vmFolder"],
    },
    Wanted {
        kind: "Folder",
        paths: &["name", "parent", "childType"],
    },
    Wanted {
        kind: "Datastore",
        paths: &["name", "parent", "summary.freeSpace", "summary.accessible"],
    },
    COMPUTE,
    Wanted {
        kind: "ClusterComputeResource",
        paths: COMPUTE.paths,
    },
    Wanted {
        kind: "HostSystem",
        paths: &[
            "name",
            "parent",
            "datastore",
            "runtime.connectionState",
            "runtime.inMaintenanceMode",
        ],
    },
    Wanted {
        kind: "ResourcePool",
        paths: &["name", "parent", "owner"],
    },
];
const COMPUTE: Wanted = Wanted {
    kind: "ComputeResource",
    paths: &["name", "parent", "resourcePool"],
};

impl Client {
    /// Finds where a new VM can go.
    ///
    /// What is not said is chosen: the datacenter's VM folder, the first usable host by path that
    /// mounts the datastore, the root pool of its cluster. What is said must be there and must
    /// mean one thing.
    pub async fn find_placement(&self, spec: &PlacementSpec) -> Result<Placement> {
        let site = Site::new(self.list(&WANTED).await?)?;
        site.place(spec)
    }
}

/// Everything that a VM could be placed on.
#[derive(Debug)]
struct Site {
    objects: Vec<Properties>,
    places: Places,
}

impl Site {
    fn new(objects: Vec<Properties>) -> Result<Self> {
        let places = Places::collect(&objects)?;
        Ok(Self { objects, places })
    }

    fn place(&self, spec: &PlacementSpec) -> Result<Placement> {
        let within = match &spec.datacenter {
            Some(name) => self.path(self.one("datacenter", name, "/", |o| is(o, "Datacenter"))?),
            None => "/".to_owned(),
        };
        let datastore = self.one("datastore", &spec.datastore, &within, |o| {
            is(o, "Datastore")
        })?;
        let datacenter = self.datacenter(datastore)?;
        let below = self.path(datacenter);
        let folder = self.folder(spec.folder.as_deref(), datacenter, &below)?;
        let pool = match &spec.pool {
            Some(name) => Some(self.one("pool", name, &below, |o| is(o, "ResourcePool"))?),
            None => None,
        };
        let host = self.host(spec, datastore, pool, &below)?;
        let pool = match pool {
            Some(pool) => pool.object.value.clone(),
            None => self.root_pool(host)?.value,
        };
        let free = datastore.need("summary.freeSpace")?.parsed();
        Ok(Placement {
            datacenter: below,
            datastore: DatastoreRef::new(&datastore.object.value),
            datastore_name: datastore.need("name")?.text.clone(),
            free_bytes: free.map_err(|problem| datastore.bad(problem))?,
            folder: FolderRef::new(&folder.value),
            folder_path: self.places.path(&folder),
            pool: PoolRef::new(pool),
            host: HostRef::new(&host.object.value),
            host_name: host.need("name")?.text.clone(),
        })
    }

    fn datacenter(&self, datastore: &Properties) -> Result<&Properties> {
        let path = self.places.datacenter(&datastore.object);
        let found = self
            .objects
            .iter()
            .find(|o| is(o, "Datacenter") && Some(self.path(o)) == path);
        found.ok_or_else(|| missing("datacenter", &self.path(datastore)))
    }

    fn folder(&self, wanted: Option<&str>, datacenter: &Properties, below: &str) -> Result<Moref> {
        let Some(wanted) = wanted else {
            let folder = datacenter.moref("vmFolder")?;
            return folder.ok_or_else(|| missing("folder", "vm"));
        };
        let folder = self.one("folder", wanted, below, holds_vms)?;
        Ok(folder.object.clone())
    }

    fn host(
        &self,
        spec: &PlacementSpec,
        datastore: &Properties,
        pool: Option<&Properties>,
        below: &str,
    ) -> Result<&Properties> {
        let owner = pool.map(|pool| pool.moref("owner")).transpose()?.flatten();
        let cluster = match &spec.cluster {
            Some(name) => Some(self.one("cluster", name, below, is_compute)?),
            None => None,
        };
        let cluster = cluster.map(|cluster| cluster.object.clone());
        let fits = |host: &Properties| -> Result<bool> {
            let mounts = host.morefs("datastore")?.contains(&datastore.object);
            let parent = host.moref("parent")?;
            let inside = owner.is_none() || parent == owner;
            let within = cluster.is_none() || parent == cluster;
            Ok(is(host, "HostSystem") && mounts && inside && within)
        };
        if let Some(name) = &spec.host {
            let host = self.one("host", name, below, |o| is(o, "HostSystem"))?;
            let reason = "host that mounts the datastore and is in the cluster and the pool's";
            return if fits(host)? {
                Ok(host)
            } else {
                Err(missing(reason, name))
            };
        }
        let mut usable = Vec::new();
        for host in self.objects.iter().filter(|host| is_usable(host)) {
            if fits(host)? {
                usable.push((self.path(host), host));
            }
        }
        let first = usable.into_iter().min_by(|(a, _), (b, _)| a.cmp(b));
        let what = "connected host that mounts the datastore";
        first
            .map(|(_, host)| host)
            .ok_or_else(|| missing(what, &spec.datastore))
    }

    fn root_pool(&self, host: &Properties) -> Result<Moref> {
        let compute = host.moref("parent")?;
        let compute = self
            .objects
            .iter()
            .find(|object| Some(&object.object) == compute.as_ref());
        let pool = compute
            .map(|compute| compute.moref("resourcePool"))
            .transpose()?
            .flatten();
        pool.ok_or_else(|| missing("resource pool of the host", &self.path(host)))
    }

    /// The one object below a path that has this name or path.
    fn one(
        &self,
        what: &'static str,
        wanted: &str,
        below: &str,
        fits: impl Fn(&Properties) -> bool,
    ) -> Result<&Properties> {
        let below = format!("{}/", below.trim_end_matches('/'));
        let mut found: Vec<(String, &Properties)> = self
            .objects
            .iter()
            .filter(|object| fits(object))
            .map(|object| (self.path(object), object))
            .filter(|(path, _)| path.starts_with(&below))
            .filter(|(path, object)| {
                path == wanted || object.text("name").as_deref() == Some(wanted)
            })
            .collect();
        if found.len() > 1 {
            let mut candidates: Vec<String> = found.into_iter().map(|(path, _)| path).collect();
            candidates.sort();
            return Err(Error::PlacementAmbiguous {
                what,
                name: wanted.to_owned(),
                candidates,
            });
        }
        found
            .pop()
            .map(|(_, object)| object)
            .ok_or_else(|| missing(what, wanted))
    }

    fn path(&self, object: &Properties) -> String {
        self.places.path(&object.object)
    }
}

fn is(object: &Properties, kind: &str) -> bool {
    object.object.kind == kind
}

/// A cluster, or what a host that stands alone lies in.
fn is_compute(object: &Properties) -> bool {
    is(object, "ClusterComputeResource") || is(object, COMPUTE.kind)
}

fn holds_vms(object: &Properties) -> bool {
    let kinds = object
        .get("childType")
        .into_iter()
        .flat_map(|list| &list.children);
    is(object, "Folder") && kinds.into_iter().any(|kind| kind.text == "VirtualMachine")
}

fn is_usable(host: &Properties) -> bool {
    let connected = host.text("runtime.connectionState").as_deref() == Some("connected");
    let resting = host.text("runtime.inMaintenanceMode").as_deref() == Some("true");
    is(host, "HostSystem") && connected && !resting
}

fn missing(what: &'static str, name: &str) -> Error {
    Error::PlacementNotFound {
        what,
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
