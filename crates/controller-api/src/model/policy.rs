//! What is to be protected and how well.

use jiff::Timestamp;
use stillwater_types::{PointId, VmId};

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

/// Asks what a policy would keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatePolicyRequest {
    /// The name of a policy that is applied; empty when a file is told.
    pub name: String,
    /// A policy file, in TOML; empty when a name is told.
    pub file: String,
    /// How many days.
    pub days: u32,
}

/// What a policy would keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatePolicyResponse {
    /// The policy's name.
    pub name: String,
    /// Every day, the first one first.
    pub days: Vec<SimulatedDay>,
    /// What is kept at the end of the last day, newest first.
    pub kept: Vec<SimulatedPoint>,
}

/// What is there at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedDay {
    /// On the policy's wall clock, such as `2026-03-29`.
    pub date: String,
    /// The moment that it is over.
    pub over_at: Timestamp,
    /// Points that it brought.
    pub made_count: u32,
    /// Points that are kept.
    pub kept_count: u32,
    /// The oldest one of them.
    pub oldest_at: Option<Timestamp>,
}

/// A point that would be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedPoint {
    /// The moment that it is of.
    pub at: Timestamp,
    /// Every reason, in words.
    pub why: Vec<String>,
}

/// Asks what becomes of a policy's points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPolicyPointsRequest {
    /// The policy's name.
    pub policy: String,
    /// Id or name of a VM; all when empty.
    pub vm: String,
}

/// What becomes of a policy's points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPolicyPointsResponse {
    /// By VM and repository, oldest first.
    pub points: Vec<PolicyPoint>,
    /// How many more there are.
    pub left_off_count: u32,
}

/// A restore point, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPoint {
    /// Names it.
    pub point_id: PointId,
    /// Its VM.
    pub vm_id: VmId,
    /// What the VM was called.
    pub vm_name: String,
    /// The repository that keeps it.
    pub repository_name: String,
    /// The moment that it is of.
    pub at: Timestamp,
    /// Whether no policy wants it any more.
    pub is_expired: bool,
    /// What each policy says of it, or why none does.
    pub why: Vec<String>,
    /// Until when it is gone if every run succeeds from now on, as far as that was worked out.
    pub gone_by: Option<Timestamp>,
    /// Why its repository refused to delete it.
    pub refusal: Option<String>,
}
