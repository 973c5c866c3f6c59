//! What transfers may take of each ESXi host's NFC service.
//!
//! A host opens some fifty disks at once and has some 48 MB for all of them, whoever asks; a client
//! that takes more is refused. So a disk's share is taken here before its tickets are: one session,
//! which opens one disk, and the memory that its requests in flight may pin. Who comes first is
//! served first, and gets less memory the more others wait, so that many slow disks share a host
//! instead of one.
//!
//! Whoever waits here may hold a proxy slot, but whoever has a share waits for no slot: so every
//! share comes back, and nobody waits for ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwater_types::VcenterId;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Less in flight than this is too slow to be worth a session.
pub const IN_FLIGHT_MIN: u64 = 1 << 20;
/// As much as a proxy reads ahead; more would be taken and not used.
pub const IN_FLIGHT_MAX: u64 = 8 << 20;
/// What an open disk takes of the host before anything is in flight.
pub const OPEN_BYTES: u64 = 512 << 10;
/// A VM that moves more often while one share is waited for is left alone.
const MOVES_MAX: u32 = 8;

/// How much of one host may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Disks that are open at once, each in a session of its own.
    pub disks: u32,
    /// Memory that they may pin together.
    pub buffer_bytes: u64,
}

impl Default for Limits {
    /// Half of the disks and three quarters of the memory: others read from the same host.
    fn default() -> Self {
        Self {
            disks: 24,
            buffer_bytes: 36 << 20,
        }
    }
}

/// One ESXi host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostKey {
    /// Its vCenter.
    pub vcenter: VcenterId,
    /// Its name there; empty when vCenter tells none, and all such hosts share one budget.
    pub host: String,
}

/// Names who waits.
type Waiter = u64;

/// What one host gave, and who waits for it.
#[derive(Debug, Default)]
struct Account {
    disks: u32,
    bytes: u64,
    queue: VecDeque<Waiter>,
}

impl Account {
    /// What the first in the queue gets in flight now; none while it must wait.
    fn share(&self, limits: Limits) -> Option<u64> {
        let waiting = u64::try_from(self.queue.len()).unwrap_or(u64::MAX).max(1);
        let free = limits.buffer_bytes.saturating_sub(self.bytes);
        let most = free.saturating_sub(OPEN_BYTES);
        let even = (free / waiting).saturating_sub(OPEN_BYTES);
        let share = even.clamp(IN_FLIGHT_MIN, IN_FLIGHT_MAX);
        // A host without limits worth the name still moves one disk at a time.
        let is_alone = self.disks == 0;
        let fits = self.disks < limits.disks.max(1) && (share <= most || is_alone);
        fits.then_some(share)
    }

    /// Serves the queue as far as that goes; who got what in flight.
    fn serve(&mut self, limits: Limits) -> Vec<(Waiter, u64)> {
        let mut served = Vec::new();
        while let Some(&waiter) = self.queue.front() {
            let Some(share) = self.share(limits) else {
                break;
            };
            self.queue.pop_front();
            self.disks += 1;
            self.bytes += OPEN_BYTES + share;
            served.push((waiter, share));
        }
        served
    }

    fn give_back(&mut self, share: u64) {
        self.disks = self.disks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(OPEN_BYTES + share);
    }

    fn leave(&mut self, waiter: Waiter) {
        self.queue.retain(|other| *other != waiter);
    }

    fn is_idle(&self) -> bool {
        self.disks == 0 && self.queue.is_empty()
    }
}

/// The budgets of all hosts; clones share them. Only this controller's transfers are counted.
#[derive(Clone, Default)]
pub struct Budgets {
    limits: Limits,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    accounts: BTreeMap<HostKey, Account>,
    waiting: BTreeMap<Waiter, oneshot::Sender<Lease>>,
    last: Waiter,
}

