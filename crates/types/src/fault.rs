//! What went wrong, in words that cross roles.
//!
//! Each library keeps an error enum of its own; at a role's edge it becomes a [`Fault`]: a stable
//! [`Reason`] that has a page in `docs/operations/errors`, a message for a person, and details.
//! The reason decides the [`Kind`], and the kind alone decides what a caller may do.

use std::collections::BTreeMap;
use std::fmt;

/// What a caller may do about a fault; also the metric label and the retry policy's only input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Fix the call, never retry.
    InvalidRequest,
    /// Get a certificate.
    Unauthenticated,
    /// Ask an administrator.
    Forbidden,
    /// Stop: there is no such thing.
    NotFound,
    /// There is one already; success if the request id is the same.
    AlreadyExists,
    /// Wait for the state to change and tell the operator.
    Precondition,
    /// Restart the whole sequence from a read.
    Conflict,
    /// Back off; the operator must act if it is full.
    Exhausted,
    /// Retry with jitter.
    Unavailable,
    /// The outcome is unknown: read, then decide.
    Timeout,
    /// Somebody asked to stop.
    Cancelled,
    /// Never retry; quarantine and page someone.
    Corrupt,
    /// Upgrade one side.
    Unsupported,
    /// A bug.
    Internal,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident;)*) => {
        /// A stable name for a cause. Reasons are never renamed: scripts and runbooks match them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason; each has a page `docs/operations/errors/<REASON>.md`.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The name as it crosses the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// What a caller may do.
            pub const fn kind(self) -> Kind {
                match self { $(Reason::$name => Kind::$kind,)* }
            }
        }
    };
}

