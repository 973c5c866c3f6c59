//! What happened.

use jiff::Timestamp;
use stillwater_types::{NodeId, PointId, RunId, VmId};

/// How much a person should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventSeverity {
    /// Somebody or something did what it should.
    Info,
    /// To be looked at when there is time.
    Warning,
    /// To be looked at.
    Error,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows from event to event, though not by one; never given twice.
    pub number: u64,
    /// A stable name, such as `RUN_FAILED`.
    pub kind: String,
    /// How much a person should care.
    pub severity: EventSeverity,
    /// When.
    pub at: Timestamp,
    /// Who: `controller`, `console`, or the role and the node id of a certificate.
    pub by: String,
    /// The name of that node, where it is known.
    pub by_name: Option<String>,
    /// In words.
    pub message: String,
    /// The VM that it is about.
    pub vm_id: Option<VmId>,
    /// What the VM was called, where that was known.
    pub vm_name: Option<String>,
    /// The run that it is about.
    pub run_id: Option<RunId>,
    /// The restore point that it is about.
    pub point_id: Option<PointId>,
    /// The node that it is about.
    pub node_id: Option<NodeId>,
    /// The name of the policy that it is about.
    pub policy: Option<String>,
    /// The kind of the alarm that it is about.
    pub alarm: Option<String>,
}

/// Which events are wanted; what is empty wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// These kinds.
    pub kinds: Vec<String>,
    /// These and worse ones.
    pub severity: Option<EventSeverity>,
    /// Name of a VM, in any case of its letters, or its id.
    pub vm: Option<String>,
    /// About this run.
    pub run_id: Option<RunId>,
    /// About this policy.
    pub policy: Option<String>,
}

/// Asks for the newest events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEventsRequest {
    /// Which are wanted.
    pub filter: EventFilter,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// At most this many; on receipt 1 to [`PAGE_SIZE_MAX`](super::PAGE_SIZE_MAX).
    pub page_size: u32,
    /// Where the last page ended.
    pub page_token: Option<String>,
}

/// A page of events, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEventsResponse {
    /// The events.
    pub events: Vec<Event>,
    /// Asks for the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// Asks for events as they happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchEventsRequest {
    /// Which are wanted.
    pub filter: EventFilter,
    /// Goes on after this number; with what happens from now on when none.
    pub after: Option<u64>,
}
