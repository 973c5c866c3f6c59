//! What was decided about packs, as the commit log says it.
//!
//! A session's fence and a decision are both places in the log, so whether a pack was condemned before
//! a session opened is a comparison of two numbers. A session that was open before pins all that it
//! could see: nothing of that leaves before the session has ended.

use std::collections::BTreeMap;

use stillwater_format::Time;
use stillwater_format::commit::{Decision, Fate};
use stillwater_types::PackId;

/// Where a pack stands. One without a standing is in use like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing reached it when it was condemned.
    Condemned {
        /// The place of the decision in the log.
        sequence: u64,
        /// The trusted time of the decision.
        at: Time,
    },
    /// It was taken out, and waits for its removal.
    Quarantined {
        /// The trusted time of the decision.
        at: Time,
    },
    /// It was taken out for damage, and stays in quarantine.
    Damaged,
    /// It is gone.
    Removed,
}

/// The standing of all packs.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    standings: BTreeMap<PackId, Standing>,
    last_condemned: u64,
    last_lost: u64,
}

impl Fates {
    /// Takes in a decision at its place in the log.
    pub(crate) fn take(&mut self, sequence: u64, decision: &Decision) {
        let at = decision.at;
        for pack in &decision.packs {
            match decision.fate {
                Fate::Condemned => {
                    self.last_condemned = sequence;
                    self.set(*pack, Standing::Condemned { sequence, at });
                }
                Fate::Spared => {
                    self.standings.remove(pack);
                }
                Fate::Quarantined => self.set(*pack, Standing::Quarantined { at }),
                Fate::Damaged => {
                    self.last_lost = sequence;
                    self.set(*pack, Standing::Damaged);
                }
                Fate::Removed => self.set(*pack, Standing::Removed),
            }
        }
    }

    /// Takes in that records were lost.
    pub(crate) fn take_loss(&mut self, sequence: u64) {
        self.last_lost = sequence;
    }

    fn set(&mut self, pack: PackId, standing: Standing) {
        self.standings.insert(pack, standing);
    }

    /// Where a pack stands, if anything was decided about it.
    pub(crate) fn of(&self, pack: PackId) -> Option<Standing> {
        self.standings.get(&pack).copied()
    }

    /// All packs that something was decided about, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PackId, Standing)> {
        self.standings.iter().map(|(pack, at)| (*pack, *at))
    }

    /// Whether a session with this fence may rely on what the pack holds.
    pub(crate) fn is_seen_by(&self, fence: u64, pack: PackId) -> bool {
        match self.of(pack) {
            None => true,
            Some(Standing::Condemned { sequence, .. }) => fence < sequence,
            Some(Standing::Quarantined { .. } | Standing::Damaged | Standing::Removed) => false,
        }
    }

    /// Whether the pack's records may be read, by whoever knows that it needs them.
    pub(crate) fn is_readable(&self, pack: PackId) -> bool {
        matches!(self.of(pack), None | Some(Standing::Condemned { .. }))
    }

    /// The packs that are condemned and still in place.
    pub(crate) fn condemned(&self) -> Vec<PackId> {
        let condemned = |at: &Standing| matches!(at, Standing::Condemned { .. });
        let mut packs: Vec<_> = self
            .iter()
            .filter_map(|(pack, at)| condemned(&at).then_some(pack))
            .collect();
        packs.sort_unstable();
        packs
    }

    /// The place of the newest decision that condemned anything; zero if there is none.
    pub(crate) const fn last_condemned(&self) -> u64 {
        self.last_condemned
    }

    /// The place of the newest entry by which anything was lost to damage; zero if there is none.
    /// Whatever was looked at before may not be so any more.
    pub(crate) const fn last_lost(&self) -> u64 {
        self.last_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(fates: &mut Fates, sequence: u64, fate: Fate, pack: PackId) {
        let at = Time::from_millis(sequence);
        let packs = vec![pack];
        fates.take(sequence, &Decision { fate, at, packs });
    }

    #[test]
    fn a_condemned_pack_is_seen_only_by_sessions_that_were_open_before() {
        let (mut fates, pack) = (Fates::default(), PackId::from_bytes([1; 16]));
        assert!(fates.is_seen_by(9, pack));
        decide(&mut fates, 5, Fate::Condemned, pack);
        assert!(fates.is_seen_by(4, pack) && !fates.is_seen_by(6, pack));
        assert!(fates.is_readable(pack));
        assert_eq!(fates.last_condemned(), 5);
        decide(&mut fates, 7, Fate::Spared, pack);
        assert!(fates.is_seen_by(6, pack));
        assert_eq!(fates.last_condemned(), 5);
    }

    #[test]
    fn a_loss_is_known_by_its_place() {
        let (mut fates, pack) = (Fates::default(), PackId::from_bytes([1; 16]));
        decide(&mut fates, 5, Fate::Condemned, pack);
        assert_eq!(fates.last_lost(), 0);
        decide(&mut fates, 7, Fate::Damaged, pack);
        assert_eq!(fates.last_lost(), 7);
        fates.take_loss(8);
        assert_eq!(fates.last_lost(), 8);
    }

    #[test]
    fn a_pack_in_quarantine_is_seen_by_nobody() {
        for fate in [Fate::Quarantined, Fate::Damaged, Fate::Removed] {
            let (mut fates, pack) = (Fates::default(), PackId::from_bytes([1; 16]));
            decide(&mut fates, 5, fate, pack);
            assert!(!fates.is_seen_by(4, pack) && !fates.is_readable(pack));
        }
    }
}
