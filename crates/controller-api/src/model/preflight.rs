//! Whether a VM can be protected.

use crate::VmSummary;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PreflightVerdict {
    /// As it should be.
    Ok,
    /// Backups work, and something of them is less than it could be.
    Warning,
    /// The disk, or the whole VM, cannot be protected.
    Blocked,
}

/// Asks what keeps a VM from being protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightVmRequest {
    /// Id, name or inventory path.
    pub vm: String,
    /// Whether what a restore to where the VM is needs is checked too.
    pub restore: bool,
}

/// What keeps a VM from being protected, or makes less of its protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightVmResponse {
    /// The VM.
    pub summary: VmSummary,
    /// What each check found.
    pub findings: Vec<PreflightFinding>,
}

/// What a check found on one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightFinding {
    /// The check's stable name, such as `DISK`.
    pub check: String,
    /// What it comes to.
    pub verdict: PreflightVerdict,
    /// What was looked at, such as `disk 2001 ("Hard disk 2")`.
    pub subject: String,
    /// The disk that it is about.
    pub disk_key: Option<i32>,
    /// The privilege that our account lacks.
    pub privilege: Option<String>,
    /// What was found, and what to do.
    pub message: String,
}
