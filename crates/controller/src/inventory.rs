//! VMs as their vCenters know them now, and which of them a text names.

use std::sync::Arc;

use futures::future::try_join_all;
use stillwater_controller_api as api;
use stillwater_types::{ClusterId, Fault, Reason, VcenterId, VmId};
use stillwater_vsphere::{Power, SnapshotInfo, Tools, Vm, VmRef, VmSummary};

use crate::memory::Memory;
use crate::run::Lease;
use crate::vcenter::{Sessions, Vcenter};

/// How many inventory paths an ambiguous name is answered with.
const PATHS_TOLD_MAX: usize = 20;

/// Lists and finds VMs; clones share the sessions.
#[derive(Clone)]
pub struct Inventory {
    cluster: ClusterId,
    memory: Memory,
    sessions: Sessions,
}

/// The one VM that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its id.
    pub vm: VmId,
    /// Its name now.
    pub name: String,
    /// Its inventory path now.
    pub path: String,
    /// The name of its vCenter.
    pub vcenter_name: String,
}

impl Inventory {
    /// Asks through `sessions`; snapshots with a lease of `cluster` are ours.
    pub fn new(cluster: ClusterId, memory: Memory, sessions: Sessions) -> Self {
        Self {
            cluster,
            memory,
            sessions,
        }
    }

    /// The VMs of every vCenter, or of the one that `vcenter` names by id or name.
    ///
    /// One vCenter that does not answer fails the list: a list that silently lacks VMs would be
    /// taken for the whole.
    pub async fn list(&self, vcenter: Option<&str>) -> Result<Vec<api::VmSummary>, Fault> {
        let mut vms = Vec::new();
        for (vcenter, found) in self.inventories(vcenter).await? {
            vms.extend(found.into_iter().map(|vm| summary(&vcenter, vm)));
        }
        Ok(vms)
    }

    /// The VM that `text` names by id, inventory path or name.
    ///
    /// # Errors
    /// `VM_NOT_FOUND`; `VM_AMBIGUOUS` with the paths that fit; those of the vCenters: while one of
    /// them does not answer, nobody knows whether a name is unique.
    pub async fn resolve(&self, text: &str) -> Result<Located, Fault> {
        if let Ok(id) = text.parse::<VmId>() {
            let (vcenter, vm) = self.read(&id).await?;
            let Vm { name, path, .. } = vm;
            return Ok(Located {
                vm: id,
                name,
                path,
                vcenter_name: vcenter.name.clone(),
            });
        }
        let mut fitting = Vec::new();
        for (vcenter, found) in self.inventories(None).await? {
            let named = found
                .into_iter()
                .filter(|vm| fits(text, &vm.name, &vm.path));
            fitting.extend(named.map(|vm| located(&vcenter, vm)));
        }
        only(text, fitting)
    }

    /// The VM that `text` names, read afresh.
    pub async fn show(&self, text: &str) -> Result<api::Vm, Fault> {
        let id = match text.parse::<VmId>() {
            Ok(id) => id,
            Err(_) => self.resolve(text).await?.vm,
        };
        let (vcenter, vm) = self.read(&id).await?;
        Ok(self.describe(&vcenter, vm))
    }

    async fn read(&self, id: &VmId) -> Result<(Arc<Vcenter>, Vm), Fault> {
        let state = self.memory.state();
        // An id of a vCenter that is not registered names no VM that anybody could find.
        let vcenter = state
            .vcenters
            .find(id.vcenter)
            .map_err(|_| not_found(&id.to_string()))?;
        let client = self.sessions.client(id.vcenter).await?;
        let vm = client
            .vm(&VmRef::new(&id.moref))
            .await
            .map_err(|e| of(vcenter, e.into()))?;
        Ok((vcenter.clone(), vm))
    }

    async fn inventories(
        &self,
        vcenter: Option<&str>,
    ) -> Result<Vec<(Arc<Vcenter>, Vec<VmSummary>)>, Fault> {
        let state = self.memory.state();
        let vcenters: Vec<_> = match vcenter {
            Some(text) => vec![state.vcenters.resolve(text)?.clone()],
            None => state.vcenters.iter().cloned().collect(),
        };
        try_join_all(vcenters.into_iter().map(|vcenter| async {
            let client = self.sessions.client(vcenter.vcenter).await?;
            let found = client
                .inventory()
                .await
                .map_err(|error| of(&vcenter, error.into()))?;
            Ok((vcenter, found))
        }))
        .await
    }

    fn describe(&self, vcenter: &Vcenter, vm: Vm) -> api::Vm {
        let disks: Vec<_> = vm.disks.iter().map(disk).collect();
        api::Vm {
            summary: api::VmSummary {
                vm_id: id(vcenter.vcenter, &vm.vm),
                name: vm.name,
                path: vm.path,
                vcenter_name: vcenter.name.clone(),
                power: power(vm.power).to_owned(),
                change_tracking: vm.cbt_enabled,
                disk_count: u32::try_from(disks.len()).unwrap_or(u32::MAX),
            },
            guest_id: vm.guest_id,
            tools: tools(vm.tools).to_owned(),
            disks,
            snapshots: vm
                .snapshots
                .into_iter()
                .map(|info| self.snapshot(info))
                .collect(),
        }
    }

    fn snapshot(&self, info: SnapshotInfo) -> api::VmSnapshot {
        let lease = Lease::find(&info.description);
        api::VmSnapshot {
            name: info.name,
            created_at: info.created_at,
            ours: lease.is_some_and(|lease| lease.cluster == self.cluster),
        }
    }
}

/// A text with a slash is a path, any other a name: no VM is found by half of its path.
fn fits(text: &str, name: &str, path: &str) -> bool {
    match text.starts_with('/') {
        true => path == text.trim_end_matches('/'),
        false => name == text,
    }
}

