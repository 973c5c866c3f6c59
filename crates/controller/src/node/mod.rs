//! Nodes: everything that holds a certificate of the cluster, administrators included.
//!
//! Who joined and who was removed is journalled; who was heard of lately is known only to the
//! [`Directory`], because after a restart the next heartbeats tell it again.

mod directory;
mod event;
mod limiter;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stillwater_types::{Fault, NodeId, Reason, Role};

use crate::event::Part;

pub use directory::{Directory, NodeInfo, OFFLINE_AFTER, Seen};
pub use event::NodeEvent;
pub use registry::{Myself, Registry, RegistryParts, actor, mint, validity};

/// One enrolled node as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, as its certificate says.
    pub node: NodeId,
    /// Its role, for good: another role is another node.
    pub role: Role,
    /// The name that it gave itself.
    pub name: String,
    /// `host:port` where it can be called; empty for admins.
    pub address: String,
    /// When it joined.
    pub joined_at: Timestamp,
    /// When the newest certificate that it was given ends.
    pub certificate_expires_at: Timestamp,
    /// When it was shut out.
    pub removed_at: Option<Timestamp>,
    /// Since when it gets no new work; of proxies only.
    pub draining_since: Option<Timestamp>,
}

/// Every node that ever joined: a removed one stays, so that it is refused by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    nodes: BTreeMap<NodeId, Arc<Node>>,
}

impl Nodes {
    /// Every node, oldest first, removed ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Node> + '_ {
        self.nodes.values().map(Arc::as_ref)
    }

    /// The node of that id, removed or not.
    pub fn find(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(&node).map(Arc::as_ref)
    }

    /// The node of that id if it is a member: it joined and was not removed.
    pub fn member(&self, node: NodeId) -> Result<&Node, Fault> {
        let found = self.find(node).ok_or_else(|| unknown(node))?;
        match found.removed_at {
            Some(_) => Err(removed(node)),
            None => Ok(found),
        }
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(found) = self.nodes.get_mut(&node) {
            change(Arc::make_mut(found));
        }
    }
}

impl Part for Nodes {
    type Event = NodeEvent;

    fn check(&self, _at: Timestamp, event: &NodeEvent) -> Result<(), Fault> {
        match event {
            NodeEvent::Joined { node, .. } if self.nodes.contains_key(node) => {
                Err(Fault::new(Reason::Bug, "a fresh node id was already taken").with("node", node))
            }
            NodeEvent::Joined { .. } => Ok(()),
            NodeEvent::Renewed { node, .. } | NodeEvent::Moved { node, .. } => {
                self.member(*node).map(|_| ())
            }
            // Removing twice is one removal: the second caller wanted what is already so.
            NodeEvent::Removed { node } => {
                self.find(*node).map(|_| ()).ok_or_else(|| unknown(*node))
            }
            NodeEvent::DrainBegun { node } | NodeEvent::DrainEnded { node } => {
                match self.member(*node)?.role {
                    Role::Proxy => Ok(()),
                    role => Err(not_a_proxy(*node, role)),
                }
            }
        }
    }

    fn apply(&mut self, at: Timestamp, event: &NodeEvent) {
        match event {
            NodeEvent::Joined {
                node,
                role,
                name,
                address,
                certificate_expires_at,
            } => {
                let joined = Node {
                    node: *node,
                    role: *role,
                    name: name.clone(),
                    address: address.clone(),
                    joined_at: at,
                    certificate_expires_at: *certificate_expires_at,
                    removed_at: None,
                    draining_since: None,
                };
                self.nodes.insert(*node, Arc::new(joined));
            }
            NodeEvent::Renewed {
                node,
                certificate_expires_at,
            } => {
                self.change(*node, |n| {
                    n.certificate_expires_at = *certificate_expires_at
                });
            }
            NodeEvent::Moved { node, address } => {
                self.change(*node, |n| n.address.clone_from(address));
            }
            NodeEvent::Removed { node } => {
                self.change(*node, |n| n.removed_at = n.removed_at.or(Some(at)));
            }
            NodeEvent::DrainBegun { node } => {
                self.change(*node, |n| {
                    n.draining_since = n.draining_since.or(Some(at));
                });
            }
            NodeEvent::DrainEnded { node } => self.change(*node, |n| n.draining_since = None),
        }
    }
}

