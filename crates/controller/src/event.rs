//! What the controller's journal records: every change that must outlive a restart.
//!
//! One enum per part, kept in that part's own file next to the state it changes; this file only
//! nests them. What is true for a moment only (heartbeats, progress) is never journalled.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_types::{Fault, NodeId, Role, RunId};

use crate::alarm::AlarmEvent;
use crate::dataset::DatasetEvent;
use crate::guest::CredentialEvent;
use crate::node::NodeEvent;
use crate::policy::PolicyEvent;
use crate::run::RunEvent;
use crate::token::TokenEvent;
use crate::vcenter::VcenterEvent;

/// One change of the controller's memory.
///
/// The enum is closed: a variant that this release does not know was written by a newer one, and
/// the journal refuses to open rather than forget what it meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A node joined, got a certificate or was removed.
    Node(NodeEvent),
    /// A join token was made or used.
    Token(TokenEvent),
    /// A vCenter was registered or forgotten.
    Vcenter(VcenterEvent),
    /// A dataset got its key or is ready on its repository.
    Dataset(DatasetEvent),
    /// An alarm was raised or is over.
    Alarm(AlarmEvent),
    /// An account in guests was kept or forgotten.
    Credential(CredentialEvent),
    /// A policy was applied or removed.
    Policy(PolicyEvent),
    /// A run went on.
    Run {
        /// Which run.
        run: RunId,
        /// What happened to it.
        event: Box<RunEvent>,
    },
}

macro_rules! nest {
    ($($part:ident => $variant:ident),*) => {
        $(impl From<$part> for Event {
            fn from(event: $part) -> Self {
                Event::$variant(event)
            }
        })*
    };
}
nest!(
    NodeEvent => Node,
    TokenEvent => Token,
    VcenterEvent => Vcenter,
    DatasetEvent => Dataset,
    CredentialEvent => Credential,
    PolicyEvent => Policy,
    AlarmEvent => Alarm
);

/// Who caused a change; the journal is the audit log too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The controller itself: run engine, timers, recovery.
    Controller,
    /// Whoever runs commands on the controller's own host, such as `init`.
    Console,
    /// A node by its certificate.
    Node {
        /// The certificate's node id.
        node: NodeId,
        /// The certificate's role.
        role: Role,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Controller => f.write_str("controller"),
            Actor::Console => f.write_str("console"),
            Actor::Node { node, role } => write!(f, "{role}/{node}"),
        }
    }
}

/// A part of the memory: a state and the events that change it.
///
/// `check` runs before an event is journalled, `apply` after it is durable and on every replay.
/// `apply` must be total and depend on nothing but its arguments: what was journalled happened.
pub trait Part {
    /// The part's events.
    type Event;

    /// Refuses an event that does not fit the state, such as a second use of a token.
    fn check(&self, at: Timestamp, event: &Self::Event) -> Result<(), Fault>;

    /// Takes the event in.
    fn apply(&mut self, at: Timestamp, event: &Self::Event);
}
