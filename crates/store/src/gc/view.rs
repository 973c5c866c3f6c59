//! What a cycle saw of the store when it looked: taken at one place of the log, under its lock.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use stillwater_format::Time;
use stillwater_format::pack::{FOOTER_LEN, HEADER_LEN, RECORD_HEADER_LEN, SALT_LEN};
use stillwater_types::{DatasetId, PackId, PointId};

use super::judge::{Pack, Scene};
use super::mark::{Known, Marks};
use super::roots::Root;
use crate::SessionKey;
use crate::fates::Standing;
use crate::index::PackFacts;
use crate::store::{Inner, Ledger};

/// What was so when a cycle looked.
#[derive(Default)]
pub(super) struct View {
    scene: Scene,
    sessions: Vec<SessionKey>,
    packs: BTreeMap<PackId, Looks>,
    standings: BTreeMap<PackId, Standing>,
    deleted: Vec<(PointId, Time)>,
    stored_bytes: u64,
    /// Points up to this place in the log are walked, or are being walked.
    walked: u64,
}

/// A pack, as far as a cycle needs it.
#[derive(Debug, Clone, Copy)]
struct Looks {
    dataset: DatasetId,
    fence: u64,
    length: u64,
    record_bytes: u64,
    is_whole: bool,
    is_ours: bool,
    entry_count: u32,
}

impl View {
    /// Looks at the log, and at what goes with it. Gives the points that exist.
    pub(super) fn look(inner: &Inner) -> (Self, Vec<Root>) {
        let mut ledger = inner.ledger();
        let is_frozen = inner.watch_time(&mut ledger).is_some();
        let (now, _) = inner.times(&mut ledger);
        let sequence = ledger.log.head().sequence;
        let sessions = inner.open_sessions();
        let scene = Scene {
            sequence,
            now: (!is_frozen).then_some(now),
            open: sessions.iter().map(|session| session.fence).collect(),
            condemn_wait: inner.options.condemn_wait,
            quarantine_wait: inner.options.quarantine_wait,
            compact_below_percent: inner.options.compact_below_percent,
        };
        let is_ours = |dataset| ledger.datasets().iter().any(|known| known.id == dataset);
        let facts = |pack| inner.packs.facts(pack);
        let packs: BTreeMap<_, _> = inner
            .packs
            .list()
            .into_iter()
            .filter_map(facts)
            .map(|facts| (facts.pack, Looks::of(&facts, is_ours(facts.dataset))))
            .collect();
        let view = Self {
            scene,
            sessions,
            stored_bytes: packs.values().map(|looks| looks.length).sum(),
            packs,
            standings: inner.fates().iter().collect(),
            deleted: ledger.deleted.iter().map(|(p, at)| (*p, *at)).collect(),
            walked: sequence,
        };
        (view, ledger.roots.after(0))
    }

    pub(super) const fn scene(&self) -> &Scene {
        &self.scene
    }

    pub(super) fn sessions(&self) -> &[SessionKey] {
        &self.sessions
    }

    pub(super) fn deleted(&self) -> &[(PointId, Time)] {
        &self.deleted
    }

    pub(super) const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Every pack that the cycle sees. What is remembered of its records holds as long as it is whole, in
    /// use, in its place and not suspect.
    pub(super) fn known(
        &self,
        present: &HashSet<PackId>,
        suspects: &BTreeSet<PackId>,
    ) -> Vec<Known> {
        let known = |(pack, looks): (&PackId, &Looks)| Known {
            pack: *pack,
            is_whole: looks.is_whole,
            is_trusted: looks.is_whole
                && !self.standings.contains_key(pack)
                && present.contains(pack)
                && !suspects.contains(pack),
            entry_count: looks.entry_count,
        };
        self.packs.iter().map(known).collect()
    }

    pub(super) fn packs(&self) -> Vec<PackId> {
        self.packs.keys().copied().collect()
    }

    pub(super) fn length(&self, pack: PackId) -> u64 {
        self.packs.get(&pack).map_or(0, |looks| looks.length)
    }

    /// The dataset of a pack that was seen.
    pub(super) fn dataset(&self, pack: PackId) -> Option<DatasetId> {
        self.packs.get(&pack).map(|looks| looks.dataset)
    }

    /// A pack as it is judged.
    pub(super) fn seen(&self, pack: PackId, marks: &Marks) -> Option<Pack> {
        let looks = self.packs.get(&pack)?;
        Some(Pack {
            fence: looks.fence,
            record_bytes: looks.record_bytes,
            is_whole: looks.is_whole && marks.is_whole(pack),
            is_ours: looks.is_ours,
            standing: self.standings.get(&pack).copied(),
            live_bytes: marks.live_bytes(pack),
        })
    }

    /// Packs that were quarantined for long enough.
    pub(super) fn removable(&self) -> Vec<PackId> {
        let is_removable = |standing: &Standing| match standing {
            Standing::Quarantined { at } => self.scene.is_removable(*at),
            Standing::Condemned { .. } | Standing::Damaged | Standing::Removed => false,
        };
        let standings = self.standings.iter();
        standings
            .filter(|(_, standing)| is_removable(standing))
            .map(|(pack, _)| *pack)
            .collect()
    }

    /// The points that came since the last ones that were walked.
    pub(super) fn late_roots(&self, ledger: &Ledger) -> Vec<Root> {
        ledger.roots.after(self.walked)
    }

    /// Notes that the points that there are will have been walked.
    pub(super) fn note_walked(&mut self, ledger: &Ledger) {
        self.walked = ledger.log.head().sequence;
    }
}

impl Looks {
    fn of(facts: &PackFacts, is_ours: bool) -> Self {
        // What a pack has beside its chunks and nodes: docs/format.md, "Packs".
        let salts = facts.salts.len() as u64;
        let entries = salts + u64::from(facts.chunk_count) + u64::from(facts.node_count);
        let frame = (HEADER_LEN + FOOTER_LEN) as u64 + TRAILER_FRAME_LEN;
        let salt_bytes = salts * (RECORD_HEADER_LEN + SALT_LEN) as u64;
        let beside = frame + salt_bytes + entries * TRAILER_ENTRY_LEN;
        Self {
            dataset: facts.dataset,
            fence: facts.fence,
            length: facts.length,
            record_bytes: facts.length.saturating_sub(beside),
            is_whole: facts.is_whole,
            is_ours,
            entry_count: u32::try_from(entries).unwrap_or(u32::MAX),
        }
    }
}

const TRAILER_FRAME_LEN: u64 = 40;
const TRAILER_ENTRY_LEN: u64 = 56;
