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
    // Read afresh: a VM moves between hosts while a run waits.
    let host = world.vsphere.vm(vm).await?.host.unwrap_or_default();
    let key = HostKey {
        vcenter: vm.vcenter,
        host,
    };
    let lease = match need {
        Need::Wanted => world.budgets.wait(&key, world.timing.host_wait).await,
        Need::Spare => world.budgets.spare(&key),
    };
    let lease = lease.ok_or_else(|| {
        let words = "the host's share for our disks is taken by others";
        Fault::new(Reason::HostBusy, words).with("host", &key.host)
    })?;
    let tickets = world.vsphere.nfc_tickets(vm, access, TICKETS).await?;
    let disk = nfc_disk(&tickets, path.to_owned(), lease.in_flight_bytes);
    let disk = disk.ok_or_else(|| missing("ticket"))?;
    Ok(HostDisk { disk, lease })
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
