//! What a run knows in memory only: secrets, maps and whatever else is worthless after a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use secrecy::ExposeSecret;
use stillwater_controller_api::ExportAccess;
use stillwater_proxy_api::{Known, TransferProgress};
use stillwater_vsphere::{DataAccess, DatastoreFacts, SnapshotConfig, Vm};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::act::Mapped;
use super::budget::Lease as HostLease;
use super::outside::MadeDisk;
use super::slots::Permit;
use super::turnstile::Turn;
use crate::guest::{HookRun, Release};
use crate::point::{EvidenceNote, OpenedPoint, Quiescence, Surroundings};
use crate::restore::Plan;

/// A run's memory. Locked for moments only, never across a wait.
#[derive(Default)]
pub struct Scratch {
    notes: Mutex<Notes>,
    /// A slot that the run has became spare.
    spared: Notify,
}

/// What a run notes down.
#[derive(Default)]
pub struct Notes {
    /// The run's turn among all runs; none while it waits for one.
    pub turn: Option<OwnedSemaphorePermit>,
    /// The VM as it was when the run was planned.
    pub vm: Option<Vm>,
    /// The turn to make a snapshot, until that was tried.
    pub snapshot_turn: Option<Turn>,
    /// When the snapshot was there.
    pub taken_at: Option<Timestamp>,
    /// What the VM's datastores are, as far as vSphere told.
    pub datastores: Vec<DatastoreFacts>,
    /// The VM as the snapshot froze it.
    pub frozen: Option<SnapshotConfig>,
    /// The VM's last point, to build upon.
    pub base: Option<OpenedPoint>,
    /// What the VM lies in and hangs on.
    pub surroundings: Option<Surroundings>,
    /// The VM's snapshots that are not ours.
    pub foreign_snapshots: Vec<String>,
    /// How each disk is read.
    pub readings: BTreeMap<i32, Mapped>,
    /// The point that is restored or exported.
    pub point: Option<OpenedPoint>,
    /// What the restore does.
    pub plan: Option<Plan>,
    /// The new VM's disks, by the key that each has in the point.
    pub made: BTreeMap<i32, MadeDisk>,
    /// What is known of the disks that are written over, by the key that each has in the point.
    pub known: BTreeMap<i32, Option<Known>>,
    /// Ways by which a new disk could not be written, and why, by the key that it has in the point.
    pub given_up: BTreeMap<i32, BTreeMap<&'static str, String>>,
    /// Shares of hosts whose transfers the run did not see the end of; they end with the run.
    pub host_leases: Vec<HostLease>,
    /// Data sessions, the newest last. An older one may still serve a transfer.
    pub accesses: Vec<DataAccess>,
    /// Slots that no disk has.
    pub free_permits: Vec<Permit>,
    /// Slots that disks have.
    pub permits: BTreeMap<i32, Permit>,
    /// How far each disk is.
    pub progress: BTreeMap<i32, Progress>,
    /// What an administrator needs to read the export.
    pub export: Option<ExportAccess>,
    /// Whether the proxy has the export open.
    pub is_export_open: bool,
    /// What hooks did in the guest; none before they were begun, as after a restart.
    pub guest: Option<GuestNotes>,
    /// How consistent the snapshot is proved to be.
    pub quiescence: Option<Quiescence>,
    /// Why the point will be called what it will be called.
    pub evidence: Vec<EvidenceNote>,
}

/// What hooks did in the guest.
#[derive(Debug, Clone, Default)]
pub struct GuestNotes {
    /// Whether something of ours may be there.
    pub is_touched: bool,
    /// Whether hooks may have run, so that those which release the guest are owed.
    pub is_begun: bool,
    /// What came of each, in the order in which they ran.
    pub hooks: Vec<HookRun>,
    /// How the guest was released.
    pub release: Option<Release>,
}

/// How far a disk is, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The counts that the proxy told last.
    pub counts: TransferProgress,
    /// How the disk is read or written.
    pub transport: &'static str,
    /// Why by that way, and not by a better one.
    pub transport_reason: String,
    /// Why it is not attached to the proxy's VM; empty when it may be.
    pub unattached: String,
    /// The proxy's name.
    pub proxy_name: String,
}

impl Scratch {
    /// The notes.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        // Notes are hints and handles; a panic while one is set leaves the others usable.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a data session that is over.
    pub fn forget_access(&self, over: &DataAccess) {
        let same =
            |access: &DataAccess| access.cookie.expose_secret() == over.cookie.expose_secret();
        self.notes().accesses.retain(|access| !same(access));
    }

    /// Ends when a disk of the run gives its slot back after this call.
    pub fn spared(&self) -> Notified<'_> {
        self.spared.notified()
    }

    /// Takes the slot of a disk that was moved for another disk of the run.
    pub fn spare(&self, disk: i32) {
        {
            let mut notes = self.notes();
            let permit = notes.permits.remove(&disk);
            notes.free_permits.extend(permit);
        }
        self.spared.notify_waiters();
    }
}

impl Notes {
    /// Where to read the export, once it can be read.
    pub fn opened_export(&self) -> Option<ExportAccess> {
        self.export.clone().filter(|_| self.is_export_open)
    }

    /// Adds a line of evidence.
    pub fn note(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.evidence.push(EvidenceNote {
            name: name.into(),
            value: value.into(),
        });
    }
}
