//! Who can be called now: the journal's nodes, joined with what heartbeats said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use stillwater_controller_api::{NodeLoad, ProxyReach};
use stillwater_types::{Fault, NodeId, Role};
use tokio::time::Instant;

use super::Node;
use crate::memory::Memory;

/// A node is called offline when no heartbeat came for this long.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(30);

/// One node that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, which its certificate must show.
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
    /// The name that people use.
    pub name: String,
    /// What its last heartbeat said.
    pub load: NodeLoad,
    /// By which ways a proxy reaches disks, as far as it said.
    pub reach: ProxyReach,
    /// Whether it gets no new work.
    pub is_draining: bool,
    /// Whether a call to it failed since its last heartbeat.
    pub is_doubtful: bool,
}

/// What the last heartbeat of a node said. Never journalled: the next one tells it again.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it came, for people.
    pub at: Timestamp,
    /// The version that the node runs.
    pub version: String,
    /// What it can do and does.
    pub load: NodeLoad,
    /// By which ways it reaches disks; of proxies only.
    pub reach: Option<ProxyReach>,
    /// When it came, by a clock that nobody sets.
    instant: Instant,
    /// Whether a call to the node failed since.
    is_doubtful: bool,
}

impl Seen {
    /// Whether the heartbeat is recent enough for the node to be called online.
    pub fn is_fresh(&self) -> bool {
        self.instant.elapsed() < OFFLINE_AFTER
    }
}

/// Answers who can be called; clones share it.
#[derive(Clone)]
pub struct Directory {
    memory: Memory,
    seen: Arc<Mutex<HashMap<NodeId, Seen>>>,
}

impl Directory {
    /// A directory that has not heard of anybody yet.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            seen: Arc::default(),
        }
    }

    /// The members of `role` that are heard of, in the order in which they joined.
    pub fn online(&self, role: Role) -> Vec<NodeInfo> {
        let state = self.memory.state();
        let seen = self.seen();
        let members = state
            .nodes
            .iter()
            .filter(|n| n.role == role && n.removed_at.is_none());
        members
            .filter_map(|node| {
                let seen = seen.get(&node.node).filter(|seen| seen.is_fresh())?;
                Some(info(node, Some(seen)))
            })
            .collect()
    }

    /// The members of `role` that may answer: those that are heard of, and those of which nothing can have been
    /// heard yet because the controller has just started.
    pub fn askable(&self, role: Role) -> Vec<NodeInfo> {
        self.split(role).0
    }

    /// The members of `role` that were heard of, but not lately.
    pub fn silent(&self, role: Role) -> Vec<NodeInfo> {
        self.split(role).1
    }

    fn split(&self, role: Role) -> (Vec<NodeInfo>, Vec<NodeInfo>) {
        let state = self.memory.state();
        let seen = self.seen();
        let members = state
            .nodes
            .iter()
            .filter(|node| node.role == role && node.removed_at.is_none());
        let (askable, silent): (Vec<_>, Vec<_>) =
            members.partition(|node| seen.get(&node.node).is_none_or(Seen::is_fresh));
        let infos = |nodes: Vec<&Node>| {
            let info = |node: &&Node| info(node, seen.get(&node.node));
            nodes.iter().map(info).collect()
        };
        (infos(askable), infos(silent))
    }

    /// The member of that id, whether it is heard of or not.
    ///
    /// After a restart the nodes of unfinished runs must be called before their next heartbeat.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` and `NODE_REMOVED`.
    pub fn member(&self, node: NodeId) -> Result<NodeInfo, Fault> {
        let state = self.memory.state();
        let member = state.nodes.member(node)?;
        Ok(info(member, self.seen().get(&node)))
    }

    /// Notes a heartbeat.
    pub fn note(&self, node: NodeId, version: String, load: NodeLoad, reach: Option<ProxyReach>) {
        let seen = Seen {
            at: self.memory.now(),
            version,
            load,
            reach,
            instant: Instant::now(),
            is_doubtful: false,
        };
        self.seen().insert(node, seen);
    }

    /// Notes that `node` could not be called: until its next heartbeat others go before it, long
    /// before it counts as offline.
    pub fn doubt(&self, node: NodeId) {
        if let Some(seen) = self.seen().get_mut(&node) {
            seen.is_doubtful = true;
        }
    }

    /// What the last heartbeat of `node` said, if one came since the start.
    pub fn last(&self, node: NodeId) -> Option<Seen> {
        self.seen().get(&node).cloned()
    }

    /// Forgets what a removed node said.
    pub fn forget(&self, node: NodeId) {
        self.seen().remove(&node);
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<NodeId, Seen>> {
        // Every change is one insert or remove, so a panic elsewhere leaves nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn info(node: &Node, seen: Option<&Seen>) -> NodeInfo {
    NodeInfo {
        node: node.node,
        address: node.address.clone(),
        name: node.name.clone(),
        load: seen.map(|seen| seen.load).unwrap_or_default(),
        reach: seen.and_then(|seen| seen.reach.clone()).unwrap_or_default(),
        is_draining: node.draining_since.is_some(),
        is_doubtful: seen.is_some_and(|seen| seen.is_doubtful),
    }
}
