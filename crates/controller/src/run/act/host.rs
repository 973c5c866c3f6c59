//! Disks behind the NFC service of an ESXi host: a share of the host first, then tickets.

use stillwater_proxy_api::{NfcCheck, NfcDisk};
use stillwater_types::{Fault, Reason, VmId};
use stillwater_vsphere::{HostIdentity, NfcAccess, NfcTicket};

use super::{Act, World, missing};
use crate::run::budget::{HostKey, Lease};

/// Tickets for one disk: a lost connection to the host is replaced so often.
const TICKETS: usize = 3;

/// A disk behind its host's NFC, and the share of the host that it has.
pub(in crate::run) struct HostDisk {
    disk: NfcDisk,
    lease: Lease,
}

impl HostDisk {
    /// The disk, and what to hold until its transfer is over.
    pub(in crate::run) fn split(self) -> (NfcDisk, Lease) {
        (self.disk, self.lease)
    }
}

/// How much a disk's share of its host is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum Need {
    /// It is waited for.
    Wanted,
    /// A better way is likely to be enough: it is taken only where much is free.
    Spare,
}

impl Act {
    /// A disk of the VM at work, `path` being its file.
    ///
    /// # Errors
    /// Those of [`host_disk`], and `RUN_CANCELLED`.
    pub(super) async fn host_disk(
        &self,
        access: NfcAccess,
        path: &str,
        need: Need,
    ) -> Result<HostDisk, Fault> {
        let disk = host_disk(&self.world, self.vm()?, access, path, need);
        let disk = self.halt.run_until_cancelled(disk).await;
        disk.ok_or_else(|| Fault::new(Reason::RunCancelled, "the run was told to stop"))?
    }
}

/// A disk of a VM, `path` being its file.
///
/// # Errors
/// `HOST_BUSY`, and whatever keeps vCenter from giving tickets.
pub(in crate::run) async fn host_disk(
    world: &World,
    vm: &VmId,
    access: NfcAccess,
    path: &str,
    need: Need,
) -> Result<HostDisk, Fault> {
    let lease = match share(world, vm, need).await? {
        Some(lease) => lease,
        None => {
            let words = "the host's share for our disks is taken by others";
            let host = host_of(world, vm).await?.host;
            return Err(Fault::new(Reason::HostBusy, words).with("host", host));
        }
    };
    let tickets = world.vsphere.nfc_tickets(vm, access, TICKETS).await?;
    let disk = nfc_disk(&tickets, path.to_owned(), lease.in_flight_bytes);
    let disk = disk.ok_or_else(|| missing("ticket"))?;
    Ok(HostDisk { disk, lease })
}

/// A share of the host that the VM is on, which is where its tickets will be for.
async fn share(world: &World, vm: &VmId, need: Need) -> Result<Option<Lease>, Fault> {
    let find = || host_of(world, vm);
    match need {
        Need::Wanted => world.budgets.wait_for(find, world.timing.host_wait).await,
        Need::Spare => Ok(world.budgets.spare(&find().await?)),
    }
}

/// Read afresh: a VM moves between hosts while a run waits.
async fn host_of(world: &World, vm: &VmId) -> Result<HostKey, Fault> {
    let host = world.vsphere.vm(vm).await?.host.unwrap_or_default();
    Ok(HostKey {
        vcenter: vm.vcenter,
        host,
    })
}

/// The tickets are all for the host of the first.
fn nfc_disk(tickets: &[NfcTicket], path: String, in_flight_bytes: u64) -> Option<NfcDisk> {
    let first = tickets.first()?;
    let session_ids = tickets.iter().map(|ticket| ticket.session_id.clone());
    Some(NfcDisk {
        host: first.host.clone(),
        port: first.port,
        check: match &first.identity {
            HostIdentity::Sha1(hash) => NfcCheck::CertificateSha1(*hash),
            HostIdentity::Certificate(der) => NfcCheck::CertificateDer(der.clone().into()),
        },
        service: first.service.clone(),
        session_ids: session_ids.collect(),
        path,
        in_flight_bytes,
    })
}
