//! What runs need, and how much of it there is.

use stillwater_types::NodeId;

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Its number, counted from zero in the order in which they were told.
            pub const fn number(self) -> u32 {
                self.0
            }

            pub(crate) const fn at(self) -> usize {
                self.0 as usize
            }

            pub(crate) fn of(position: usize) -> Self {
                Self(u32::try_from(position).expect("a state holds fewer than 2^32 of anything"))
            }
        }
    )+};
}

index!(
    /// An ESXi host of the state.
    HostIx,
    /// A datastore of the state.
    DatastoreIx,
    /// A proxy of the state.
    ProxyIx,
    /// A repository of the state.
    RepositoryIx,
    /// A policy of the state.
    PolicyIx,
    /// A job of the state: a policy applied to one VM.
    JobIx,
    /// A VM of the state.
    VmIx,
);

/// How a proxy reads a disk, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// The disk is attached to the proxy.
    HotAdd,
    /// The datastore is mounted by the proxy.
    File,
    /// The host's NFC service.
    Nfc,
    /// A block server beside the storage.
    Nbd,
    /// HTTPS through the host.
    Folder,
}

/// An ESXi host: snapshots on it stun VMs and cost its storage stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// How many VMs of it may be in a run at once.
    pub snapshots_max: u32,
}

/// A datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatastoreFacts {
    /// How many VMs with disks on it may be in a run at once.
    pub snapshots_max: u32,
    /// Whether it has room for snapshots to grow.
    pub has_room: bool,
}

/// A repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// How many runs may write to it at once.
    pub sessions_max: u32,
    /// Whether it takes new points: online, not draining, not full.
    pub accepts: bool,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Names it.
    pub node: NodeId,
    /// How many disks it moves at once.
    pub slots: u32,
    /// Whether it takes work.
    pub standing: Standing,
    /// Which datastores it reads, and how at best.
    pub reach: Vec<(DatastoreIx, Transport)>,
}

/// Whether a proxy takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It does.
    Online,
    /// It ends what it has, and takes nothing new.
    Draining,
    /// It is not heard of: what it has goes to others.
    Lost,
}
