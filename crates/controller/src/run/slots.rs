//! Proxy slots: how many transfers each proxy takes, and who has them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwater_scheduler::Transport;
use stillwater_types::{Fault, NodeId, Reason, Role};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::{Directory, NodeInfo};

/// How often a waiting run looks again: a proxy that comes online tells nobody here.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How a proxy reaches what it is wanted for, at best.
pub type Way<'a> = &'a (dyn Fn(&NodeInfo) -> Transport + Sync);

/// Gives out slots; clones share the count. Only this controller gives work to its proxies, so what
/// was given out is what is taken, and the heartbeats' own counts, which lag, are not asked.
#[derive(Clone)]
pub struct Slots {
    nodes: Directory,
    taken: Arc<Mutex<Taken>>,
    freed: Arc<Notify>,
}

/// What was given out.
#[derive(Default)]
struct Taken {
    /// Slots that are taken now.
    counts: HashMap<NodeId, u32>,
    /// The number of the last slot that each proxy was given, and of the next.
    last: HashMap<NodeId, u64>,
    next: u64,
}

impl Taken {
    fn count(&self, node: NodeId) -> u32 {
        self.counts.get(&node).copied().unwrap_or_default()
    }

    fn give(&mut self, node: NodeId) {
        *self.counts.entry(node).or_default() += 1;
        self.next += 1;
        self.last.insert(node, self.next);
    }
}

/// One slot of a proxy; given back when dropped.
pub struct Permit {
    /// The proxy.
    pub proxy: NodeInfo,
    taken: Arc<Mutex<Taken>>,
    freed: Arc<Notify>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = locked(&self.taken).counts.get_mut(&self.proxy.node) {
            *count = count.saturating_sub(1);
        }
        self.freed.notify_waiters();
    }
}

impl Slots {
    /// No slot is taken.
    pub fn new(nodes: Directory) -> Self {
        Self {
            nodes,
            taken: Arc::default(),
            freed: Arc::default(),
        }
    }

    /// A slot of the proxy with the best way to the disk, of those the one that has most free, and of equals the
    /// one that has waited longest for work, if any has one; not of `avoid` while another is online, never of one that drains, and of one that could not
    /// be called only when no other has any.
    pub fn take(&self, avoid: &BTreeSet<NodeId>, way: Way<'_>) -> Option<Permit> {
        let mut online = self.nodes.online(Role::Proxy);
        online.retain(|proxy| !proxy.is_draining);
        let others = || online.iter().filter(|proxy| !avoid.contains(&proxy.node));
        let candidates: Vec<&NodeInfo> = match others().next() {
            Some(_) => others().collect(),
            None => online.iter().collect(),
        };
        let mut taken = locked(&self.taken);
        let free = |proxy: &NodeInfo| {
            let slots = proxy.load.transfer_slots;
            slots.saturating_sub(taken.count(proxy.node))
        };
        let best = candidates
            .into_iter()
            .max_by_key(|proxy| {
                let has_room = free(proxy) > 0;
                let nearness = Reverse(way(proxy));
                (
                    has_room && !proxy.is_doubtful,
                    has_room,
                    nearness,
                    free(proxy),
                    Reverse(taken.last.get(&proxy.node)),
                )
            })?
            .clone();
        if free(&best) == 0 {
            return None;
        }
        taken.give(best.node);
        Some(Permit {
            proxy: best,
            taken: Arc::clone(&self.taken),
            freed: Arc::clone(&self.freed),
        })
    }

    /// How many slots of each proxy are taken.
    pub fn taken(&self) -> HashMap<NodeId, u32> {
        locked(&self.taken).counts.clone()
    }

    /// Whether the proxy of a slot drains by now, and another proxy takes work.
    pub fn is_to_leave(&self, permit: &Permit) -> bool {
        let online = self.nodes.online(Role::Proxy);
        let proxy = self.nodes.member(permit.proxy.node);
        let takes = |other: &NodeInfo| !other.is_draining && other.load.transfer_slots > 0;
        proxy.is_ok_and(|proxy| proxy.is_draining) && online.iter().any(takes)
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// `NO_PROXY_SLOT` when none was free in time.
    pub async fn wait(
        &self,
        avoid: &BTreeSet<NodeId>,
        way: Way<'_>,
        limit: Duration,
    ) -> Result<Permit, Fault> {
        let until = Instant::now() + limit;
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.take(avoid, way) {
                return Ok(permit);
            }
            if Instant::now() >= until {
                return Err(Fault::new(
                    Reason::NoProxySlot,
                    "no proxy with a free slot is online and takes new work; `stillwater proxy list` tells of each: start, undrain or add one, or wait",
                ));
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(LOOK_EVERY.min(limit)) => {}
            }
        }
    }
}

fn locked(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // What is counted stays true whatever panics elsewhere.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}
