//! What becomes of a pack: decided from what was seen, with nothing done.

use std::time::Duration;

use stillwater_format::Time;

use crate::fates::Standing;

/// What was so when the cycle looked at the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    /// The last entry of the log.
    pub(super) sequence: u64,
    /// Trusted time; none while it is in doubt.
    pub(super) now: Option<Time>,
    /// The fences of the sessions that were open.
    pub(super) open: Vec<u64>,
    pub(super) condemn_wait: Duration,
    pub(super) quarantine_wait: Duration,
    pub(super) compact_below_percent: u8,
}

/// A pack that lies in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pack {
    /// The session that wrote it.
    pub(super) fence: u64,
    /// Bytes of its chunks and nodes, without what a pack has beside them: otherwise small packs would
    /// be compacted for ever.
    pub(super) record_bytes: u64,
    /// Whether its trailer is good, and so all its records are known.
    pub(super) is_whole: bool,
    /// Whether its dataset is one of the log's.
    pub(super) is_ours: bool,
    pub(super) standing: Option<Standing>,
    /// Bytes of records that points reach; zero if none does.
    pub(super) live_bytes: u64,
}

/// What becomes of a pack that lies in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// Nothing is decided about it by collection, whatever reaches it.
    Untouched,
    /// It is condemned, and waits for time or for this session.
    Wait(Option<u64>),
    /// Nothing reaches it.
    Condemn,
    /// Something reaches it though it is condemned.
    Spare,
    /// Nothing reached it for long enough.
    Quarantine,
    /// Little of it is live.
    Compact,
}

impl Scene {
    /// Decides about a pack that lies in its place.
    pub(super) fn judge(&self, pack: &Pack) -> Verdict {
        match pack.standing {
            None => self.judge_used(pack),
            Some(Standing::Condemned { sequence, at }) => self.judge_condemned(pack, sequence, at),
            // What was decided is done already, or is at the next start.
            Some(Standing::Quarantined { .. } | Standing::Damaged | Standing::Removed) => {
                Verdict::Keep
            }
        }
    }

    fn judge_used(&self, pack: &Pack) -> Verdict {
        if !pack.is_ours || !pack.is_whole {
            return Verdict::Untouched;
        }
        // What a session that is open wrote may be reached by its next point.
        if pack.fence > self.sequence || self.open.contains(&pack.fence) {
            return Verdict::Keep;
        }
        if pack.live_bytes == 0 {
            return Verdict::Condemn;
        }
        let threshold = u128::from(pack.record_bytes) * u128::from(self.compact_below_percent);
        if u128::from(pack.live_bytes) * 100 < threshold {
            Verdict::Compact
        } else {
            Verdict::Keep
        }
    }

    fn judge_condemned(&self, pack: &Pack, sequence: u64, at: Time) -> Verdict {
        if pack.live_bytes > 0 {
            return Verdict::Spare;
        }
        if !pack.is_ours || !pack.is_whole {
            return Verdict::Untouched;
        }
        // A session that was open before may reach it by its next point. Later ones cannot see it, and
        // the points of those that are over were marked.
        let blocking = self.open.iter().copied().filter(|fence| *fence < sequence);
        if let Some(blocking) = blocking.min() {
            return Verdict::Wait(Some(blocking));
        }
        if self.has_passed(at, self.condemn_wait) {
            Verdict::Quarantine
        } else {
            Verdict::Wait(None)
        }
    }

    /// Whether a pack, or the manifest of a point, that was taken out at `at` may be removed.
    pub(super) fn is_removable(&self, at: Time) -> bool {
        self.has_passed(at, self.quarantine_wait)
    }

    fn has_passed(&self, at: Time, wait: Duration) -> bool {
        self.now.is_some_and(|now| now >= at.after(wait))
    }
}

#[cfg(test)]
mod tests;
