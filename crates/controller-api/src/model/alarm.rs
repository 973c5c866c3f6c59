//! What a person must look at.

use jiff::Timestamp;
use stillwater_types::{NodeId, VmId};

/// What is wrong with one subject, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// A stable name, such as `CHANGE_MAP_LIED`.
    pub kind: String,
    /// What it is wrong with, in words.
    pub subject: String,
    /// The VM that it is about.
    pub vm_id: Option<VmId>,
    /// The disk of the VM that it is about.
    pub disk_key: Option<i32>,
    /// The node that it is about.
    pub node_id: Option<NodeId>,
    /// What was found, and what to do.
    pub message: String,
    /// Since when.
    pub raised_at: Timestamp,
    /// When the message changed last.
    pub changed_at: Timestamp,
    /// When it was over; none while it stands.
    pub cleared_at: Option<Timestamp>,
}

/// Asks for the alarms that stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListAlarmsRequest {
    /// Whether alarms that are over are told too.
    pub include_cleared: bool,
}
