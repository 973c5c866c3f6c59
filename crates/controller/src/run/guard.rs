//! Guards: what must hold before a VM is frozen, so that its protection does no harm.
//!
//! Pure functions of what vSphere told. `preflight` asks them for an administrator, and a run when it is
//! planned; the numbers are the administrator's.

use std::time::Duration;

use jiff::Timestamp;
use stillwater_types::ClusterId;
use stillwater_vsphere::{DatastoreFacts, SnapshotInfo, Vm};

use super::lease::Lease;
use crate::preflight::Verdict;

/// As many as VMware advises to have at most.
const FOREIGN_ADVISED: usize = 3;

/// How careful to be with VMs, hosts and datastores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// A datastore with less free than this part of it, in percent, is warned of.
    pub headroom_percent: u32,
    /// One with less than this refuses the run.
    pub headroom_min_percent: u32,
    /// How much of a disk is expected to be written while its snapshot lives, in percent of its size.
    pub delta_percent: u32,
    /// A VM with more snapshots that are not ours refuses the run.
    pub foreign_count_max: u32,
    /// A snapshot that is not ours and older than this is warned of.
    pub foreign_age_max: Duration,
    /// A run whose snapshot grows older than this is ended.
    pub snapshot_age_max: Duration,
    /// Snapshots that are made or removed at once on the VMs of one host.
    pub host_tasks: u32,
    /// The same of VMs with files on one datastore.
    pub datastore_tasks: u32,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            headroom_percent: 10,
            headroom_min_percent: 5,
            delta_percent: 1,
            // A chain of 32 is the most that vSphere bears, and deep ones are slow long before.
            foreign_count_max: 24,
            foreign_age_max: Duration::from_secs(3 * 24 * 3600),
            // Longer than any backup should take, and well before the lease ends.
            snapshot_age_max: Duration::from_secs(20 * 3600),
            host_tasks: 4,
            datastore_tasks: 4,
        }
    }
}

/// What a guard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What it comes to; blocked refuses the run.
    pub verdict: Verdict,
    /// What was found, and what to do.
    pub message: String,
}

impl Judgement {
    fn new(verdict: Verdict, message: String) -> Self {
        Self { verdict, message }
    }
}

impl Guards {
    /// Whether a datastore has room for what is written while the VM's snapshot lives.
    ///
    /// What is written meanwhile goes to deltas beside the disks, and merging them can take as much
    /// once more. A datastore that runs full stops every VM on it.
    pub fn headroom(&self, vm: &Vm, datastore: &DatastoreFacts) -> Judgement {
        let DatastoreFacts {
            capacity_bytes,
            free_bytes,
            ref name,
            ..
        } = *datastore;
        let delta = part(frozen_bytes(vm, name), self.delta_percent);
        let least = part(capacity_bytes, self.headroom_min_percent).max(delta);
        let good = part(capacity_bytes, self.headroom_percent).max(delta.saturating_mul(2));
        let free = mib(free_bytes);
        match free_bytes {
            free_bytes if free_bytes < least => Judgement::new(
                Verdict::Blocked,
                format!(
                    "only {free} MiB are free and a snapshot needs {} MiB to be safe; make room, or change `guards.headroom-min-percent`",
                    mib(least)
                ),
            ),
            free_bytes if free_bytes < good => Judgement::new(
                Verdict::Warning,
                format!(
                    "{free} MiB are free, less than the {} MiB that snapshots should have; make room",
                    mib(good)
                ),
            ),
            _ => Judgement::new(Verdict::Ok, format!("{free} MiB are free for snapshots")),
        }
    }

    /// Whether the VM bears one more snapshot on those that others made.
    pub fn foreign(&self, vm: &Vm, cluster: ClusterId, now: Timestamp) -> Judgement {
        let foreign = foreign_snapshots(vm, cluster);
        let count = foreign.len();
        if u32::try_from(count).unwrap_or(u32::MAX) > self.foreign_count_max {
            return Judgement::new(
                Verdict::Blocked,
                format!(
                    "the vm has {count} snapshots that are not ours, more than {}; remove some, or change `guards.foreign-snapshots`",
                    self.foreign_count_max
                ),
            );
        }
        let age = |snapshot: &&SnapshotInfo| {
            let age = now.duration_since(snapshot.created()?);
            Duration::try_from(age).ok()
        };
        let oldest = foreign.iter().filter_map(age).max().unwrap_or_default();
        match count {
            0 => Judgement::new(Verdict::Ok, "the vm has no snapshots of others".to_owned()),
            _ if oldest > self.foreign_age_max => Judgement::new(
                Verdict::Warning,
                format!(
                    "the vm has a snapshot that is not ours and {} hours old: it grows and slows the vm; remove it",
                    oldest.as_secs() / 3600
                ),
            ),
            _ if count > FOREIGN_ADVISED => Judgement::new(
                Verdict::Warning,
                format!(
                    "the vm has {count} snapshots that are not ours, which slow it; remove those that nobody needs"
                ),
            ),
            _ => Judgement::new(
                Verdict::Ok,
                format!("the vm has {count} snapshots that are not ours"),
            ),
        }
    }
}

/// The snapshots that no run of this cluster made.
pub fn foreign_snapshots(vm: &Vm, cluster: ClusterId) -> Vec<&SnapshotInfo> {
    let is_ours = |snapshot: &&SnapshotInfo| {
        Lease::find(&snapshot.description).is_some_and(|lease| lease.cluster == cluster)
    };
    let foreign = vm.snapshots.iter().filter(|snapshot| !is_ours(snapshot));
    foreign.collect()
}

/// Size of the disks on a datastore that a snapshot freezes.
fn frozen_bytes(vm: &Vm, datastore: &str) -> u64 {
    let is_there = |file: &str| {
        let named = file.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        named.is_some_and(|(name, _)| name == datastore)
    };
    vm.disks
        .iter()
        .filter(|disk| disk.protectability.is_protectable() && is_there(&disk.file_name))
        .fold(0, |sum: u64, disk| sum.saturating_add(disk.capacity_bytes))
}

/// So many percent of `whole`, without overflow.
fn part(whole: u64, percent: u32) -> u64 {
    (whole / 100).saturating_mul(u64::from(percent))
}

const fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests;
