//! The event log: what happened, as people and their other systems want to be told.
//!
//! Nothing is written for it that is not written anyway: a notice is a pure function of an entry of the journal
//! and of the state before it, so that rows which are lost are worked out again, with the same numbers. To people, to
//! the tool and on the wire notices are called events; here that word is the journal's.

mod kind;
mod log;
mod service;
mod tell;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{NodeId, PointId, RunId, VmId};

pub use kind::{NoticeKind, Severity};
pub use log::Log;
pub use service::Service;
pub use tell::tell;

/// What happened, without when and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What.
    pub kind: NoticeKind,
    /// In words.
    pub message: String,
    /// What it was about.
    #[serde(flatten)]
    pub about: About,
}

/// What a notice is about, as far as there is such a thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// What the VM was called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vm_name: String,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The policy's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// The kind of alarm.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alarm: String,
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its place in the journal, from 1 on. Numbers grow and are never given twice, but not every one is a notice's.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who, as the journal names them: `controller`, `console` or role and node id.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub told: Told,
}

#[cfg(test)]
mod tests;
