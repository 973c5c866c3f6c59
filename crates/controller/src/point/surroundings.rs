//! What a VM lay in and hung on, kept in a point so that a person or a restore can put it back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stillwater_controller_api as api;
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{StoragePolicies, Told, VmNetwork, VmSurroundings};

use crate::run::Around;

/// Largest NVRAM that is kept: EFI has some 270 KiB.
const NVRAM_BYTES_MAX: usize = 1 << 20;
/// Most bytes that it may take packed: a manifest has room for little more.
const PACKED_BYTES_MAX: usize = 256 << 10;
/// Most NVRAMs are empty for the greater part.
const LEVEL: i32 = 9;

/// What a VM lay in and hung on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    /// Product, version and build of the vCenter.
    pub vcenter: String,
    /// Inventory path of the folder or vApp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Inventory path of the resource pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_pool: Option<String>,
    /// Name of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Names of the datastores.
    pub datastores: Vec<String>,
    /// What its cards were plugged into.
    pub networks: Vec<Network>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Its custom attributes.
    pub attributes: Vec<Attribute>,
    /// Id of the storage policy of its own files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_policy: Option<String>,
    /// Ids of the storage policies of its disks.
    pub disk_policies: Vec<Policy>,
    /// Its NVRAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvram: Option<Nvram>,
    /// What could not be read or kept, and why.
    pub remarks: Vec<String>,
}

/// A network that a VM was plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// vSphere's type of it.
    pub kind: String,
    /// Its managed object reference.
    pub reference: String,
    /// Key of a distributed port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portgroup_key: Option<String>,
    /// UUID of the switch of a distributed port group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_uuid: Option<String>,
}

/// A tag that a VM had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Name of its category.
    pub category: String,
    /// Its name.
    pub name: String,
}

/// A custom attribute that a VM had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The storage policy that a disk had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The disk's device key.
    pub key: i32,
    /// The policy's id.
    pub policy: String,
}

/// The file that a VM's firmware remembers in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nvram {
    /// Its file.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its bytes as a zstd frame, in base64.
    pub zstd: String,
}

impl Nvram {
    /// Packs an NVRAM.
    ///
    /// # Errors
    /// Why it is not kept, in words.
    pub fn pack(file: &str, bytes: &[u8]) -> Result<Self, String> {
        let too_large = || format!("the nvram of {} bytes is too large to be kept", bytes.len());
        if bytes.len() > NVRAM_BYTES_MAX {
            return Err(too_large());
        }
        let packed = zstd::bulk::compress(bytes, LEVEL)
            .map_err(|error| format!("the nvram cannot be packed: {error}"))?;
        if packed.len() > PACKED_BYTES_MAX {
            return Err(too_large());
        }
        Ok(Self {
            file: file.to_owned(),
            bytes: bytes.len() as u64,
            zstd: STANDARD.encode(packed),
        })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `MANIFEST_UNREADABLE` when they are not what was packed.
    pub fn unpack(&self) -> Result<Vec<u8>, Fault> {
        let unreadable = |why: String| {
            let message = format!("read the nvram that the point keeps: {why}");
            Fault::new(Reason::ManifestUnreadable, message)
        };
        let packed = STANDARD.decode(&self.zstd);
        let packed = packed.map_err(|error| unreadable(error.to_string()))?;
        let bytes = zstd::bulk::decompress(&packed, NVRAM_BYTES_MAX)
            .map_err(|error| unreadable(error.to_string()))?;
        match bytes.len() as u64 == self.bytes {
            true => Ok(bytes),
            false => Err(unreadable(format!("it has {} bytes", bytes.len()))),
        }
    }
}

impl Surroundings {
    /// What vSphere told of a VM that has files on `datastores`.
    pub fn of(around: Around, datastores: &[String]) -> Self {
        let VmSurroundings {
            folder,
            resource_pool,
            host,
            cluster,
            networks,
            custom_attributes,
            tags,
            storage_policies,
        } = around.surroundings;
        let mut remarks = Vec::new();
        let tags = known(tags, "tags", &mut remarks).unwrap_or_default();
        let tags = tags.into_iter().map(|tag| Tag {
            category: tag.category,
            name: tag.name,
        });
        let attributes = custom_attributes.into_iter().map(|attribute| Attribute {
            name: attribute.name,
            value: attribute.value,
        });
        let policies = known(storage_policies, "storage policies", &mut remarks);
        let StoragePolicies { home, disks } = policies.unwrap_or_default();
        let disks = disks.into_iter();
        Self {
            vcenter: around.vcenter,
            folder,
            resource_pool,
            host,
            cluster,
            datastores: datastores.to_vec(),
            networks: networks.into_iter().map(Network::from).collect(),
            tags: tags.collect(),
            attributes: attributes.collect(),
            home_policy: home,
            disk_policies: disks.map(|(key, policy)| Policy { key, policy }).collect(),
            nvram: None,
            remarks,
        }
    }

