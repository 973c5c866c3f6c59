//! What a VM lies in and hangs on: kept with a restore point so that a person can put it back.
//!
//! Everything here is told as far as it can be seen. Only tags and storage policies need another
//! interface of the server, which hosts do not have; when it is away that is told, and is no failure.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::collect::Properties;
use crate::inventory::{Places, parent};
use crate::reference::Moref;
use crate::xml::{Element, Problem};
use crate::{DatastoreRef, Entity, FolderRef, NetworkRef, PoolRef, Result, VmRef};

mod rest;
mod tagged;

pub use tagged::{TagNames, TaggedVms};

const VM: [&str; 8] = [
    "name",
    "parent",
    "parentVApp",
    "resourcePool",
    "runtime.host",
    "network",
    "customValue",
    "availableField",
];
const PLACES: [&str; 5] = [
    "parent",
    "parentVApp",
    "resourcePool",
    "datastore",
    "network",
];
/// Inventories nest less deep than this; a loop would nest deeper.
const DEPTH_MAX: usize = 100;

/// What a VM lies in and hangs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSurroundings {
    /// Inventory path of its folder or vApp, such as `/DC0/vm/prod`.
    pub folder: Option<String>,
    /// Inventory path of its resource pool, such as `/DC0/host/C0/Resources/prod`.
    pub resource_pool: Option<String>,
    /// Name of its host.
    pub host: Option<String>,
    /// Name of its host's cluster.
    pub cluster: Option<String>,
    /// What its cards are plugged into.
    pub networks: Vec<VmNetwork>,
    /// Its custom attributes, by name.
    pub custom_attributes: Vec<CustomAttribute>,
    /// Its tags.
    pub tags: Told<Vec<Tag>>,
    /// Ids of its storage policies.
    pub storage_policies: Told<StoragePolicies>,
}

/// A network that a VM is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmNetwork {
    /// vSphere's type of it, such as `DistributedVirtualPortgroup`.
    pub kind: String,
    /// The reference's value.
    pub reference: String,
    /// Its name.
    pub name: String,
    /// Key of a distributed port group.
    pub portgroup_key: Option<String>,
    /// UUID of the switch of a distributed port group.
    pub switch_uuid: Option<String>,
}

impl VmNetwork {
    /// The network itself.
    pub fn network(&self) -> NetworkRef {
        NetworkRef(Moref::new(&self.kind, &self.reference))
    }
}

/// A custom attribute of a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CustomAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A tag of a VM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tag {
    /// Name of its category.
    pub category: String,
    /// Its name.
    pub name: String,
}

/// Ids of a VM's storage policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePolicies {
    /// Of its own files.
    pub home: Option<String>,
    /// Of its disks, by device key.
    pub disks: Vec<(i32, String)>,
}

/// Something that the server told, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told<T> {
    /// What it told.
    Known(T),
    /// Why it did not, in words for a person.
    Unknown(String),
}

/// The objects that a VM lies in and hangs on, as far as they can be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmPlaces {
    /// Its folder; none within a vApp.
    pub folder: Option<FolderRef>,
    /// Its resource pool.
    pub pool: Option<PoolRef>,
    /// Where its files are.
    pub datastores: Vec<DatastoreRef>,
    /// What its cards are plugged into.
    pub networks: Vec<NetworkRef>,
}

impl VmPlaces {
    /// The root of the inventory, the VM and its places: where our account must be allowed what it does.
    pub fn entities(&self, vm: &VmRef) -> Vec<Entity> {
        let folder = self.folder.iter().cloned().map(Entity::Folder);
        let pool = self.pool.iter().cloned().map(Entity::Pool);
        let datastores = self.datastores.iter().cloned().map(Entity::Datastore);
        let networks = self.networks.iter().cloned().map(Entity::Network);
        [Entity::Root, Entity::Vm(vm.clone())]
            .into_iter()
            .chain(datastores)
            .chain(folder)
            .chain(pool)
            .chain(networks)
            .collect()
    }
}

impl Client {
    /// The objects that a VM lies in and hangs on.
    pub async fn vm_places(&self, vm: &VmRef) -> Result<VmPlaces> {
        let read = self.read_vm(vm, &PLACES).await?;
        let folder = parent(&read)?.filter(|above| above.kind == "Folder");
        let pool = read.moref("resourcePool")?;
        let datastores = read.morefs("datastore")?.into_iter();
        let networks = read.morefs("network")?.into_iter();
        Ok(VmPlaces {
            folder: folder.map(|folder| FolderRef::new(folder.value)),
            pool: pool.map(|pool| PoolRef::new(pool.value)),
            datastores: datastores
                .map(|moref| DatastoreRef::new(moref.value))
                .collect(),
            networks: networks.map(NetworkRef).collect(),
        })
    }

