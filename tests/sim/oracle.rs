//! What was promised, in plain maps, by whoever was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_format::pack::RecordId;
use stillwater_store::{Options, Point};
use stillwater_types::PointId;

use crate::content::{Sent, disk};

/// A point that was committed.
#[derive(Debug, Clone)]
pub struct Kept {
    pub seeds: Vec<u64>,
    pub manifest: Vec<u8>,
    pub retain_until: Time,
    /// How long the machine must have been up before it may be deleted.
    pub free_at: Duration,
    /// When a cycle first ran during the session that committed it: what it reaches may have been
    /// condemned then, though nothing of it may leave while the point is there.
    pub condemned_at: Option<Duration>,
}

/// A record that was acknowledged and that no open session holds.
#[derive(Debug, Clone, Copy)]
pub struct Loose {
    /// When a cycle may first have condemned it.
    pub condemned_at: Option<Duration>,
}

/// All promises.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    pub kept: BTreeMap<PointId, Kept>,
    /// Commits that were asked for and not answered.
    pub maybe: BTreeMap<PointId, Kept>,
    /// Deletions that were asked for and not answered.
    pub doomed: BTreeSet<PointId>,
    pub deleted: BTreeSet<PointId>,
    pub loose: BTreeMap<RecordId, Loose>,
    pub last_fence: u64,
    /// How long the machine was up in all.
    pub lived: Duration,
    /// Points whose locks were asked to be longer and not answered: until when at most.
    pub locking: BTreeMap<PointId, Time>,
}

/// Trusted time may run that much faster than the boot clock.
fn at_least(span: Duration) -> Duration {
    span - span / 100
}

impl Oracle {
    /// A point was committed; the store says until when it is locked.
    pub fn commit(&mut self, id: PointId, mut kept: Kept, point: &Point) {
        let commit = &point.commit;
        kept.retain_until = commit.retain_until;
        let lock = commit.retain_until.since(commit.committed_at);
        kept.free_at = self.lived + at_least(lock);
        self.maybe.remove(&id);
        self.kept.insert(id, kept);
    }

    pub fn lock(&mut self, id: PointId, until: Time) {
        self.locking.remove(&id);
        if let Some(kept) = self.kept.get_mut(&id) {
            let longer = until.since(kept.retain_until);
            kept.retain_until = kept.retain_until.max(until);
            kept.free_at += at_least(longer);
        }
    }

    pub fn delete(&mut self, id: PointId) {
        self.doomed.remove(&id);
        self.deleted.insert(id);
        if let Some(kept) = self.kept.remove(&id) {
            let condemned_at = kept.condemned_at;
            let records = disk(&kept.seeds).1;
            let loose = |sent: &Sent| (sent.id(), Loose { condemned_at });
            self.loose.extend(records.iter().map(loose));
        }
    }

    /// A cycle decides now: what it condemned long enough ago may be gone.
    pub fn collect(&mut self, options: &Options) {
        let (now, wait) = (self.lived, at_least(options.condemn_wait));
        self.loose.retain(|_, loose| match loose.condemned_at {
            Some(at) => now < at + wait,
            None => {
                loose.condemned_at = Some(now);
                true
            }
        });
    }
}
