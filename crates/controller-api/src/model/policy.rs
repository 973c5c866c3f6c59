//! What is to be protected and how well.

use jiff::Timestamp;
use stillwater_types::VmId;

/// A policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it promises, in words.
    pub promise: String,
    /// The name of the repository that its runs write to.
    pub repository: String,
    /// Its share when there is not enough for all, 1 to 9.
    pub priority: u32,
    /// Since when there is a policy of that name.
    pub since: Timestamp,
    /// Since when it says what it says.
    pub changed_at: Timestamp,
    /// The policy file, in TOML.
    pub file: String,
}

/// One key in which a policy differs from what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Such as `retention.daily`.
    pub key: String,
    /// What it said.
    pub before: Option<String>,
    /// What it says.
    pub after: Option<String>,
    /// Whether less is kept by it, or worse.
    pub is_weaker: bool,
}

/// Asks for a policy file to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyPolicyRequest {
    /// The policy file, in TOML.
    pub file: String,
    /// Whether it is only told what would change.
    pub dry_run: bool,
}

/// What applying a policy changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyPolicyResponse {
    /// The policy's name.
    pub name: String,
    /// Whether there was no policy of that name.
    pub is_new: bool,
    /// Every key that changes.
    pub changes: Vec<PolicyChange>,
    /// Inventory paths of VMs that come into its scope.
    pub enter: Vec<String>,
    /// Inventory paths of VMs that leave it.
    pub leave: Vec<String>,
}

/// A VM, and whether a policy is for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyMember {
    /// The VM.
    pub vm_id: VmId,
    /// Its inventory path.
    pub path: String,
    /// Whether the policy is for it.
    pub is_in: bool,
    /// By which clause it is in or left out.
    pub why: String,
}
