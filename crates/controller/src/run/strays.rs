//! Disks that are attached to VMs of proxies, and half-made VMs, of which no journal tells.
//!
//! A disk is ours to detach when it stands on just the file that a snapshot with our lease froze, the lease is over,
//! and it is attached to the VM of a proxy of ours, as runs and probes attach what they read. Nothing else proves
//! anything: another product may use the same machine. What cannot be proved is told, and left alone.

use std::collections::{BTreeMap, BTreeSet};

use stillwater_types::{Fault, Kind, Reason, Role, VcenterId, VmId};

use super::act::{World, detach};
use super::event::Attachment;
use super::outside::{LeasedFiles, LeasedSnapshot, Visitor};

/// What is told of VMs, by VM.
pub(super) type Told = BTreeMap<VmId, String>;

/// Whether a disk was attached to read what a snapshot of `vm` with the lease froze.
pub(super) fn stands_on(visitor: &Visitor, vm: &VmId, leased: &LeasedFiles) -> bool {
    let Visitor {
        on,
        files,
        is_read_only,
        ..
    } = visitor;
    // The VM has what it runs on itself, and a proxy may be protected like any other.
    if on == vm || !is_read_only {
        return false;
    }
    let frozen = files.iter().position(|file| leased.frozen.contains(file));
    let above = frozen.and_then(|at| files.get(..at));
    // Above it, vSphere puts a log of the attached disk's own. A file of the VM there is a later snapshot's, and
    // whoever attached that wants another state than ours.
    above.is_some_and(|above| !above.iter().any(|file| leased.all.contains(file)))
}

/// Detaches what stands on the snapshots of a lease that is over.
///
/// # Errors
/// When that fails, and when such a disk is attached to a VM that is not known to be a proxy's: removing the snapshot
/// would leave it standing on nothing.
pub(super) async fn sweep(world: &World, found: &LeasedSnapshot) -> Result<(), Fault> {
    let LeasedSnapshot { vm, lease } = found;
    let visitors = world.vsphere.visitors(vm.vcenter).await?;
    if visitors.is_empty() {
        return Ok(());
    }
    let leased = world.vsphere.leased_files(vm, lease).await?;
    let ours = visitors
        .into_iter()
        .filter(|visitor| stands_on(visitor, vm, &leased));
    let ours: Vec<Visitor> = ours.collect();
    if ours.is_empty() {
        return Ok(());
    }
    let proxies = proxies(world, vm.vcenter).await?;
    let mut elsewhere = None;
    for visitor in ours {
        match (proxies.contains(&visitor.on), visitor.files.first()) {
            (true, Some(file)) => {
                let to = Attachment {
                    vm: visitor.on.clone(),
                    file: file.clone(),
                };
                tracing::warn!(vm.id = %vm, run.id = %lease.run, proxy.vm = %visitor.on_name, file, "detaching a disk that was left attached");
                detach(world, [&to]).await?;
            }
            _ => elsewhere = Some(visitor),
        }
    }
    elsewhere.map_or(Ok(()), |visitor| Err(unknown_place(&visitor)))
}

fn unknown_place(visitor: &Visitor) -> Fault {
    let words = format!(
        "{} stands on the snapshot and is attached to vm {}, which no proxy has said to run in: start that proxy, or {}",
        file(visitor),
        visitor.on_name,
        command(visitor)
    );
    Fault::new(Reason::VcenterTaskFailed, words)
}

fn file(visitor: &Visitor) -> &str {
    visitor.files.first().map_or("a disk", String::as_str)
}

fn command(visitor: &Visitor) -> String {
    format!(
        "detach it and keep its files: govc device.remove -vm {:?} -keep {}",
        visitor.on_name, visitor.device
    )
}

/// The VMs that proxies run in, as far as they have said.
async fn proxies(world: &World, vcenter: VcenterId) -> Result<BTreeSet<VmId>, Fault> {
    let state = world.memory.state();
    let members = state.nodes.iter();
    let members = members.filter(|node| node.role == Role::Proxy && node.removed_at.is_none());
    let mut vms = BTreeSet::new();
    for node in members {
        let Ok(proxy) = world.nodes.member(node.node) else {
            continue;
        };
        let uuids = &proxy.reach.vm_uuids;
        if !uuids.is_empty() {
            vms.extend(world.vsphere.vm_of_proxy(vcenter, uuids).await?);
        }
    }
    Ok(vms)
}

