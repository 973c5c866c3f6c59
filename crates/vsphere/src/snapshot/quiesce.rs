//! How much the guest takes part in a snapshot, and what it means when that fails.

use crate::Error;
use crate::body::Body;
use crate::error::{FaultKind, VimFault};

/// vSphere accepts no shorter and no longer time for the guest.
const TIMEOUT_MINUTES: (u8, u8) = (5, 240);

/// How much the guest takes part in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quiesce {
    /// Not at all: crash consistent.
    None,
    /// VMware Tools flushes and freezes file systems and runs its scripts.
    FileSystem {
        /// How long the guest may take; the nearest that vSphere accepts (5 to 240) is asked for.
        timeout_minutes: u8,
    },
    /// Windows: VSS writers take part.
    Windows(WindowsQuiesce),
}

/// How VSS is asked to take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowsQuiesce {
    /// How long the guest may take; the nearest that vSphere accepts (5 to 240) is asked for.
    pub timeout_minutes: u8,
    /// Who takes part.
    pub context: VssContext,
    /// What the writers are told that this is.
    pub backup: VssBackup,
    /// Whether the system's own state takes part, so that the copy can be booted.
    pub bootable_system_state: bool,
    /// Whether writers may name parts of files.
    pub partial_files: bool,
}

impl WindowsQuiesce {
    /// What VMware Tools does by itself: a copy with the bootable system state, whole files.
    pub const fn new(timeout_minutes: u8, context: VssContext) -> Self {
        Self {
            timeout_minutes,
            context,
            backup: VssBackup::Copy,
            bootable_system_state: true,
            partial_files: false,
        }
    }
}

/// Who takes part in a VSS snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VssContext {
    /// Writers, and file systems alone if they fail.
    Auto,
    /// Writers.
    Backup,
    /// File systems alone.
    FileShareBackup,
}

/// What VSS writers are told that a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VssBackup {
    /// A copy: the application's logs and its own backup history stay as they are.
    #[default]
    Copy,
    /// A full backup: writers such as Exchange truncate their logs when it is complete, which is before
    /// the restore point is durable.
    Full,
}

/// What a snapshot that was not made means for the rung of the quiesce ladder that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RungOutcome {
    /// The rung failed: another try or another rung may succeed.
    Failed,
    /// The VM or vCenter is busy or away: the same may succeed later, and the rung is not to blame.
    Busy,
    /// No rung can succeed until somebody changes something.
    Hopeless,
    /// Whether there is a snapshot is not known: look before anything else is asked for.
    Unknown,
}

impl Quiesce {
    /// The request's `quiesceSpec`; nothing when the guest takes no part.
    pub(super) fn spec(self) -> Body {
        match self {
            Quiesce::None => Body::new(),
            Quiesce::FileSystem { timeout_minutes } => {
                let spec = timeout(timeout_minutes);
                Body::new().typed("quiesceSpec", "VirtualMachineGuestQuiesceSpec", spec)
            }
            Quiesce::Windows(windows) => {
                let spec = windows.spec();
                Body::new().typed("quiesceSpec", "VirtualMachineWindowsQuiesceSpec", spec)
            }
        }
    }
}

impl WindowsQuiesce {
    fn spec(self) -> Body {
        timeout(self.timeout_minutes)
            .value("vssBackupType", self.backup.number())
            .value("vssBootableSystemState", self.bootable_system_state)
            .value("vssPartialFileSupport", self.partial_files)
            .value("vssBackupContext", self.context.as_str())
    }
}

fn timeout(minutes: u8) -> Body {
    let (least, most) = TIMEOUT_MINUTES;
    Body::new().value("timeout", minutes.clamp(least, most))
}

impl VssContext {
    const fn as_str(self) -> &'static str {
        match self {
            VssContext::Auto => "ctx_auto",
            VssContext::Backup => "ctx_backup",
            VssContext::FileShareBackup => "ctx_file_share_backup",
        }
    }
}

impl VssBackup {
    /// As `VSS_BACKUP_TYPE` counts.
    const fn number(self) -> i32 {
        match self {
            VssBackup::Full => 1,
            VssBackup::Copy => 5,
        }
    }
}

impl Error {
    /// What this error, of asking or waiting for a snapshot, means for the rung that asked.
    pub fn rung_outcome(&self) -> RungOutcome {
        match self {
            Error::OutcomeUnknown { .. } | Error::TaskTimeout { .. } | Error::TaskLost { .. } => {
                RungOutcome::Unknown
            }
            // The task's answer is what could not be read.
            Error::BadAnswer { .. } => RungOutcome::Unknown,
            Error::Unreachable { .. } => RungOutcome::Busy,
            Error::SnapshotFailed { fault, .. } | Error::TaskFailed { fault, .. } => {
                of_fault(fault)
            }
            // A call that only looks has failed, the snapshot may be there: no fault of the rung.
            Error::Fault { fault, .. } => match of_fault(fault) {
                RungOutcome::Failed => RungOutcome::Busy,
                outcome => outcome,
            },
            _ => RungOutcome::Hopeless,
        }
    }
}

