//! What the scheduler has to know of the cluster, as the rest of the controller tells it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_controller_api::ProxyReach;
use stillwater_policy::Policy;
use stillwater_scheduler::{Standing, Transport};
use stillwater_types::{NodeId, VcenterId, VmId};

/// How much of everything runs may take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// VMs of one host in runs.
    pub host_runs: u32,
    /// VMs with disks on one datastore in runs.
    pub datastore_runs: u32,
    /// Runs that write to one repository.
    pub repository_runs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            host_runs: 8,
            datastore_runs: 8,
            repository_runs: 64,
        }
    }
}

/// Which ways to disks the administrator allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways {
    /// Whether disks are attached to the VMs of proxies.
    pub hot_adds: bool,
    /// Whether disks are read through their hosts.
    pub reads_nfc: bool,
    /// Whether they are read where a proxy has mounted their datastore.
    pub reads_files: bool,
    /// Whether they are read from commands of proxies.
    pub reads_nbd: bool,
}

impl Ways {
    /// How a proxy reads disks of a datastore at best, as far as its reach tells.
    pub(crate) fn best(self, reach: &ProxyReach, datastore: &str) -> Transport {
        if self.hot_adds && !reach.vm_uuids.is_empty() {
            return Transport::HotAdd;
        }
        if self.reads_files && reach.datastores.iter().any(|mounted| mounted == datastore) {
            return Transport::File;
        }
        if self.reads_nfc {
            return Transport::Nfc;
        }
        match self.reads_nbd && reach.nbd {
            true => Transport::Nbd,
            false => Transport::Folder,
        }
    }
}

/// The datastore of a file, such as `ds` of `[ds] web/web.vmdk`.
pub(crate) fn datastore_of(file: &str) -> Option<&str> {
    let (name, _) = file.strip_prefix('[')?.split_once(']')?;
    Some(name)
}

/// All policies and whom they are for, as of one look at the vCenters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Promises {
    /// Every policy.
    pub policies: Vec<Promise>,
    /// vCenters that did not answer: what was in scope there still is.
    pub unread: BTreeSet<VcenterId>,
    /// vCenters that did not tell their tags: the same holds for policies that name any.
    pub untagged: BTreeSet<VcenterId>,
}

impl Promises {
    /// Whether nobody knows who is in scope of a policy on a vCenter now.
    pub fn is_unread(&self, policy: &Policy, vcenter: VcenterId) -> bool {
        self.unread.contains(&vcenter)
            || (self.untagged.contains(&vcenter) && policy.scope.tags().next().is_some())
    }
}

/// A policy and whom it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// What was promised.
    pub policy: Arc<Policy>,
    /// Since when.
    pub since: Timestamp,
    /// The VMs in its scope.
    pub members: Vec<Member>,
}

/// A VM in the scope of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which one.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// The name of its host in its vCenter; none while it has none.
    pub host: Option<String>,
    /// Its disks that are protected.
    pub disks: Vec<MemberDisk>,
    /// Its disks that are left out, by device key.
    pub excluded: Vec<i32>,
}

/// A disk that is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDisk {
    /// The device key.
    pub key: i32,
    /// The name of its datastore in its vCenter.
    pub datastore: String,
    /// Its size.
    pub capacity_bytes: u64,
}

/// A repository as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryNow {
    /// Names it.
    pub node: NodeId,
    /// The name that policies have for it.
    pub name: String,
    /// Whether it takes new points.
    pub accepts: bool,
}

/// A proxy as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyNow {
    /// Names it.
    pub node: NodeId,
    /// How many disks it moves at once.
    pub slots: u32,
    /// How many of these runs have taken, whoever asked for them.
    pub taken: u32,
    /// Whether it takes work.
    pub standing: Standing,
    /// By which ways it reaches disks.
    pub reach: ProxyReach,
}

/// The nodes as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodesNow {
    /// Every repository that is a member of the cluster.
    pub repositories: Vec<RepositoryNow>,
    /// Every proxy that is one.
    pub proxies: Vec<ProxyNow>,
}
