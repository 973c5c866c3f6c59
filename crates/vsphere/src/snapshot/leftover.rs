//! What a removal of snapshots may leave behind: files that no snapshot explains.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::Client;
use crate::device::disks;
use crate::xml::Element;
use crate::{Result, SnapshotInfo, SnapshotRef, VmDisk, VmRef};

/// Files of a VM's disks that wait to be merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmerged {
    /// Whether vSphere itself says that the VM's disks need consolidation.
    pub is_told: bool,
    /// Deltas below one disk that no snapshot explains, at most. vSphere does not always tell of them.
    pub deltas: usize,
}

impl Unmerged {
    /// Whether there is nothing to merge.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Client {
    /// What of a VM's disks waits to be merged.
    pub async fn unmerged(&self, vm: &VmRef) -> Result<Unmerged> {
        let paths = [
            "snapshot",
            "runtime.consolidationNeeded",
            "config.hardware.device",
        ];
        let read = self.read_vm(vm, &paths).await?;
        let snapshots = read.seen("snapshot")?.map(super::tree).transpose();
        let snapshots = snapshots.map_err(|problem| read.bad(problem))?;
        let devices: Vec<Element> = read.need("config.hardware.device")?.children.clone();
        let disks = disks(&devices).map_err(|problem| read.bad(problem))?;
        let told = read.text("runtime.consolidationNeeded");
        Ok(Unmerged {
            is_told: told.is_some_and(|told| told == "true"),
            deltas: unexplained(&disks, &snapshots.unwrap_or_default()),
        })
    }

    /// Waits until the VM's tasks that make, remove or merge snapshots have ended, whoever began them and
    /// however they end. A removal cannot be cancelled and may take hours.
    pub async fn settle_snapshot_tasks(&self, vm: &VmRef, timeout: Duration) -> Result<()> {
        self.settle_tasks(vm, is_of_snapshots, timeout).await
    }
}

/// Whether a task's description, in lower case, is of making, removing or merging snapshots, such as
/// `virtualmachine.createsnapshot` or `vm.snapshot.remove`.
fn is_of_snapshots(description: &str) -> bool {
    let is_removal = description.contains("snapshot") && description.contains("remove");
    description.contains("createsnapshot") || is_removal || description.contains("consolidate")
}

/// The most deltas below one disk that are more than the snapshots that the VM stands on.
fn unexplained(disks: &[VmDisk], snapshots: &[SnapshotInfo]) -> usize {
    let explained = depth(snapshots);
    let deltas = disks.iter().map(deltas);
    deltas.max().unwrap_or(0).saturating_sub(explained)
}

/// How many snapshots the VM's disks stand on.
fn depth(snapshots: &[SnapshotInfo]) -> usize {
    let parents: BTreeMap<&SnapshotRef, Option<&SnapshotRef>> = snapshots
        .iter()
        .map(|info| (&info.snapshot, info.parent.as_ref()))
        .collect();
    let current = snapshots.iter().find(|info| info.is_current);
    let line = std::iter::successors(current.map(|info| &info.snapshot), |at| {
        parents.get(at).copied().flatten()
    });
    // A tree that runs in a circle is none that a server makes.
    line.take(snapshots.len()).count()
}

/// The deltas of a disk in its own directory. What lies elsewhere is shared, as the base of a linked clone is.
fn deltas(disk: &VmDisk) -> usize {
    let home = directory(&disk.file_name);
    let below = disk.traits.parents.iter();
    below.take_while(|file| directory(file) == home).count()
}

fn directory(file: &str) -> &str {
    file.rsplit_once('/')
        .map_or(file, |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(files: &[&str]) -> VmDisk {
        let levels = files.iter().rev().fold(String::new(), |below, file| {
            let parent = match below.is_empty() {
                true => String::new(),
                false => format!("<parent>{below}</parent>"),
            };
            format!("<fileName>{file}</fileName>{parent}<diskMode>persistent</diskMode>")
        });
        let xml = format!(
            r#"<val xmlns:x="i"><device x:type="VirtualDisk"><key>2000</key><backing x:type="VirtualDiskFlatVer2BackingInfo">{levels}</backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>4</capacityInKB></device></val>"#
        );
        let devices = Element::parse(&xml).expect("reads").children;
        disks(&devices).expect("disks").remove(0)
    }

    fn snapshot(name: &str, parent: Option<&str>, is_current: bool) -> SnapshotInfo {
        SnapshotInfo {
            snapshot: SnapshotRef::new(name),
            name: name.into(),
            description: String::new(),
            created_at: String::new(),
            quiesced: false,
            parent: parent.map(SnapshotRef::new),
            is_current,
            backup_manifest: None,
        }
    }

    #[track_caller]
    fn check(files: &[&str], snapshots: &[SnapshotInfo], expected: usize) {
        assert_eq!(unexplained(&[disk(files)], snapshots), expected);
    }

    #[test]
    fn a_delta_without_a_snapshot_is_unexplained() {
        check(&["[ds] a/a.vmdk"], &[], 0);
        check(&["[ds] a/a-000001.vmdk", "[ds] a/a.vmdk"], &[], 1);
    }

    #[test]
    fn each_snapshot_that_the_vm_stands_on_explains_one_delta() {
        let chain = [
            "[ds] a/a-000002.vmdk",
            "[ds] a/a-000001.vmdk",
            "[ds] a/a.vmdk",
        ];
        let one = snapshot("one", None, true);
        check(&chain, &[one], 1);
        let two = [
            snapshot("one", None, false),
            snapshot("two", Some("one"), true),
        ];
        check(&chain, &two, 0);
        // Gone back to the first: the second is a branch that the disks do not stand on.
        let back = [
            snapshot("one", None, true),
            snapshot("two", Some("one"), false),
        ];
        check(&chain, &back, 1);
        // A disk that came after the snapshots has fewer deltas.
        check(&["[ds] a/new.vmdk"], &two, 0);
    }

    #[test]
    fn the_shared_base_of_a_linked_clone_is_no_leftover() {
        check(&["[ds] clone/clone.vmdk", "[ds] gold/gold.vmdk"], &[], 0);
    }

    #[test]
    fn tasks_of_snapshots_are_told_from_others() {
        for of_snapshots in [
            "virtualmachine.createsnapshot",
            "virtualmachine.removesnapshot",
            "virtualmachine.removeallsnapshots",
            "vm.snapshot.remove",
            "virtualmachine.consolidatevmdisks",
        ] {
            assert!(is_of_snapshots(of_snapshots), "{of_snapshots}");
        }
        for other in [
            "virtualmachine.reconfigure",
            "virtualmachine.relocate",
            "folder.removefromdisk",
        ] {
            assert!(!is_of_snapshots(other), "{other}");
        }
    }
}