fn of_fault(fault: &VimFault) -> RungOutcome {
    match &fault.kind {
        FaultKind::TaskInProgress { .. }
        | FaultKind::NotAuthenticated
        | FaultKind::FileLocked
        // The VM changes just now; it must be read again.
        | FaultKind::InvalidState
        | FaultKind::InvalidPowerState => RungOutcome::Busy,
        FaultKind::NoPermission { .. }
        | FaultKind::InvalidLogin
        | FaultKind::ManagedObjectNotFound
        | FaultKind::NoDiskSpace
        | FaultKind::RestrictedVersion
        | FaultKind::MethodDisabled => RungOutcome::Hopeless,
        FaultKind::Snapshot(name) => match name.as_str() {
            "SnapshotLocked" => RungOutcome::Busy,
            "SnapshotIncompatibleDeviceInVm"
            | "SnapshotDisabled"
            | "SnapshotNoChange"
            | "TooManySnapshotLevels"
            | "MultipleSnapshotsNotSupported"
            | "MemorySnapshotOnIndependentDisk" => RungOutcome::Hopeless,
            _ => RungOutcome::Failed,
        },
        // Old hosts and odd guests refuse a quiesce request in many words (`NotSupported`,
        // `GenericVmConfigFault`, `SystemError`, `Timedout`): the lowest rung, which asks the guest
        // for nothing, finds out whether it was the quiescing.
        _ => RungOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskRef, VmRef};

    #[track_caller]
    fn check(spec: Quiesce, expected: &str) {
        assert_eq!(spec.spec().as_str(), expected);
    }

    #[test]
    fn quiesce_specs_are_in_schema_order_and_truncate_no_logs_unless_told_to() {
        check(Quiesce::None, "");
        check(
            Quiesce::FileSystem {
                timeout_minutes: 10,
            },
            r#"<quiesceSpec xsi:type="VirtualMachineGuestQuiesceSpec"><timeout>10</timeout></quiesceSpec>"#,
        );
        let copy = WindowsQuiesce::new(5, VssContext::Auto);
        check(
            Quiesce::Windows(copy),
            r#"<quiesceSpec xsi:type="VirtualMachineWindowsQuiesceSpec"><timeout>5</timeout><vssBackupType>5</vssBackupType><vssBootableSystemState>true</vssBootableSystemState><vssPartialFileSupport>false</vssPartialFileSupport><vssBackupContext>ctx_auto</vssBackupContext></quiesceSpec>"#,
        );
        check(
            Quiesce::Windows(WindowsQuiesce {
                backup: VssBackup::Full,
                bootable_system_state: false,
                partial_files: true,
                context: VssContext::FileShareBackup,
                ..copy
            }),
            r#"<quiesceSpec xsi:type="VirtualMachineWindowsQuiesceSpec"><timeout>5</timeout><vssBackupType>1</vssBackupType><vssBootableSystemState>false</vssBootableSystemState><vssPartialFileSupport>true</vssPartialFileSupport><vssBackupContext>ctx_file_share_backup</vssBackupContext></quiesceSpec>"#,
        );
    }

    #[test]
    fn a_time_that_vsphere_refuses_is_the_nearest_that_it_takes() {
        for (asked, expected) in [(0, 5), (4, 5), (240, 240), (255, 240)] {
            let xml = timeout(asked);
            assert_eq!(xml.as_str(), format!("<timeout>{expected}</timeout>"));
        }
    }

    #[track_caller]
    fn means(kind: FaultKind, expected: RungOutcome) {
        let message = String::new();
        let fault = Box::new(VimFault { kind, message });
        let vm = VmRef::new("vm-1");
        assert_eq!(Error::SnapshotFailed { vm, fault }.rung_outcome(), expected);
    }

    #[test]
    fn faults_tell_a_failed_rung_from_a_busy_vm_and_from_no_hope() {
        use RungOutcome::{Busy, Failed, Hopeless};
        means(FaultKind::ApplicationQuiesce, Failed);
        means(FaultKind::FilesystemQuiesce, Failed);
        means(FaultKind::NotSupported, Failed);
        means(FaultKind::Timedout, Failed);
        means(FaultKind::Other("GenericVmConfigFault".into()), Failed);
        means(FaultKind::Snapshot("SnapshotFault".into()), Failed);
        means(FaultKind::TaskInProgress { task: None }, Busy);
        means(FaultKind::InvalidState, Busy);
        means(FaultKind::Snapshot("SnapshotLocked".into()), Busy);
        means(FaultKind::RestrictedVersion, Hopeless);
        means(FaultKind::NoPermission { privilege: None }, Hopeless);
        means(FaultKind::NoDiskSpace, Hopeless);
        let device = "SnapshotIncompatibleDeviceInVm".to_owned();
        means(FaultKind::Snapshot(device), Hopeless);
        means(
            FaultKind::Snapshot("TooManySnapshotLevels".into()),
            Hopeless,
        );
    }

    #[test]
    fn a_lost_answer_is_neither_a_failure_nor_a_success() {
        let task = TaskRef::new("task-1");
        let lost = Error::TaskLost { task: task.clone() };
        assert_eq!(lost.rung_outcome(), RungOutcome::Unknown);
        let late = Error::TaskTimeout { task, seconds: 9 };
        assert_eq!(late.rung_outcome(), RungOutcome::Unknown);
        let gone = Error::VmNotFound {
            vm: VmRef::new("vm-1"),
        };
        assert_eq!(gone.rung_outcome(), RungOutcome::Hopeless);
        let unseen = Error::Fault {
            method: "RetrievePropertiesEx",
            fault: Box::new(VimFault {
                kind: FaultKind::Other("HostCommunication".into()),
                message: String::new(),
            }),
        };
        assert_eq!(unseen.rung_outcome(), RungOutcome::Busy);
    }
}
