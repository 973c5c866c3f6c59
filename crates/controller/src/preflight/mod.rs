//! What keeps a VM from being protected, or makes less of its protection.
//!
//! The checks are pure functions of what vSphere told. `stillwater vm preflight` prints what they find;
//! a run asks the same ones when it is planned, so that nothing is refused in other words than foretold.

mod disk;
mod guard;
mod machine;
mod privilege;
mod service;
mod storage;

use std::fmt;

use jiff::Timestamp;
use stillwater_types::{ClusterId, Fault, Reason};
use stillwater_vsphere::{PrivilegeGroup, Vm};

use crate::run::{Cause, Circumstances, Guards};

pub use privilege::{BACKUP, BACKUP_WITH_HOOKS, RESTORE};
pub use service::Service;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Backups work, and something of them is less than it could be.
    Warning,
    /// The disk, or the whole VM, cannot be protected.
    Blocked,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A check. Its name is stable: scripts and runbooks match it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// Every check; docs/operations/preflight.md has each.
            pub const ALL: &[Check] = &[$(Check::$name,)*];

            /// The name as it crosses the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Check::$name => $text,)* }
            }
        }
    };
}

checks! {
    /// Whether vCenter can reach the VM.
    Connection = "CONNECTION";
    /// Whether it is a template.
    Template = "TEMPLATE";
    /// Whether it is protected by fault tolerance.
    FaultTolerance = "FAULT_TOLERANCE";
    /// Whether the server allows snapshots of it.
    SnapshotSupport = "SNAPSHOT_SUPPORT";
    /// Whether another product has disabled what a backup calls.
    DisabledMethods = "DISABLED_METHODS";
    /// Whether it waits for an answer.
    Question = "QUESTION";
    /// Whether it is suspended.
    Power = "POWER";
    /// Whether a snapshot can freeze a disk.
    Disk = "DISK";
    /// Whether its hardware is new enough.
    HardwareVersion = "HARDWARE_VERSION";
    /// Whether changed areas are tracked.
    ChangeTracking = "CHANGE_TRACKING";
    /// Whether VMware Tools can quiesce the guest.
    Tools = "TOOLS";
    /// Whether its configuration is encrypted.
    Encryption = "ENCRYPTION";
    /// Whether it has a virtual TPM.
    VirtualTpm = "VIRTUAL_TPM";
    /// Whether deltas remain that no snapshot explains.
    Consolidation = "CONSOLIDATION";
    /// Whether a datastore can be reached.
    Datastore = "DATASTORE";
    /// Whether a datastore has room for what is written while a snapshot lives.
    Headroom = "HEADROOM";
    /// How many snapshots others made, and how old they are.
    ForeignSnapshots = "FOREIGN_SNAPSHOTS";
    /// Whether our account may do what is needed.
    Privilege = "PRIVILEGE";
}

impl Check {
    /// Whether a run finds out by itself how it is, and says so where it asked for more: how a guest was
    /// quiesced and how a disk was read stand in the point with their evidence.
    const fn is_measured_by_runs(self) -> bool {
        matches!(
            self,
            Check::Tools | Check::ChangeTracking | Check::HardwareVersion | Check::Power
        )
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The whole VM.
    Vm,
    /// One of its disks.
    Disk {
        /// Its device key.
        key: i32,
        /// What people call it.
        label: String,
    },
    /// A datastore, by name.
    Datastore(String),
    /// What our account may do, and on what.
    Account(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Vm => f.write_str("vm"),
            Subject::Disk { key, label } => write!(f, "disk {key} ({label:?})"),
            Subject::Datastore(name) => write!(f, "datastore {name}"),
            Subject::Account(object) => write!(f, "our account on {object}"),
        }
    }
}

/// What a check found on one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// What it comes to.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: Subject,
    /// The privilege that is lacking, of [`Check::Privilege`].
    pub privilege: Option<&'static str>,
    /// The reason that a run gives for it.
    pub reason: Reason,
    /// Whether runs tell it although they work.
    pub is_told_by_runs: bool,
    /// What was found, and what to do.
    pub message: String,
}

impl Finding {
    fn new(check: Check, verdict: Verdict, subject: Subject, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            subject,
            privilege: None,
            reason: Reason::SnapshotFailed,
            is_told_by_runs: verdict == Verdict::Warning && !check.is_measured_by_runs(),
            message: message.into(),
        }
    }

    fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// The same as a run tells it.
    fn cause(&self) -> Cause {
        let (subject, message) = (&self.subject, &self.message);
        let fault = match subject {
            Subject::Vm | Subject::Account(_) => Fault::new(self.reason, message),
            Subject::Disk { key, .. } => {
                let message = format!("{subject} is not in the point: {message}");
                Fault::new(self.reason, message).with("disk", key)
            }
            Subject::Datastore(name) => {
                let message = format!("{subject}: {message}");
                Fault::new(self.reason, message).with("datastore", name)
            }
        };
        let fault = fault.with("check", self.check);
        match self.privilege {
            Some(privilege) => Cause(fault.with("privilege", privilege)),
            None => Cause(fault),
        }
    }
}

/// What the checks are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The VM, read afresh.
    pub vm: &'a Vm,
    /// What is around it.
    pub around: &'a Circumstances,
    /// Disks that somebody leaves out on purpose, by key.
    pub exclude: &'a [i32],
    /// Whose snapshots are ours.
    pub cluster: ClusterId,
    /// For what privileges were asked.
    pub purposes: &'a [PrivilegeGroup],
    /// How careful to be with what is around it.
    pub guards: &'a Guards,
    /// Whether disks may be read through their host.
    pub reads_nfc: bool,
    /// The time.
    pub now: Timestamp,
}

/// Everything that the checks find, in the order of the checks.
pub fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = machine::examine(facts.vm);
    found.extend(disk::examine(facts.vm, facts.exclude));
    found.extend(storage::examine(facts));
    found.extend(guard::examine(facts));
    found.extend(privilege::examine(facts));
    found.sort_by_key(|finding| finding.check);
    found
}

/// What the checks mean for a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ruling {
    /// Disks that are not in the point, and why.
    pub missing: Vec<Cause>,
    /// What a person should know although the run works.
    pub warnings: Vec<Cause>,
}

impl Ruling {
    /// What `findings` mean for a run.
    ///
    /// # Errors
    /// Why no run can work, when something blocks the whole VM.
    pub fn of(findings: &[Finding]) -> Result<Self, Fault> {
        let is_disk = |finding: &&Finding| matches!(finding.subject, Subject::Disk { .. });
        let blocked = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Blocked);
        let (disks, whole): (Vec<&Finding>, Vec<&Finding>) = blocked.partition(is_disk);
        if let Some(first) = whole.first() {
            let Cause(fault) = first.cause();
            let words: Vec<String> = whole.iter().map(|f| f.cause().0.message).collect();
            return Err(Fault {
                message: words.join("; "),
                ..fault
            });
        }
        let told = findings.iter().filter(|finding| finding.is_told_by_runs);
        Ok(Self {
            missing: disks.into_iter().map(Finding::cause).collect(),
            warnings: told.map(Finding::cause).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::sound;