fn unknown(node: NodeId) -> Fault {
    Fault::new(
        Reason::NodeNotFound,
        format!("no node {node} has joined; `stillwater node list` names those that have"),
    )
    .with("node", node)
}

fn removed(node: NodeId) -> Fault {
    Fault::new(
        Reason::NodeRemoved,
        format!("node {node} was removed from the cluster; join it again with a new token"),
    )
    .with("node", node)
}

fn not_a_proxy(node: NodeId, role: Role) -> Fault {
    let message = format!(
        "node {node} is a {role}, and only proxies drain; `stillwater proxy list` names them"
    );
    Fault::new(Reason::BadField, message).with("field", "node_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 16]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small timestamp")
    }

    fn joined() -> NodeEvent {
        NodeEvent::Joined {
            node: NODE,
            role: Role::Proxy,
            name: "one".into(),
            address: "one:7444".into(),
            certificate_expires_at: at(100),
        }
    }

    fn after(history: &[NodeEvent]) -> Nodes {
        let mut nodes = Nodes::default();
        (0..)
            .zip(history)
            .for_each(|(second, event)| nodes.apply(at(second), event));
        nodes
    }

    #[track_caller]
    fn check(history: &[NodeEvent], event: &NodeEvent, expected: Option<Reason>) {
        let reason = after(history)
            .check(at(50), event)
            .err()
            .map(|fault| fault.reason);
        assert_eq!(reason, expected);
    }

    #[test]
    fn only_members_renew_and_move() {
        let renewed = NodeEvent::Renewed {
            node: NODE,
            certificate_expires_at: at(200),
        };
        let moved = NodeEvent::Moved {
            node: NODE,
            address: "two:7444".into(),
        };
        let removed = NodeEvent::Removed { node: NODE };
        for event in [renewed, moved] {
            check(&[], &event, Some(Reason::NodeNotFound));
            check(&[joined()], &event, None);
            check(
                &[joined(), removed.clone()],
                &event,
                Some(Reason::NodeRemoved),
            );
        }
    }

    #[test]
    fn a_node_joins_once_and_is_removed_for_good() {
        let removed = NodeEvent::Removed { node: NODE };
        check(&[], &joined(), None);
        check(&[joined()], &joined(), Some(Reason::Bug));
        check(&[], &removed, Some(Reason::NodeNotFound));
        check(&[joined(), removed.clone()], &removed, None);
        let nodes = after(&[joined(), removed.clone(), removed]);
        assert_eq!(
            nodes.find(NODE).and_then(|node| node.removed_at),
            Some(at(1))
        );
    }

    #[test]
    fn a_proxy_drains_from_the_first_word_to_the_last() {
        let begun = NodeEvent::DrainBegun { node: NODE };
        let ended = NodeEvent::DrainEnded { node: NODE };
        let since = |history: &[NodeEvent]| {
            let nodes = after(history);
            nodes.member(NODE).expect("a member").draining_since
        };
        assert_eq!(since(&[joined()]), None);
        let twice = [joined(), begun.clone(), begun.clone()];
        assert_eq!(since(&twice), Some(at(1)));
        let over = [joined(), begun.clone(), ended.clone(), ended.clone()];
        assert_eq!(since(&over), None);
        let again = [joined(), begun.clone(), ended.clone(), begun.clone()];
        assert_eq!(since(&again), Some(at(3)));
        for event in [&begun, &ended] {
            check(&[], event, Some(Reason::NodeNotFound));
            check(&[joined()], event, None);
            let removed = NodeEvent::Removed { node: NODE };
            check(&[joined(), removed], event, Some(Reason::NodeRemoved));
            let repository = NodeEvent::Joined {
                node: NODE,
                role: Role::Repository,
                name: "store".into(),
                address: "store:7446".into(),
                certificate_expires_at: at(100),
            };
            check(&[repository], event, Some(Reason::BadField));
        }
    }

    #[test]
    fn what_a_node_says_later_wins() {
        let nodes = after(&[
            joined(),
            NodeEvent::Moved {
                node: NODE,
                address: "two:7444".into(),
            },
            NodeEvent::Renewed {
                node: NODE,
                certificate_expires_at: at(200),
            },
        ]);
        let node = nodes.member(NODE).expect("a member");
        assert_eq!((node.address.as_str(), node.joined_at), ("two:7444", at(0)));
        assert_eq!(node.certificate_expires_at, at(200));
    }
}
