//! Disks behind the NFC service of an ESXi host: a share of the host first, then tickets.

use stillwater_proxy_api::{NfcCheck, NfcDisk};
use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{HostIdentity, NfcAccess, NfcTicket};

use super::{Act, missing};
use crate::run::budget::{HostKey, Lease};

/// Tickets for one disk: a lost connection to the host is replaced so often.
const TICKETS: usize = 3;

/// A disk behind its host's NFC, and the share of the host that it has.
pub(super) struct HostDisk {
    disk: NfcDisk,
    lease: Lease,
}

impl HostDisk {
    /// The disk, and what to hold until its transfer is over.
    pub(super) fn split(self) -> (NfcDisk, Lease) {
        (self.disk, self.lease)
    }
}

impl Act {
    /// A disk of the VM at work, `path` being its file.
    ///
    /// # Errors
    /// `HOST_BUSY`, and whatever keeps vCenter from giving tickets.
    pub(super) async fn host_disk(
        &self,
        access: NfcAccess,
        path: String,
    ) -> Result<HostDisk, Fault> {
        let vm = self.vm()?;
        // Read afresh: a VM moves between hosts while a run waits.
        let host = self.world.vsphere.vm(vm).await?.host.unwrap_or_default();
        let key = HostKey {
            vcenter: vm.vcenter,
            host,
        };
        let lease = self.host_lease(&key).await?;
        let tickets = self.world.vsphere.nfc_tickets(vm, access, TICKETS).await?;
        let disk = nfc_disk(&tickets, path, lease.in_flight_bytes);
        let disk = disk.ok_or_else(|| missing("ticket"))?;
        Ok(HostDisk { disk, lease })
    }

    async fn host_lease(&self, key: &HostKey) -> Result<Lease, Fault> {
        let wait = self.world.budgets.wait(key, self.world.timing.host_wait);
        let lease = self.halt.run_until_cancelled(wait).await;
        let stopped = || Fault::new(Reason::RunCancelled, "the run was told to stop");
        lease.ok_or_else(stopped)?.ok_or_else(|| {
            let words = "the host's share for our disks was taken by others all the time";
            Fault::new(Reason::HostBusy, words).with("host", &key.host)
        })
    }
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
