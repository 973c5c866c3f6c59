//! What can go wrong, as decisions a caller can make.

use std::fmt;

use stillwater_types::{self as types, Reason};

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
    /// Somebody cancelled the task.
    Cancelled,
    /// The guest does not know that user or password.
    GuestLogin,
    /// The guest's user may not do that.
    GuestPermission,
    /// The guest has no such process, or has forgotten it.
    GuestProcessNotFound,
    /// VMware Tools in the guest cannot or will not do it now; the fault's type is named.
    GuestUnavailable(String),
    /// Anything else; its type is named.
    Other(String),
}

/// A fault as vSphere answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    #[error("the certificate of {address} is not trusted ({problem}), its sha-256 is {presented}")]
    CertificateUntrusted {
        /// Where.
        address: String,
        /// What it presented.
        presented: Fingerprint,
        /// What is wrong with it.
        problem: String,
    },
    /// The server is older than what we can speak.
    #[error("{address} speaks no api version that we know, only {offered:?}")]
    UnsupportedVersion {
        /// Where.
        address: String,
        /// What it offers.
        offered: Vec<String>,
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
    /// The session was another's and is over: whoever opened it must open a new one.
    #[error("the borrowed vcenter session is over")]
    SessionOver,
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
    /// Tracking does not reach back to the change id that was asked for: read the disk whole.
    #[error("tracking of disk {key} does not reach back to the last restore point")]
    TrackingLost {
        /// The disk.
        key: i32,
        /// The fault by which vSphere says so.
        #[source]
        fault: Box<VimFault>,
    },
    /// The change map makes no progress or has no end.
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
    /// The VM has no room for more attached disks.
    #[error("{vm} has no room for {wanted} more disks")]
    NoFreeUnit {
        /// The VM.
        vm: VmRef,
        /// How many were to be attached.
        wanted: usize,
    },
    /// The device is not the disk that was attached; it is left alone.
    #[error("device {key} of {vm} is {found}, not {expected}: it is left alone")]
    NotOurDisk {
        /// The VM.
        vm: VmRef,
        /// The device.
        key: i32,
        /// The file that was attached.
        expected: String,
        /// The file that the device has.
        found: String,
    },
    /// What is to be run in a guest cannot be written down for it.
    #[error("run a program in the guest: {problem}")]
    BadGuestCommand {
        /// What is wrong with it.
        problem: String,
    },
    /// The guest forgot a process before its exit code was read.
    #[error("the guest has forgotten process {pid}, whether it succeeded is not known")]
    GuestProcessLost {
        /// The process.
        pid: i64,
    },
    /// There is no such file.
    #[error("no file {path}")]
    FileMissing {
        /// Its path in the guest or on the datastore.
        path: String,
    },
    /// The file is larger than what we are ready to keep.
    #[error("{path} has more than {limit_bytes} bytes")]
    FileTooLarge {
        /// Its path in the guest or on the datastore.
        path: String,
        /// The most that would have been taken.
        limit_bytes: usize,
    },
    /// A file could not be moved.
    #[error("move the file {path}")]
    FileTransfer {
        /// Its path in the guest or on the datastore.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
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
            | Error::TrackingLost { fault, .. }
            | Error::SnapshotFailed { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// Whether vSphere answered with that kind of fault.
    pub fn is(&self, kind: &FaultKind) -> bool {
        self.vim_fault().is_some_and(|fault| fault.kind == *kind)
    }

    /// The same in words that cross roles.
    pub fn fault(&self) -> types::Fault {
        let fault = types::Fault::new(self.reason(), chain(self));
        match self {
            Error::CertificateUntrusted { presented, .. } => fault.with("sha256", presented),
            Error::VmNotFound { vm } | Error::SnapshotFailed { vm, .. } => fault.with("vm", vm),
            Error::TaskFailed { task, .. }
            | Error::TaskTimeout { task, .. }
            | Error::TaskLost { task } => fault.with("task", task),
            Error::PlacementNotFound { what, name } => fault.with(what, name),
            _ => fault,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Error::Unreachable { .. } | Error::OutcomeUnknown { .. } | Error::SessionOver => {
                Reason::VcenterUnreachable
            }
            Error::CertificateUntrusted { .. } => Reason::CertificateUntrusted,
            Error::UnsupportedVersion { .. } => Reason::NotSupported,
            Error::BadEndpoint { .. } | Error::PlacementAmbiguous { .. } => Reason::BadField,
            Error::LoginRefused { .. } => Reason::VcenterLoginRefused,
            Error::Fault { fault, .. } | Error::TaskFailed { fault, .. } => {
                fault.reason(Reason::VcenterTaskFailed)
            }
            Error::SnapshotFailed { fault, .. } => fault.reason(Reason::SnapshotFailed),
            Error::TaskTimeout { .. } => Reason::VcenterTaskTimeout,
            Error::TrackingLost { .. } => Reason::VcenterTaskFailed,
            Error::TaskLost { .. } | Error::BadChangeMap { .. } | Error::BadAnswer { .. } => {
                Reason::VcenterTaskFailed
            }
            Error::VmNotFound { .. } => Reason::VmNotFound,
            Error::VmExists { .. } => Reason::VmExists,
            Error::PlacementNotFound { .. } => Reason::PlacementNotFound,
            Error::BadConfig { .. } => Reason::ManifestUnreadable,
            Error::BadGuestCommand { .. } => Reason::BadField,
            Error::NoFreeUnit { .. } => Reason::NoProxySlot,
            Error::NotOurDisk { .. } => Reason::VcenterTaskFailed,
            Error::GuestProcessLost { .. } => Reason::GuestUnavailable,
            Error::FileMissing { .. } | Error::FileTooLarge { .. } => Reason::VcenterTaskFailed,
            Error::FileTransfer { .. } => Reason::VcenterUnreachable,
        }
    }
}

impl VimFault {
    /// The reason that says more than `otherwise`, if there is one.
    fn reason(&self, otherwise: Reason) -> Reason {
        match self.kind {
            FaultKind::NoPermission { .. } => Reason::VcenterPrivilegeMissing,
            FaultKind::InvalidLogin => Reason::VcenterLoginRefused,
            FaultKind::NoDiskSpace => Reason::DatastoreFull,
            FaultKind::RestrictedVersion => Reason::NotSupported,
            FaultKind::Timedout => Reason::VcenterTaskTimeout,
            FaultKind::GuestLogin => Reason::GuestLoginRefused,
            FaultKind::GuestPermission
            | FaultKind::GuestProcessNotFound
            | FaultKind::GuestUnavailable(_) => Reason::GuestUnavailable,
            _ => otherwise,
        }
    }
}

impl fmt::Display for VimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::NoPermission {
                privilege: Some(privilege),
            } => {
                write!(f, "the privilege {privilege} is missing: {}", self.message)
            }
            FaultKind::Other(name)
            | FaultKind::Snapshot(name)
            | FaultKind::GuestUnavailable(name)
                if *name != self.message =>
            {
                write!(f, "{name}: {}", self.message)
            }
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for VimFault {}

impl From<Error> for types::Fault {
    fn from(error: Error) -> Self {
        error.fault()
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: Error, reason: Reason, words: &str) {
        let fault = error.fault();
        assert_eq!(fault.reason, reason);
        assert!(fault.message.contains(words), "{}", fault.message);
    }

    fn vim(kind: FaultKind) -> Box<VimFault> {
        Box::new(VimFault {
            kind,
            message: "the server's words".into(),
        })
    }

    #[test]
    fn a_fault_keeps_the_servers_words_and_gets_the_reason_that_says_most() {
        let vm = VmRef::new("vm-1");
        let privilege = Some("VirtualMachine.State.CreateSnapshot".to_owned());
        check(
            Error::SnapshotFailed {
                vm: vm.clone(),
                fault: vim(FaultKind::FilesystemQuiesce),
            },
            Reason::SnapshotFailed,
            "the server's words",
        );
        check(
            Error::SnapshotFailed {
                vm,
                fault: vim(FaultKind::NoPermission { privilege }),
            },
            Reason::VcenterPrivilegeMissing,
            "VirtualMachine.State.CreateSnapshot",
        );
        check(
            Error::TaskFailed {
                task: TaskRef::new("task-1"),
                fault: vim(FaultKind::NoDiskSpace),
            },
            Reason::DatastoreFull,
            "task-1",
        );
        check(
            Error::Fault {
                method: "X",
                fault: vim(FaultKind::Other("Weird".into())),
            },
            Reason::VcenterTaskFailed,
            "Weird",
        );
    }

    #[test]
    fn an_untrusted_certificate_tells_what_was_presented() {
        let presented = Fingerprint::of(b"certificate");
        let problem = "unknown issuer".into();
        let error = Error::CertificateUntrusted {
            address: "vc".into(),
            presented,
            problem,
        };
        let fault = error.fault();
        assert_eq!(fault.reason, Reason::CertificateUntrusted);
        assert_eq!(fault.details.get("sha256"), Some(&presented.to_string()));
    }
}
