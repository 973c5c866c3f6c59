//! What a point keeps of its VM besides disks.

use bytes::Bytes;

/// The configuration that a point keeps of its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointConfiguration {
    /// The frozen VM's configuration as vSphere wrote it, with its type names.
    pub config_xml: String,
    /// What the VM lay in and hung on; none in points of releases that kept none.
    pub surroundings: Option<Surroundings>,
}

/// What a VM lay in and hung on when a point was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Product, version and build of the vCenter.
    pub vcenter: String,
    /// Inventory path of the folder or vApp.
    pub folder: Option<String>,
    /// Inventory path of the resource pool.
    pub resource_pool: Option<String>,
    /// Name of the host.
    pub host: Option<String>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Names of the datastores.
    pub datastores: Vec<String>,
    /// What its cards were plugged into.
    pub networks: Vec<PointNetwork>,
    /// Its tags.
    pub tags: Vec<PointTag>,
    /// Its custom attributes.
    pub attributes: Vec<PointAttribute>,
    /// Id of the storage policy of its own files.
    pub home_policy: Option<String>,
    /// Ids of the storage policies of its disks.
    pub disk_policies: Vec<PointPolicy>,
    /// The file of its NVRAM.
    pub nvram_file: Option<String>,
    /// The NVRAM, if it is kept.
    pub nvram: Bytes,
    /// What could not be read, and why.
    pub remarks: Vec<String>,
}

/// A network that a VM was plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointNetwork {
    /// Its name.
    pub name: String,
    /// vSphere's type of it.
    pub kind: String,
    /// Its managed object reference.
    pub reference: String,
    /// Key of a distributed port group.
    pub portgroup_key: Option<String>,
    /// UUID of the switch of a distributed port group.
    pub switch_uuid: Option<String>,
}

/// A tag that a VM had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointTag {
    /// Name of its category.
    pub category: String,
    /// Its name.
    pub name: String,
}

/// A custom attribute that a VM had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The storage policy that a disk had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointPolicy {
    /// The disk's device key.
    pub disk_key: i32,
    /// The policy's id.
    pub policy: String,
}
