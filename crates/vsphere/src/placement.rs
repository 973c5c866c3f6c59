//! Where a new VM goes.

use crate::{DatastoreRef, FolderRef, HostRef, PoolRef};

/// Where a person wants a new VM. Each may be a name or an inventory path (`/DC0/vm/web`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlacementSpec {
    /// The datastore.
    pub datastore: String,
    /// The datacenter, when the datastore's name is in several.
    pub datacenter: Option<String>,
    /// The VM folder; the datacenter's own when none.
    pub folder: Option<String>,
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