/// Disks of other VMs that are attached to VMs of proxies, and that neither a run nor a lease explains.
pub(super) async fn search(
    world: &World,
    vcenter: VcenterId,
    leased: &[LeasedSnapshot],
) -> Result<Told, Fault> {
    let proxies = proxies(world, vcenter).await?;
    if proxies.is_empty() {
        return Ok(Told::new());
    }
    // Of a run that begins or ends meanwhile, one of both knows.
    let mut journalled = attachments(world);
    let mut visitors = world.vsphere.visitors(vcenter).await?;
    journalled.extend(attachments(world));
    visitors.retain(|visitor| {
        let is_journalled =
            |to: &Attachment| to.vm == visitor.on && visitor.files.contains(&to.file);
        proxies.contains(&visitor.on)
            && visitor.owner.is_some()
            && !journalled.iter().any(is_journalled)
    });
    for LeasedSnapshot { vm, lease } in leased {
        if visitors.is_empty() {
            break;
        }
        if lease.cluster == world.cluster {
            let files = match world.vsphere.leased_files(vm, lease).await {
                Err(fault) if fault.kind() == Kind::NotFound => continue,
                files => files?,
            };
            visitors.retain(|visitor| !stands_on(visitor, vm, &files));
        }
    }
    Ok(tell(&visitors))
}

fn attachments(world: &World) -> BTreeSet<Attachment> {
    let state = world.memory.state();
    let runs = state.runs.iter();
    runs.flat_map(|run| run.attachments.union(&run.left_attached).cloned())
        .collect()
}

fn tell(visitors: &[Visitor]) -> Told {
    let mut told = Told::new();
    for visitor in visitors {
        let owner = visitor.owner.as_deref().unwrap_or_default();
        let words = format!(
            "{} of vm {owner} is attached to the vm of a proxy, and no run is known that did it; if nobody else uses it, {}",
            file(visitor),
            command(visitor)
        );
        let all: &mut String = told.entry(visitor.on.clone()).or_default();
        if !all.is_empty() {
            all.push_str("; ");
        }
        all.push_str(&words);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(moref: &str) -> VmId {
        VmId {
            vcenter: VcenterId::from_bytes([2; 16]),
            moref: moref.into(),
        }
    }

    fn names(files: &[&str]) -> Vec<String> {
        files.iter().map(|&file| file.to_owned()).collect()
    }

    /// A snapshot of `web` froze `web-000001`; the vm runs on `web-000003`, with somebody's snapshot between.
    #[track_caller]
    fn check(expected: bool, files: &[&str], change: impl FnOnce(&mut Visitor)) {
        let mut visitor = Visitor {
            on: vm("proxy"),
            on_name: "proxy".into(),
            device: "disk-1000-1".into(),
            files: names(files),
            is_read_only: true,
            owner: Some("web".into()),
        };
        change(&mut visitor);
        let all = ["web-000003", "web-000002", "web-000001", "web"];
        let leased = LeasedFiles {
            frozen: names(&["web-000001"]).into_iter().collect(),
            all: names(&all).into_iter().collect(),
        };
        assert_eq!(
            stands_on(&visitor, &vm("web"), &leased),
            expected,
            "{visitor:?}"
        );
    }

    #[test]
    fn only_a_disk_that_reads_just_what_was_frozen_is_ours() {
        check(true, &["web-000001", "web"], |_| {});
        check(true, &["web-000001.REDO_1", "web-000001", "web"], |_| {});
        // What another snapshot froze, before and after ours.
        check(false, &["web"], |_| {});
        check(false, &["web.REDO_1", "web"], |_| {});
        check(false, &["web-000002", "web-000001", "web"], |_| {});
        check(
            false,
            &["web-000002.REDO_1", "web-000002", "web-000001", "web"],
            |_| {},
        );
        check(false, &["db"], |_| {});
        check(false, &[], |_| {});
    }

    #[test]
    fn neither_a_disk_that_is_written_nor_one_of_the_vm_itself_is_ours() {
        let files = &["web-000001", "web"];
        check(false, files, |visitor| visitor.is_read_only = false);
        check(false, files, |visitor| visitor.on = vm("web"));
    }
}
