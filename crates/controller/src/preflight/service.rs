//! Preflight as an administrator asks for it.

use std::sync::Arc;

use stillwater_controller_api as api;
use stillwater_types::Fault;
use stillwater_vsphere::PrivilegeGroup;

use super::{BACKUP, BACKUP_WITH_HOOKS, Facts, Finding, RESTORE, Subject, Verdict, examine};
use crate::inventory::Inventory;
use crate::run::World;

/// Answers for VMs; clones share the sessions.
#[derive(Clone)]
pub struct Service {
    inventory: Inventory,
    world: Arc<World>,
}

impl Service {
    /// Finds VMs in `inventory` and looks at them as runs in `world` do.
    pub fn new(inventory: Inventory, world: Arc<World>) -> Self {
        Self { inventory, world }
    }

    /// The VMs as they are listed and shown.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What keeps the VM that a text names from being protected.
    ///
    /// # Errors
    /// Those of finding and reading the VM.
    pub async fn preflight(
        &self,
        request: api::PreflightVmRequest,
    ) -> Result<api::PreflightVmResponse, Fault> {
        let api::PreflightVmRequest { vm, restore } = request;
        let summary = self.inventory.show(&vm).await?.summary;
        let purposes = self.purposes(&summary, restore);
        let vsphere = &self.world.vsphere;
        let vm = vsphere.vm(&summary.vm_id).await?;
        let around = vsphere.circumstances(&summary.vm_id, &purposes).await?;
        let findings = examine(&Facts {
            vm: &vm,
            around: &around,
            exclude: &[],
            cluster: self.world.cluster,
            purposes: &purposes,
            guards: &self.world.guards,
            reads_nfc: self.world.reads_nfc,
            now: self.world.clock.now(),
        });
        Ok(api::PreflightVmResponse {
            summary,
            findings: findings.into_iter().map(told).collect(),
        })
    }

    /// What is done with a VM. One whose guest we have an account for is one that hooks may be run in.
    fn purposes(&self, vm: &api::VmSummary, restore: bool) -> Vec<PrivilegeGroup> {
        let state = self.world.memory.state();
        let has_account = state.credentials.nearest(&vm.vm_id, &vm.path).is_ok();
        let backup = match has_account {
            true => BACKUP_WITH_HOOKS,
            false => BACKUP,
        };
        match restore {
            true => [backup, RESTORE].concat(),
            false => backup.to_vec(),
        }
    }
}

fn told(finding: Finding) -> api::PreflightFinding {
    let disk_key = match &finding.subject {
        Subject::Disk { key, .. } => Some(*key),
        _ => None,
    };
    api::PreflightFinding {
        check: finding.check.to_string(),
        verdict: match finding.verdict {
            Verdict::Ok => api::PreflightVerdict::Ok,
            Verdict::Warning => api::PreflightVerdict::Warning,
            Verdict::Blocked => api::PreflightVerdict::Blocked,
        },
        subject: finding.subject.to_string(),
        disk_key,
        privilege: finding.privilege.map(str::to_owned),
        message: finding.message,
    }
}
