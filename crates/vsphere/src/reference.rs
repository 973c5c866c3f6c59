//! Managed object references: one type per kind of object, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A managed object of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Moref {
    /// Such as `VirtualMachine`.
    pub kind: String,
    /// Such as `vm-42`.
    pub value: String,
}

impl Moref {
    pub(crate) fn new(kind: &str, value: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            value: value.to_owned(),
        }
    }
}

macro_rules! reference {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the value of a managed object reference.
            pub fn new(value: impl Into<String>) -> Self {
                Self(value.into())
            }

            /// The reference's value, as vCenter's logs write it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            #[allow(dead_code)] // Not every kind of object is called upon.
            pub(crate) fn moref(&self) -> Moref {
                Moref::new($kind, &self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

reference!(
    /// A virtual machine, such as `vm-42`.
    VmRef, "VirtualMachine"
);
reference!(
    /// A snapshot, such as `snapshot-43`.
    SnapshotRef, "VirtualMachineSnapshot"
);
reference!(
    /// A task, such as `task-44`.
    TaskRef, "Task"
);
reference!(
    /// A datastore.
    DatastoreRef, "Datastore"
);
reference!(
    /// A folder of the inventory.
    FolderRef, "Folder"
);
reference!(
    /// A resource pool.
    PoolRef, "ResourcePool"
);
reference!(
    /// A host.
    HostRef, "HostSystem"
);

/// A network of any kind: a standard one, a distributed port group, or one that another product manages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkRef(pub(crate) Moref);

impl NetworkRef {
    /// A standard network of this reference.
    pub fn standard(value: &str) -> Self {
        Self(Moref::new("Network", value))
    }

    /// The reference's value, as vCenter's logs write it.
    pub fn as_str(&self) -> &str {
        &self.0.value
    }
}

impl fmt::Display for NetworkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A managed object that our account must have rights on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// The root of the inventory.
    Root,
    /// A VM.
    Vm(VmRef),
    /// A datastore.
    Datastore(DatastoreRef),
    /// A folder of VMs.
    Folder(FolderRef),
    /// A resource pool.
    Pool(PoolRef),
    /// A network.
    Network(NetworkRef),
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entity::Root => f.write_str("the root of the inventory"),
            Entity::Vm(vm) => write!(f, "vm {vm}"),
            Entity::Datastore(datastore) => write!(f, "datastore {datastore}"),
            Entity::Folder(folder) => write!(f, "folder {folder}"),
            Entity::Pool(pool) => write!(f, "resource pool {pool}"),
            Entity::Network(network) => write!(f, "network {network}"),
        }
    }
}