    /// What a VM lies in and hangs on.
    pub async fn vm_surroundings(&self, vm: &VmRef) -> Result<VmSurroundings> {
        let read = self.read_vm(vm, &VM).await?;
        let folder = self.path_above(parent(&read)?).await?;
        let resource_pool = self.path_above(read.moref("resourcePool")?).await?;
        let (host, cluster) = self.host_and_cluster(read.moref("runtime.host")?).await?;
        let mut networks = Vec::new();
        for network in read.morefs("network")? {
            networks.extend(self.network(&network).await?);
        }
        let (tags, storage_policies) = self.tags_and_policies(vm).await;
        Ok(VmSurroundings {
            folder,
            resource_pool,
            host,
            cluster,
            networks,
            custom_attributes: custom_attributes(&read).map_err(|problem| read.bad(problem))?,
            tags,
            storage_policies,
        })
    }

    /// The inventory path of an object, from as far up as we may see.
    async fn path_above(&self, object: Option<Moref>) -> Result<Option<String>> {
        let Some(object) = object else {
            return Ok(None);
        };
        let mut places = Places::default();
        let mut next = Some(object.clone());
        for _ in 0..DEPTH_MAX {
            let Some(at) = next.take() else { break };
            let paths: &[&str] = match at.kind.as_str() {
                "VirtualApp" => &["name", "parent", "parentFolder", "parentVApp"],
                _ => &["name", "parent"],
            };
            let Some(read) = self.read_if_allowed(&at, paths).await? else {
                break;
            };
            // A pool lies in pools; what a vApp lies in is its folder.
            next = match at.kind.as_str() {
                "ResourcePool" => read.moref("parent")?,
                _ => parent(&read)?,
            };
            places.add_below(&read, next.clone());
        }
        Ok(places.name(&object).is_some().then(|| places.path(&object)))
    }

    async fn host_and_cluster(
        &self,
        host: Option<Moref>,
    ) -> Result<(Option<String>, Option<String>)> {
        let Some(host) = host else {
            return Ok((None, None));
        };
        let Some(read) = self.read_if_allowed(&host, &["name", "parent"]).await? else {
            return Ok((None, None));
        };
        let cluster = match read.moref("parent")? {
            Some(above) if above.kind == "ClusterComputeResource" => {
                let above = self.read_if_allowed(&above, &["name"]).await?;
                above.and_then(|above| above.text("name"))
            }
            _ => None,
        };
        Ok((read.text("name"), cluster))
    }

    pub(crate) async fn network(&self, network: &Moref) -> Result<Option<VmNetwork>> {
        let is_distributed = network.kind == "DistributedVirtualPortgroup";
        let paths: &[&str] = match is_distributed {
            true => &["name", "key", "config.distributedVirtualSwitch"],
            false => &["name"],
        };
        let Some(read) = self.read_if_allowed(network, paths).await? else {
            return Ok(None);
        };
        let switch_uuid = match read.moref("config.distributedVirtualSwitch")? {
            Some(switch) => {
                let switch = self.read_if_allowed(&switch, &["uuid"]).await?;
                switch.and_then(|switch| switch.text("uuid"))
            }
            None => None,
        };
        Ok(Some(VmNetwork {
            kind: network.kind.clone(),
            reference: network.value.clone(),
            name: read.need("name")?.text.clone(),
            portgroup_key: read.text("key"),
            switch_uuid,
        }))
    }
}

/// Values of custom attributes with the names that their definitions have, in the order of names.
fn custom_attributes(vm: &Properties) -> Result<Vec<CustomAttribute>, Problem> {
    let children = |path: &str| vm.get(path).map_or(&[][..], |list| &list.children);
    let names: Vec<(i32, String)> = children("availableField")
        .iter()
        .map(|field| Ok((field.value("key")?, field.string("name")?)))
        .collect::<Result<_, Problem>>()?;
    let attribute = |value: &Element| {
        let key: i32 = value.value("key")?;
        let name = names.iter().find(|(known, _)| *known == key);
        Ok(CustomAttribute {
            name: name.map_or_else(|| format!("field {key}"), |(_, name)| name.clone()),
            value: value.optional("value").unwrap_or_default(),
        })
    };
    let values = children("customValue").iter().map(attribute);
    let mut all: Vec<CustomAttribute> = values.collect::<Result<_, Problem>>()?;
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_attributes_are_told_by_name() {
        let xml = r#"<objects><obj type="VirtualMachine">vm-1</obj>
            <propSet><name>availableField</name><val><CustomFieldDef><key>101</key><name>owner</name></CustomFieldDef><CustomFieldDef><key>7</key><name>cost</name></CustomFieldDef></val></propSet>
            <propSet><name>customValue</name><val><CustomFieldValue><key>101</key><value>sales &amp; co</value></CustomFieldValue><CustomFieldValue><key>7</key><value></value></CustomFieldValue><CustomFieldValue><key>9</key><value>x</value></CustomFieldValue></val></propSet></objects>"#;
        let vm = Properties::parse(&Element::parse(xml).expect("reads")).expect("properties");
        let found = custom_attributes(&vm).expect("attributes");
        let rows: Vec<_> = found
            .iter()
            .map(|a| (a.name.as_str(), a.value.as_str()))
            .collect();
        assert_eq!(
            rows,
            [("cost", ""), ("field 9", "x"), ("owner", "sales & co")]
        );
    }
}