fn only(text: &str, mut fitting: Vec<Located>) -> Result<Located, Fault> {
    match (fitting.pop(), fitting.is_empty()) {
        (None, _) => Err(not_found(text)),
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            fitting.push(last);
            Err(ambiguous(text, &fitting))
        }
    }
}

fn not_found(text: &str) -> Fault {
    let message = format!(
        "no vm {text:?} is in a registered vcenter; `stillwater vm list` shows what there is"
    );
    Fault::new(Reason::VmNotFound, message).with("vm", text)
}

fn ambiguous(text: &str, fitting: &[Located]) -> Fault {
    let told = |vm: &Located| format!("{} ({}, {})", vm.path, vm.vcenter_name, vm.vm);
    let mut paths: Vec<_> = fitting.iter().take(PATHS_TOLD_MAX).map(told).collect();
    if let Some(more) = fitting
        .len()
        .checked_sub(PATHS_TOLD_MAX)
        .filter(|more| *more > 0)
    {
        paths.push(format!("and {more} more"));
    }
    let message = format!(
        "{text:?} names {} vms; use the path or the id of one: {}",
        fitting.len(),
        paths.join("; ")
    );
    let mut fault = Fault::new(Reason::VmAmbiguous, message).with("vm", text);
    for (at, vm) in (1..).zip(fitting.iter().take(PATHS_TOLD_MAX)) {
        fault = fault
            .with(&format!("path_{at}"), &vm.path)
            .with(&format!("id_{at}"), &vm.vm);
    }
    fault
}

fn of(vcenter: &Vcenter, fault: Fault) -> Fault {
    fault.with("vcenter", &vcenter.name)
}

fn located(vcenter: &Vcenter, vm: VmSummary) -> Located {
    let VmSummary { vm, name, path, .. } = vm;
    Located {
        vm: id(vcenter.vcenter, &vm),
        name,
        path,
        vcenter_name: vcenter.name.clone(),
    }
}

fn summary(vcenter: &Vcenter, vm: VmSummary) -> api::VmSummary {
    api::VmSummary {
        vm_id: id(vcenter.vcenter, &vm.vm),
        name: vm.name,
        path: vm.path,
        vcenter_name: vcenter.name.clone(),
        power: power(vm.power).to_owned(),
        change_tracking: vm.cbt,
        disk_count: u32::try_from(vm.disk_count).unwrap_or(u32::MAX),
    }
}

fn disk(disk: &stillwater_vsphere::VmDisk) -> api::VmDisk {
    api::VmDisk {
        key: disk.key,
        label: disk.label.clone(),
        capacity_bytes: disk.capacity_bytes,
        file: disk.file_name.clone(),
        unprotectable: disk.protectability.obstacle(),
    }
}

fn id(vcenter: VcenterId, vm: &VmRef) -> VmId {
    VmId {
        vcenter,
        moref: vm.as_str().to_owned(),
    }
}

const fn power(power: Power) -> &'static str {
    match power {
        Power::On => "poweredOn",
        Power::Off => "poweredOff",
        Power::Suspended => "suspended",
    }
}

const fn tools(tools: Tools) -> &'static str {
    match tools {
        Tools::Running => "running",
        Tools::NotRunning => "not running",
        Tools::ExecutingScripts => "executing scripts",
        Tools::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(path: &str) -> Located {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let vm = VmId {
            vcenter: VcenterId::from_bytes([1; 16]),
            moref: format!("vm-{}", path.len()),
        };
        Located {
            vm,
            name,
            path: path.to_owned(),
            vcenter_name: "lab".to_owned(),
        }
    }

    #[track_caller]
    fn check(text: &str, paths: &[&str], expected: Result<&str, Reason>) {
        let all = paths.iter().map(|path| located(path));
        let fitting = all.filter(|vm| fits(text, &vm.name, &vm.path)).collect();
        let found = only(text, fitting)
            .map(|vm| vm.path)
            .map_err(|fault| fault.reason);
        assert_eq!(found, expected.map(str::to_owned));
    }

    #[test]
    fn a_name_or_a_whole_path_names_one_vm() {
        let paths = [
            "/DC0/vm/web/frontend",
            "/DC0/vm/backend",
            "/DC0/vm/db/frontend-2",
        ];
        check("backend", &paths, Ok("/DC0/vm/backend"));
        check("frontend", &paths, Ok("/DC0/vm/web/frontend"));
        check("/DC0/vm/web/frontend", &paths, Ok("/DC0/vm/web/frontend"));
        check("/DC0/vm/web/frontend/", &paths, Ok("/DC0/vm/web/frontend"));
        for half in ["front", "web/frontend", "/vm/backend", "Backend", "", "/"] {
            check(half, &paths, Err(Reason::VmNotFound));
        }
    }

    #[test]
    fn a_name_in_two_folders_is_refused_with_both_paths() {
        let paths = ["/DC0/vm/a/web", "/DC0/vm/bb/web"];
        check("web", &paths, Err(Reason::VmAmbiguous));
        let fault = only("web", paths.iter().map(|path| located(path)).collect());
        let fault = fault.expect_err("ambiguous");
        for path in paths {
            assert!(fault.message.contains(path), "{}", fault.message);
            assert!(fault.details.values().any(|value| value == path));
        }
    }

    #[test]
    fn a_name_of_hundreds_is_answered_with_some() {
        let many: Vec<_> = (0..300)
            .map(|n| located(&format!("/DC0/vm/{n}/web")))
            .collect();
        let fault = ambiguous("web", &many);
        assert!(fault.message.ends_with("and 280 more"), "{}", fault.message);
        assert_eq!(fault.details.len(), 1 + 2 * PATHS_TOLD_MAX);
    }
}