    /// The same as the protocol tells it.
    ///
    /// # Errors
    /// `MANIFEST_UNREADABLE` when the NVRAM is not what was packed.
    pub fn told(self) -> Result<api::Surroundings, Fault> {
        let nvram = self.nvram.as_ref().map(Nvram::unpack).transpose()?;
        Ok(api::Surroundings {
            vcenter: self.vcenter,
            folder: self.folder,
            resource_pool: self.resource_pool,
            host: self.host,
            cluster: self.cluster,
            datastores: self.datastores,
            networks: self.networks.into_iter().map(Into::into).collect(),
            tags: self.tags.into_iter().map(Into::into).collect(),
            attributes: self.attributes.into_iter().map(Into::into).collect(),
            home_policy: self.home_policy,
            disk_policies: self.disk_policies.into_iter().map(Into::into).collect(),
            nvram_file: self.nvram.map(|nvram| nvram.file),
            nvram: nvram.unwrap_or_default().into(),
            remarks: self.remarks,
        })
    }
}

fn known<T>(told: Told<T>, what: &str, remarks: &mut Vec<String>) -> Option<T> {
    match told {
        Told::Known(known) => Some(known),
        Told::Unknown(why) => {
            remarks.push(format!("{what} could not be read: {why}"));
            None
        }
    }
}

impl From<VmNetwork> for Network {
    fn from(network: VmNetwork) -> Self {
        let VmNetwork {
            kind,
            reference,
            name,
            portgroup_key,
            switch_uuid,
        } = network;
        Self {
            name,
            kind,
            reference,
            portgroup_key,
            switch_uuid,
        }
    }
}

impl From<Network> for api::PointNetwork {
    fn from(network: Network) -> Self {
        let Network {
            name,
            kind,
            reference,
            portgroup_key,
            switch_uuid,
        } = network;
        Self {
            name,
            kind,
            reference,
            portgroup_key,
            switch_uuid,
        }
    }
}

impl From<Tag> for api::PointTag {
    fn from(Tag { category, name }: Tag) -> Self {
        Self { category, name }
    }
}

impl From<Attribute> for api::PointAttribute {
    fn from(Attribute { name, value }: Attribute) -> Self {
        Self { name, value }
    }
}

impl From<Policy> for api::PointPolicy {
    fn from(Policy { key, policy }: Policy) -> Self {
        let disk_key = key;
        Self { disk_key, policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], is_kept: bool) {
        let packed = Nvram::pack("[ds] web/web.nvram", bytes);
        assert_eq!(packed.is_ok(), is_kept, "{} bytes", bytes.len());
        if let Ok(packed) = packed {
            assert_eq!(packed.unpack().as_deref(), Ok(bytes));
        }
    }

    /// What nothing packs.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn an_nvram_comes_back_as_it_was_unless_it_is_too_large() {
        check(&[], true);
        check(&noise(8 << 10), true);
        check(&[0xff; NVRAM_BYTES_MAX], true);
        check(&[0xff; NVRAM_BYTES_MAX + 1], false);
        check(&noise(PACKED_BYTES_MAX + 1), false);
    }

    #[test]
    fn an_nvram_that_is_not_what_was_packed_is_not_given_out() {
        let packed = Nvram::pack("f", &[1, 2, 3]).unwrap();
        let longer = Nvram {
            bytes: 4,
            ..packed.clone()
        };
        let broken = Nvram {
            zstd: "AAAA".to_owned(),
            ..packed
        };
        for nvram in [longer, broken] {
            let fault = nvram.unpack().unwrap_err();
            assert_eq!(fault.reason, Reason::ManifestUnreadable);
        }
    }
}