reasons! {
    /// A field is missing or malformed.
    BadField = "BAD_FIELD", InvalidRequest;
    /// A range lies beyond its disk.
    RangeBeyondDisk = "RANGE_BEYOND_DISK", InvalidRequest;
    /// The name fits several VMs.
    VmAmbiguous = "VM_AMBIGUOUS", InvalidRequest;
    /// No certificate, or one of another cluster.
    NoCertificate = "NO_CERTIFICATE", Unauthenticated;
    /// The join token is unknown, used or expired.
    TokenInvalid = "TOKEN_INVALID", Unauthenticated;
    /// vCenter refused user or password.
    VcenterLoginRefused = "VCENTER_LOGIN_REFUSED", Unauthenticated;
    /// The guest refused user or password.
    GuestLoginRefused = "GUEST_LOGIN_REFUSED", Unauthenticated;
    /// The role may not make this call.
    RoleNotAllowed = "ROLE_NOT_ALLOWED", Forbidden;
    /// The grant is forged, expired or for something else.
    GrantInvalid = "GRANT_INVALID", Forbidden;
    /// Our vCenter account lacks a privilege.
    VcenterPrivilegeMissing = "VCENTER_PRIVILEGE_MISSING", Forbidden;
    /// A statement of a repository's administrator does not count.
    StatementRefused = "STATEMENT_REFUSED", Forbidden;
    /// The node was removed from the cluster.
    NodeRemoved = "NODE_REMOVED", Forbidden;
    /// No such vCenter is registered.
    VcenterNotFound = "VCENTER_NOT_FOUND", NotFound;
    /// No policy has that name.
    PolicyNotFound = "POLICY_NOT_FOUND", NotFound;
    /// No such VM.
    VmNotFound = "VM_NOT_FOUND", NotFound;
    /// No such run.
    RunNotFound = "RUN_NOT_FOUND", NotFound;
    /// No such restore point.
    PointNotFound = "POINT_NOT_FOUND", NotFound;
    /// No such node.
    NodeNotFound = "NODE_NOT_FOUND", NotFound;
    /// No such dataset.
    DatasetNotFound = "DATASET_NOT_FOUND", NotFound;
    /// The point has no such disk.
    DiskNotFound = "DISK_NOT_FOUND", NotFound;
    /// The volume of a restore point has no such file, or the point no such volume.
    FileNotFound = "FILE_NOT_FOUND", NotFound;
    /// No such datastore, folder, host or pool.
    PlacementNotFound = "PLACEMENT_NOT_FOUND", NotFound;
    /// A chunk that a point needs is not there.
    ChunkNotFound = "CHUNK_NOT_FOUND", NotFound;
    /// No transfer of that id.
    TransferNotFound = "TRANSFER_NOT_FOUND", NotFound;
    /// No task of that id.
    TaskNotFound = "TASK_NOT_FOUND", NotFound;
    /// The vCenter is registered already.
    VcenterExists = "VCENTER_EXISTS", AlreadyExists;
    /// A VM of that name exists there.
    VmExists = "VM_EXISTS", AlreadyExists;
    /// The server's certificate is not trusted.
    CertificateUntrusted = "CERTIFICATE_UNTRUSTED", Precondition;
    /// The VM has no disk to protect.
    VmWithoutDisks = "VM_WITHOUT_DISKS", Precondition;
    /// A disk that no snapshot can freeze.
    DiskUnprotectable = "DISK_UNPROTECTABLE", Precondition;
    /// The VM is not powered off.
    VmNotOff = "VM_NOT_OFF", Precondition;
    /// The VM has snapshots, or deltas that no snapshot explains.
    VmHasSnapshots = "VM_HAS_SNAPSHOTS", Precondition;
    /// A disk has changes that no point has.
    ChangesNotSaved = "CHANGES_NOT_SAVED", Precondition;
    /// The VM has an active run.
    RunActive = "RUN_ACTIVE", Precondition;
    /// No repository has joined.
    NoRepository = "NO_REPOSITORY", Precondition;
    /// No proxy has joined.
    NoProxy = "NO_PROXY", Precondition;
    /// Storage fails its durability self-test.
    StorageUnfit = "STORAGE_UNFIT", Precondition;
    /// The lock of the point is not over.
    PointLocked = "POINT_LOCKED", Precondition;
    /// The clock of the repository is in doubt.
    TimeFrozen = "TIME_FROZEN", Precondition;
    /// A task of that kind is at work.
    TaskRunning = "TASK_RUNNING", Precondition;
    /// A restore point cannot be read, so nothing can be called garbage.
    CollectionBlocked = "COLLECTION_BLOCKED", Precondition;
    /// A collection runs already.
    CollectionRunning = "COLLECTION_RUNNING", Precondition;
    /// vSphere refused or failed the task.
    VcenterTaskFailed = "VCENTER_TASK_FAILED", Precondition;
    /// VMware Tools in the guest cannot or may not do it.
    GuestUnavailable = "GUEST_UNAVAILABLE", Precondition;
    /// No account is kept for the guest.
    GuestCredentialMissing = "GUEST_CREDENTIAL_MISSING", Precondition;
    /// A program that a run started in the guest failed.
    HookFailed = "HOOK_FAILED", Precondition;
    /// The point is less consistent than was asked for.
    ConsistencyDowngraded = "CONSISTENCY_DOWNGRADED", Precondition;
    /// A restored VM is not in all like the one that was protected.
    RestoreDiffers = "RESTORE_DIFFERS", Precondition;
    /// The guest could not be quiesced as was asked for.
    QuiesceFailed = "QUIESCE_FAILED", Precondition;
    /// The snapshot could not be made.
    SnapshotFailed = "SNAPSHOT_FAILED", Precondition;
    /// The VM has more snapshots of others than it may have.
    SnapshotLimit = "SNAPSHOT_LIMIT", Precondition;
    /// The session is over or a newer one took its place.
    FenceStale = "FENCE_STALE", Conflict;
    /// A proposal does not fit what is stored.
    ProposalRefused = "PROPOSAL_REFUSED", Conflict;
    /// The controller was restarted in the middle of the run.
    ControllerRestarted = "CONTROLLER_RESTARTED", Conflict;
    /// The repository has no room.
    RepositoryFull = "REPOSITORY_FULL", Exhausted;
    /// The proxy has no free slot.
    NoProxySlot = "NO_PROXY_SLOT", Exhausted;
    /// An ESXi host has no share left for another disk.
    HostBusy = "HOST_BUSY", Exhausted;
    /// Too many attempts.
    RateLimited = "RATE_LIMITED", Exhausted;
    /// The datastore has no room.
    DatastoreFull = "DATASTORE_FULL", Exhausted;
    /// vCenter does not answer.
    VcenterUnreachable = "VCENTER_UNREACHABLE", Unavailable;
    /// The repository does not answer.
    RepositoryUnreachable = "REPOSITORY_UNREACHABLE", Unavailable;
    /// The proxy does not answer or lost the transfer.
    ProxyUnreachable = "PROXY_UNREACHABLE", Unavailable;
    /// The controller does not answer.
    ControllerUnreachable = "CONTROLLER_UNREACHABLE", Unavailable;
    /// A disk could not be read.
    DiskReadFailed = "DISK_READ_FAILED", Unavailable;
    /// A disk could not be written.
    DiskWriteFailed = "DISK_WRITE_FAILED", Unavailable;
    /// The role is shutting down.
    Draining = "DRAINING", Unavailable;
    /// An I/O error of the repository's storage.
    StorageFailed = "STORAGE_FAILED", Unavailable;
    /// The call took too long.
    Deadline = "DEADLINE", Timeout;
    /// A snapshot grew older than it may.
    SnapshotTooOld = "SNAPSHOT_TOO_OLD", Timeout;
    /// A vSphere task did not end in time.
    VcenterTaskTimeout = "VCENTER_TASK_TIMEOUT", Timeout;
    /// The run was cancelled.
    RunCancelled = "RUN_CANCELLED", Cancelled;
    /// The collection was asked to stop.
    CollectionStopped = "COLLECTION_STOPPED", Cancelled;
    /// The verification or scrub was asked to stop.
    VerificationStopped = "VERIFICATION_STOPPED", Cancelled;
    /// vSphere's map of changed areas left out something that had changed.
    ChangeMapLied = "CHANGE_MAP_LIED", Corrupt;
    /// A chunk's bytes are not what its id says.
    ChunkHashMismatch = "CHUNK_HASH_MISMATCH", Corrupt;
    /// A manifest cannot be read or does not fit its commit record.
    ManifestUnreadable = "MANIFEST_UNREADABLE", Corrupt;
    /// Parts of a restore point cannot be restored.
    PointDegraded = "POINT_DEGRADED", Corrupt;
    /// The commit log is damaged before its end.
    CommitLogCorrupt = "COMMIT_LOG_CORRUPT", Corrupt;
    /// The journal is damaged before its end.
    JournalCorrupt = "JOURNAL_CORRUPT", Corrupt;
    /// A secret cannot be opened with the key at hand.
    SecretUnreadable = "SECRET_UNREADABLE", Corrupt;
    /// Stored data is newer than this program.
    FormatTooNew = "FORMAT_TOO_NEW", Unsupported;
    /// The server lacks something we need.
    NotSupported = "NOT_SUPPORTED", Unsupported;
    /// A bug of ours.
    Bug = "BUG", Internal;
}

impl Reason {
    /// Reads a name that crossed the wire; `None` when it is from a newer release.
    pub fn parse(text: &str) -> Option<Reason> {
        Reason::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A cause with what a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable cause.
    pub reason: Reason,
    /// One sentence, lowercase, no full stop: what failed and what to do next.
    pub message: String,
    /// Machine-readable details, such as `vm` or `disk`.
    pub details: BTreeMap<String, String>,
}

impl Fault {
    /// A fault without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            details: BTreeMap::new(),
        }
    }

    /// Adds one detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.details.insert(key.to_owned(), value.to_string());
        self
    }

    /// What a caller may do.
    pub const fn kind(&self) -> Kind {
        self.reason.kind()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_parses_what_it_prints() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::parse("NO_SUCH_REASON"), None);
    }
}
