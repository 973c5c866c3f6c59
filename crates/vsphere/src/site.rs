//! Where a VM is to be restored, and what is there for it.

use crate::around::VmNetwork;
use crate::client::Client;
use crate::collect::{Properties, Wanted};
use crate::device;
use crate::inventory::display_name;
use crate::reference::Moref;
use crate::{
    DatastoreFacts, Entity, MissingPrivilege, NetworkRef, NicNetwork, Placement, PlacementSpec,
    PrivilegeGroup, Result, Tag, Told,
};

/// What a restore does there.
const PURPOSES: [PrivilegeGroup; 1] = [PrivilegeGroup::Restore];

const OWNERS: Wanted = Wanted {
    kind: "VirtualMachine",
    paths: &[
        "name",
        "config.uuid",
        "config.instanceUuid",
        "config.hardware.device",
    ],
};

/// What is wanted to be known of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteQuery {
    /// Where the VM is to go.
    pub placement: PlacementSpec,
    /// What it is to be called.
    pub name: String,
    /// Tags that it is to have.
    pub tags: Vec<Tag>,
    /// Storage policies that it is to have, by id.
    pub policies: Vec<String>,
    /// Whether somebody else may have its UUIDs and MAC addresses.
    pub asks_identities: bool,
}

/// Where a VM is to be restored, and what is there for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSite {
    /// Where it goes.
    pub placement: Placement,
    /// Whether the folder has something of that name.
    pub name_is_taken: bool,
    /// The datastores that its host can reach.
    pub datastores: Vec<DatastoreFacts>,
    /// The networks of its host.
    pub networks: Vec<SiteNetwork>,
    /// Custom attributes that VMs can have there, by name.
    pub attributes: Vec<String>,
    /// Those of the wanted tags that are there.
    pub tags: Told<Vec<Tag>>,
    /// Those of the wanted storage policies that are there.
    pub policies: Told<Vec<String>>,
    /// Who has which UUIDs and MAC addresses; empty when it was not asked.
    pub owners: Vec<IdentityOwner>,
    /// What our account lacks for a restore.
    pub missing: Told<Vec<MissingPrivilege>>,
}

/// A network of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteNetwork {
    /// Its name.
    pub name: String,
    /// The reference's value.
    pub reference: String,
    /// As a card names it.
    pub network: NicNetwork,
}

/// A VM with what nobody else may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityOwner {
    /// Its name.
    pub name: String,
    /// Its BIOS UUID.
    pub bios_uuid: Option<String>,
    /// Its instance UUID.
    pub instance_uuid: Option<String>,
    /// The addresses of its cards.
    pub macs: Vec<String>,
}

impl Client {
    /// Where a VM is to be restored, and what is there for it.
    pub async fn restore_site(&self, query: &SiteQuery) -> Result<RestoreSite> {
        let placement = self.find_placement(&query.placement).await?;
        let host = placement.host.clone();
        let there = self.read(&host.moref(), &["datastore", "network"]).await?;
        let mounted = there.morefs("datastore")?;
        let mut datastores = self.datastores().await?;
        datastores.retain(|datastore| mounted.contains(&datastore.datastore.moref()));
        let networks = there.morefs("network")?;
        let mut known = Vec::new();
        for network in &networks {
            known.extend(self.site_network(network).await?);
        }
        let (tags, policies) = self.known_there(&query.tags, &query.policies).await;
        let owners = match query.asks_identities {
            true => self.identity_owners().await?,
            false => Vec::new(),
        };
        Ok(RestoreSite {
            name_is_taken: self.is_taken(&query.name, &placement).await?,
            attributes: self.attributes().await?,
            missing: self.lacking_there(&placement, &networks).await,
            placement,
            datastores,
            networks: known,
            tags,
            policies,
            owners,
        })
    }

    async fn site_network(&self, network: &Moref) -> Result<Option<SiteNetwork>> {
        if network.kind == "OpaqueNetwork" {
            let paths = [
                "name",
                "summary.opaqueNetworkId",
                "summary.opaqueNetworkType",
            ];
            let read = self.read_if_allowed(network, &paths).await?;
            return Ok(read.and_then(|read| {
                Some(SiteNetwork {
                    name: display_name(&read.text("name")?),
                    reference: network.value.clone(),
                    network: NicNetwork::Opaque {
                        id: read.text("summary.opaqueNetworkId")?,
                        kind: read.text("summary.opaqueNetworkType")?,
                    },
                })
            }));
        }
        Ok(self.network(network).await?.and_then(site_network))
    }

    async fn attributes(&self) -> Result<Vec<String>> {
        // A host alone has none.
        let Some(manager) = &self.content().custom_fields else {
            return Ok(Vec::new());
        };
        let Some(read) = self.read_if_allowed(manager, &["field"]).await? else {
            return Ok(Vec::new());
        };
        let fields = read.get("field").map_or(&[][..], |list| &list.children);
        let is_for_vms = |kind: Option<String>| kind.is_none_or(|kind| kind == "VirtualMachine");
        let names = fields
            .iter()
            .filter(|field| is_for_vms(field.optional("managedObjectType")))
            .map(|field| field.string("name"));
        names
            .collect::<Result<_, _>>()
            .map_err(|problem| read.bad(problem))
    }

    async fn identity_owners(&self) -> Result<Vec<IdentityOwner>> {
        let vms = self.list(&[OWNERS]).await?;
        Ok(vms.iter().filter_map(owner).collect())
    }

    async fn lacking_there(
        &self,
        placement: &Placement,
        networks: &[Moref],
    ) -> Told<Vec<MissingPrivilege>> {
        let networks = networks.iter().cloned().map(NetworkRef);
        let entities: Vec<Entity> = [
            Entity::Root,
            Entity::Folder(placement.folder.clone()),
            Entity::Pool(placement.pool.clone()),
            Entity::Datastore(placement.datastore.clone()),
        ]
        .into_iter()
        .chain(networks.map(Entity::Network))
        .collect();
        match self.missing_privileges(&entities, &PURPOSES).await {
            Ok(missing) => Told::Known(missing),
            Err(error) => Told::Unknown(error.fault().message),
        }
    }
}

fn site_network(network: VmNetwork) -> Option<SiteNetwork> {
    let nic = match network.kind.as_str() {
        "DistributedVirtualPortgroup" => NicNetwork::Distributed {
            switch_uuid: network.switch_uuid?,
            portgroup_key: network.portgroup_key?,
        },
        _ => NicNetwork::Standard(network.name.clone()),
    };
    Some(SiteNetwork {
        name: display_name(&network.name),
        reference: network.reference,
        network: nic,
    })
}

fn owner(vm: &Properties) -> Option<IdentityOwner> {
    let devices = vm.get("config.hardware.device");
    let devices = devices.map_or(&[][..], |list| &list.children);
    Some(IdentityOwner {
        name: display_name(&vm.text("name")?),
        bios_uuid: vm.text("config.uuid"),
        instance_uuid: vm.text("config.instanceUuid"),
        macs: devices.iter().filter_map(device::mac_address).collect(),
    })
}