/// A disk's share of its host; given back when dropped.
pub struct Lease {
    /// How much may be in flight.
    pub in_flight_bytes: u64,
    host: HostKey,
    budgets: Budgets,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}", self.in_flight_bytes, self.host.host)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let share = self.in_flight_bytes;
        self.budgets
            .change(&self.host, |account| account.give_back(share));
    }
}

/// A place in a queue; left when dropped.
struct Place<'a> {
    waiter: Waiter,
    host: &'a HostKey,
    budgets: &'a Budgets,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiter = self.waiter;
        drop(self.budgets.books().waiting.remove(&waiter));
        self.budgets
            .change(self.host, |account| account.leave(waiter));
    }
}

impl Budgets {
    /// Nothing is taken.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            books: Arc::default(),
        }
    }

    /// Waits for a share of a host, behind all who wait already; none when it did not come in time.
    pub async fn wait(&self, host: &HostKey, limit: Duration) -> Option<Lease> {
        let (sender, receiver) = oneshot::channel();
        let waiter = {
            let mut books = self.books();
            books.last += 1;
            let waiter = books.last;
            books.waiting.insert(waiter, sender);
            waiter
        };
        let place = Place {
            waiter,
            host,
            budgets: self,
        };
        self.change(host, |account| account.queue.push_back(waiter));
        let lease = tokio::time::timeout(limit, receiver).await;
        drop(place);
        lease.ok()?.ok()
    }

    /// Waits for a share of the host that `find` names. While it is waited for the disk's VM may move:
    /// then the share is given back, since another host would be opened, and one of that is waited for.
    ///
    /// # Errors
    /// Those of `find`.
    pub async fn wait_for<E, F>(
        &self,
        find: impl Fn() -> F,
        limit: Duration,
    ) -> Result<Option<Lease>, E>
    where
        F: Future<Output = Result<HostKey, E>>,
    {
        let end = Instant::now() + limit;
        let mut host = find().await?;
        for _ in 0..=MOVES_MAX {
            let left = end.saturating_duration_since(Instant::now());
            let Some(lease) = self.wait(&host, left).await else {
                break;
            };
            let found = find().await?;
            if found == host {
                return Ok(Some(lease));
            }
            host = found;
        }
        Ok(None)
    }

    /// A small share of a host that is at most half taken, for a disk that may never need it; none else.
    pub fn spare(&self, host: &HostKey) -> Option<Lease> {
        let wanted = OPEN_BYTES + IN_FLIGHT_MIN;
        let mut books = self.books();
        let account = books.accounts.entry(host.clone()).or_default();
        let fits = account.queue.is_empty()
            && account.disks < self.limits.disks / 2
            && account.bytes + wanted <= self.limits.buffer_bytes / 2;
        if fits {
            account.disks += 1;
            account.bytes += wanted;
        } else if account.is_idle() {
            books.accounts.remove(host);
        }
        drop(books);
        fits.then(|| Lease {
            in_flight_bytes: IN_FLIGHT_MIN,
            host: host.clone(),
            budgets: self.clone(),
        })
    }

    /// Changes a host's account, then serves those who wait for it.
    fn change(&self, host: &HostKey, change: impl FnOnce(&mut Account)) {
        let served: Vec<_> = {
            let mut books = self.books();
            let account = books.accounts.entry(host.clone()).or_default();
            change(account);
            let served = account.serve(self.limits);
            if account.is_idle() {
                books.accounts.remove(host);
            }
            let mut find = |(waiter, share)| (books.waiting.remove(&waiter), share);
            served.into_iter().map(&mut find).collect()
        };
        // Out of the lock: a share that nobody takes any more comes back at once.
        for (sender, in_flight_bytes) in served {
            let lease = Lease {
                in_flight_bytes,
                host: host.clone(),
                budgets: self.clone(),
            };
            match sender {
                Some(sender) => drop(sender.send(lease)),
                None => drop(lease),
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Each change is whole before the next call; a panic elsewhere leaves nothing half done.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
