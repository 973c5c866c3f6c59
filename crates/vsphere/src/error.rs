//! What can go wrong, as decisions a caller can make.

use stillwater_types as types;

use crate::{Fingerprint, TaskRef, VmRef};

/// The outcome of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of fault vSphere answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// No session, or it expired.
    NotAuthenticated,
    /// User or password is wrong.
    InvalidLogin,
    /// A privilege is missing.
    NoPermission {
        /// Its id, when the server names it.
        privilege: Option<String>,
    },
    /// The object is gone or was never there.
    ManagedObjectNotFound,
    /// The name is taken in that folder.
    DuplicateName,
    /// The file is there already.
    AlreadyExists,
    /// A file cannot be used; of change tracking: the change id is not known.
    FileFault,
    /// Another holds the file.
    FileLocked,
    /// The file is not there.
    FileNotFound,
    /// The datastore is full.
    NoDiskSpace,
    /// An argument is wrong.
    InvalidArgument,
    /// Not in this state.
    InvalidState,
    /// Not in this power state.
    InvalidPowerState,
    /// Another task of the object is running.
    TaskInProgress {
        /// That task, when the server names it.
        task: Option<TaskRef>,
    },
    /// Writers or scripts in the guest failed.
    ApplicationQuiesce,
    /// The guest could not hold its writes long enough.
    FilesystemQuiesce,
    /// Another reason why there is no snapshot; its type is named.
    Snapshot(String),
    /// The server cannot do it.
    NotSupported,
    /// The licence does not allow it.
    RestrictedVersion,
    /// The method is disabled on this object.
    MethodDisabled,
    /// What the call names is not there.
    NotFound,
    /// The server's own time limit passed.
    Timedout,
    /// Anything else; its type is named.
    Other(String),
}

/// A fault as vSphere answered it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct VimFault {
    /// What kind of fault.
    pub kind: FaultKind,
    /// The server's own words.
    pub message: String,
}

/// What can go wrong with vSphere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or no answer to a call that may be repeated.
    #[error("reach vcenter at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The answer to a call that changes something was lost: read, then decide.
    #[error("the answer to {method} was lost")]
    OutcomeUnknown {
        /// The call.
        method: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server's certificate is not trusted.
    #[error("the certificate of {address} is not trusted, its sha-256 is {presented}")]
    CertificateUntrusted {
        /// Where.
        address: String,
        /// What it presented.
        presented: Fingerprint,
    },
    /// The CA file or the address cannot be used.
    #[error("use the endpoint {address}: {problem}")]
    BadEndpoint {
        /// Where.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// User or password is wrong.
    #[error("vcenter refused the login of {username}")]
    LoginRefused {
        /// The account.
        username: String,
    },
    /// A call was answered with a fault.
    #[error("{method}")]
    Fault {
        /// The call.
        method: &'static str,
        /// The fault.
        #[source]
        fault: Box<VimFault>,
    },
    /// A task ended with a fault.
    #[error("task {task} failed")]
    TaskFailed {
        /// The task.
        task: TaskRef,
        /// The fault.
        #[source]
        fault: Box<VimFault>,
    },
    /// The snapshot was refused or failed.
    #[error("snapshot {vm}")]
    SnapshotFailed {
        /// The VM.
        vm: VmRef,
        /// The fault.
        #[source]
        fault: Box<VimFault>,
    },
    /// A task did not end in time; it still runs.
    #[error("task {task} did not end within {seconds} seconds")]
    TaskTimeout {
        /// The task.
        task: TaskRef,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The server forgot the task: whether it succeeded must be read from its object.
    #[error("task {task} is gone")]
    TaskLost {
        /// The task.
        task: TaskRef,
    },
    /// The VM is gone or was never there.
    #[error("no vm {vm}")]
    VmNotFound {
        /// The VM.
        vm: VmRef,
    },
    /// A VM of that name is in the folder.
    #[error("a vm named {name:?} exists in the folder")]
    VmExists {
        /// The name.
        name: String,
    },
    /// No such datastore, folder, pool, host or datacenter.
    #[error("no {what} {name:?}")]
    PlacementNotFound {
        /// What kind of thing.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The name fits several.
    #[error("{what} {name:?} is ambiguous, give one of these paths: {}", candidates.join(", "))]
    PlacementAmbiguous {
        /// What kind of thing.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The inventory paths that fit.
        candidates: Vec<String>,
    },
    /// The change map makes no progress or runs past the disk.
    #[error("the change map of disk {key} is unusable: {problem}")]
    BadChangeMap {
        /// The disk.
        key: i32,
        /// What is wrong with it.
        problem: String,
    },
    /// The answer is not what the API says.
    #[error("understand the answer to {method}: {problem}")]
    BadAnswer {
        /// The call.
        method: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A saved configuration cannot be used.
    #[error("use the saved configuration: {problem}")]
    BadConfig {
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// The fault that vSphere answered with, if it did.
    pub fn vim_fault(&self) -> Option<&VimFault> {
        match self {
            Error::Fault { fault, .. }
            | Error::TaskFailed { fault, .. }
            | Error::SnapshotFailed { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// The same in words that cross roles.
    pub fn fault(&self) -> types::Fault {
        todo!()
    }
}

impl From<Error> for types::Fault {
    fn from(error: Error) -> Self {
        error.fault()
    }
}
