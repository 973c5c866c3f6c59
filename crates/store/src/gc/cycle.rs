//! One cycle, in steps that are each bounded.

use std::time::Duration;

use stillwater_format::commit::{Cycle, Decision, Entry, Fate, NAMED_MAX};
use stillwater_types::PackId;

use super::compact::copy_records;
use super::judge::Verdict;
use super::mark::{Marks, Walk};
use super::sweep::{self, Manifests};
use super::view::View;
use super::{Blocking, Collected, Held, Phase, Progress, brake, oldest, orphans};
use crate::Error;
use crate::fates::Standing;
use crate::pack::table;
use crate::store::{Inner, Ledger, Store};

/// Nodes that are read in one step.
const NODES_PER_STEP: usize = 64;
/// Packs that are moved or removed in one step.
const PACKS_PER_STEP: usize = 256;
/// Live bytes that one step of compaction gathers before it ends: one new pack.
const COMPACT_PER_STEP: u64 = 64 << 20;
/// A cycle compacts this part of what is stored at most, so that it ends, and so that what the next one
/// condemns for it is far from the brake; but never less than `COMPACT_MIN_BYTES`.
const COMPACT_PART: u64 = 20;
const COMPACT_MIN_BYTES: u64 = 1 << 30;
/// How often a cycle walks points that came while it was about to condemn, before it condemns anyway: a
/// later cycle spares what they reach.
const LATE_ROUNDS: u32 = 8;

/// A cycle that goes on. Dropped before its end, it leaves nothing half done.
pub struct Collection {
    store: Store,
    began: Duration,
    stage: Stage,
    view: View,
    marks: Marks,
    /// Whether `marks` have what earlier cycles found.
    has_looked: bool,
    is_finished: bool,
    plan: Plan,
    report: Collected,
}

enum Stage {
    Settle,
    Look,
    Mark(Walk),
    Decide,
    Spare,
    Quarantine,
    Remove,
    Condemn { rounds: u32 },
    Late { walk: Walk, rounds: u32 },
    Compact,
    Clear,
    Finish,
    Over,
}

/// What was decided about packs and is not done yet.
#[derive(Default)]
struct Plan {
    spare: Vec<PackId>,
    quarantine: Vec<PackId>,
    remove: Vec<PackId>,
    condemn: Vec<PackId>,
    /// With the bytes of its live records.
    compact: Vec<(PackId, u64)>,
    /// All that is to be spared, quarantined, removed or condemned.
    total: u64,
    /// Live bytes of all that is to be compacted.
    compact_bytes: u64,
}

impl Plan {
    fn left(&self) -> u64 {
        let lists = [&self.spare, &self.quarantine, &self.remove, &self.condemn];
        lists.iter().map(|packs| packs.len() as u64).sum()
    }

    fn compact_left(&self) -> u64 {
        self.compact.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Collection {
    pub(super) fn begin(store: Store) -> Result<Self, Error> {
        store.inner.check_writable()?;
        store.inner.gc.turn.take()?;
        Ok(Self {
            began: store.inner.clock.since_boot(),
            stage: Stage::Settle,
            view: View::default(),
            marks: Marks::default(),
            has_looked: false,
            is_finished: false,
            plan: Plan::default(),
            report: Collected::default(),
            store,
        })
    }

    /// Makes one step.
    ///
    /// # Errors
    /// As [`Store::collect`]. The cycle is over then.
    pub fn step(&mut self) -> Result<Progress, Error> {
        // After an error there is no next step.
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let store = self.store.clone();
        self.stage = self.run(&store.inner, stage).inspect_err(|error| {
            let source = std::error::Error::source(error);
            tracing::error!(%error, ?source, "ended a collection early");
            store.inner.gc.tally.note_failure(error);
        })?;
        Ok(self.progress())
    }

    fn run(&mut self, inner: &Inner, stage: Stage) -> Result<Stage, Error> {
        match stage {
            Stage::Settle => {
                let standings: Vec<_> = inner.fates().iter().collect();
                sweep::catch_up(&*inner.vfs, &standings)?;
                Ok(Stage::Look)
            }
            Stage::Look => {
                let (view, roots) = View::look(inner);
                let present = table::list(&*inner.vfs)?;
                let known = view.known(&present, &inner.scrub.suspects());
                self.marks = Marks::new(&known, inner.gc.take_nodes());
                self.has_looked = true;
                self.view = view;
                Ok(Stage::Mark(Walk::over(roots)))
            }
            Stage::Mark(mut walk) => {
                let is_over = self.marks.advance(inner, &mut walk, NODES_PER_STEP)?;
                Ok(if is_over {
                    Stage::Decide
                } else {
                    Stage::Mark(walk)
                })
            }
            Stage::Decide => self.decide(inner).map(|()| Stage::Spare),
            Stage::Spare => self.spare(inner),
            Stage::Quarantine => self.quarantine(inner),
            Stage::Remove => self.remove(inner),
            Stage::Condemn { rounds } => self.condemn(inner, rounds),
            Stage::Late { mut walk, rounds } => {
                let is_over = self.marks.advance(inner, &mut walk, NODES_PER_STEP)?;
                Ok(if is_over {
                    Stage::Condemn { rounds }
                } else {
                    Stage::Late { walk, rounds }
                })
            }
            Stage::Compact => self.compact(inner),
            Stage::Clear => self.clear(inner).map(|()| Stage::Finish),
            Stage::Finish => self.finish(inner).map(|()| Stage::Over),
            Stage::Over => Err(Error::CollectionStopped),
        }
    }

    fn progress(&self) -> Progress {
        let plan = &self.plan;
        let (phase, done, total) = match &self.stage {
            Stage::Settle | Stage::Look => (Phase::Settle, 0, 0),
            Stage::Mark(walk) | Stage::Late { walk, .. } => {
                let (done, total) = walk.progress();
                (Phase::Mark, done, total)
            }
            Stage::Decide
            | Stage::Spare
            | Stage::Quarantine
            | Stage::Remove
            | Stage::Condemn { .. } => {
                let done = plan.total.saturating_sub(plan.left());
                (Phase::Sweep, done, plan.total)
            }
            Stage::Compact => {
                let done = plan.compact_bytes.saturating_sub(plan.compact_left());
                (Phase::Compact, done, plan.compact_bytes)
            }
            Stage::Clear | Stage::Finish => (Phase::Finish, 0, 0),
            Stage::Over => return Progress::Done(Box::new(self.report.clone())),
        };
        Progress::Working { phase, done, total }
    }

    /// Decides about every pack, and does nothing yet.
    fn decide(&mut self, inner: &Inner) -> Result<(), Error> {
        let mut waiting_count = 0;
        for pack in self.view.packs() {
            match self.verdict(inner, pack)? {
                Verdict::Keep | Verdict::Wait(None) => {}
                Verdict::Wait(Some(_)) => waiting_count += 1,
                Verdict::Untouched => self.report.untouched.add(self.view.length(pack)),
                Verdict::Condemn => self.plan.condemn.push(pack),
                Verdict::Spare => self.plan.spare.push(pack),
                Verdict::Quarantine => self.plan.quarantine.push(pack),
                Verdict::Compact => {
                    let live_bytes = self.marks.live_bytes(pack);
                    self.plan.compact.push((pack, live_bytes));
                }
            }
        }
        self.plan.remove = self.view.removable();
        self.report.blocking = oldest(self.view.sessions())
            .filter(|_| waiting_count > 0)
            .map(|oldest| Blocking {
                run: oldest.run,
                fence: oldest.fence,
                pack_count: waiting_count,
            });
        if self.view.scene().now.is_none() {
            self.hold(Held::Time);
        }
        self.brake(inner);
        self.choose_compaction(inner);
        self.plan.total = self.plan.left();
        self.plan.compact_bytes = self.plan.compact_left();
        Ok(())
    }

    fn verdict(&self, inner: &Inner, pack: PackId) -> Result<Verdict, Error> {
        let Some(seen) = self.view.seen(pack, &self.marks) else {
            return Ok(Verdict::Keep);
        };
        let verdict = self.view.scene().judge(&seen);
        let dies = matches!(verdict, Verdict::Condemn | Verdict::Quarantine);
        if !dies || !self.has_missing(inner, pack)? {
            return Ok(verdict);
        }
        tracing::error!(%pack, "kept a pack that has chunks which the index should know");
        Ok(match verdict {
            Verdict::Quarantine => Verdict::Spare,
            _ => Verdict::Keep,
        })
    }

    /// Whether a pack has a chunk that a point names and the index does not know.
    fn has_missing(&self, inner: &Inner, pack: PackId) -> Result<bool, Error> {
        match self.view.dataset(pack) {
            Some(dataset) => self.marks.has_missing(inner, dataset, pack),
            None => Ok(false),
        }
    }

    fn hold(&mut self, held: Held) {
        tracing::error!(%held, "held a collection back");
        // The brake needs people, the clock may be right at the next cycle.
        if !matches!(self.report.held, Some(Held::Brake { .. })) {
            self.report.held = Some(held);
        }
    }

    /// Condemns nothing if it would be an unusual amount that nobody allowed.
    fn brake(&mut self, inner: &Inner) {
        let copied = inner.gc.copied();
        let lost = |pack: &PackId| {
            let copied = copied.get(pack).copied().unwrap_or_default();
            self.view.length(*pack).saturating_sub(copied)
        };
        let bytes = self.plan.condemn.iter().map(lost).sum();
        let ledger = inner.ledger();
        let limits = brake::Limits {
            percent: inner.options.sweep_brake_percent,
            min_bytes: inner.options.sweep_brake_min_bytes,
        };
        let limit_bytes = brake::limit(limits, self.view.stored_bytes(), ledger.roots.cycles());
        let allowed = ledger.authority.allowed_sweep().unwrap_or_default();
        drop(ledger);
        if bytes > limit_bytes.max(allowed) {
            self.plan.condemn.clear();
            self.report.cycle.held_bytes = bytes;
            self.hold(Held::Brake { bytes, limit_bytes });
        }
    }

    /// The packs of which the least is live first, as many as one cycle copies.
    fn choose_compaction(&mut self, inner: &Inner) {
        let most = (self.view.stored_bytes() / COMPACT_PART).max(COMPACT_MIN_BYTES);
        let Plan { compact, .. } = &mut self.plan;
        inner.gc.without_stubborn(compact);
        compact.sort_unstable_by_key(|(pack, bytes)| (*bytes, *pack));
        let mut sum = 0_u64;
        compact.retain(|(_, bytes)| {
            sum = sum.saturating_add(*bytes);
            sum <= most
        });
        // Taken from the end.
        compact.reverse();
    }

    fn spare(&mut self, inner: &Inner) -> Result<Stage, Error> {
        let packs = take(&mut self.plan.spare, NAMED_MAX);
        if packs.is_empty() {
            return Ok(Stage::Quarantine);
        }
        let packs = self.put_on_record(inner, &mut inner.ledger(), Fate::Spared, packs)?;
        for pack in packs {
            self.report.spared.add(self.view.length(pack));
        }
        Ok(Stage::Spare)
    }

    fn quarantine(&mut self, inner: &Inner) -> Result<Stage, Error> {
        let packs = take(&mut self.plan.quarantine, PACKS_PER_STEP);
        if packs.is_empty() {
            return Ok(Stage::Remove);
        }
        let packs = self.put_on_record(inner, &mut inner.ledger(), Fate::Quarantined, packs)?;
        inner.gc.forget(&packs);
        sweep::set_aside(&*inner.vfs, &packs)?;
        for pack in packs {
            self.report.quarantined.add(self.view.length(pack));
        }
        Ok(Stage::Quarantine)
    }

    fn remove(&mut self, inner: &Inner) -> Result<Stage, Error> {
        let packs = take(&mut self.plan.remove, PACKS_PER_STEP);
        if packs.is_empty() {
            return Ok(Stage::Condemn { rounds: 0 });
        }
        let packs = self.put_on_record(inner, &mut inner.ledger(), Fate::Removed, packs)?;
        for pack in &packs {
            self.report.removed.add(sweep::length(&*inner.vfs, *pack)?);
        }
        sweep::remove(&*inner.vfs, &packs)?;
        Ok(Stage::Remove)
    }

    /// Condemns, once every point that there is was walked.
    fn condemn(&mut self, inner: &Inner, rounds: u32) -> Result<Stage, Error> {
        let Plan { condemn, .. } = &mut self.plan;
        condemn.retain(|pack| self.marks.live_bytes(*pack) == 0);
        let mut packs = Vec::with_capacity(condemn.len());
        for pack in std::mem::take(condemn) {
            if !self.has_missing(inner, pack)? {
                packs.push(pack);
            }
        }
        let mut ledger = inner.ledger();
        let late = self.view.late_roots(&ledger);
        if !late.is_empty() && !packs.is_empty() && rounds < LATE_ROUNDS {
            self.view.note_walked(&ledger);
            self.plan.condemn = packs;
            let (walk, rounds) = (Walk::over(late), rounds + 1);
            return Ok(Stage::Late { walk, rounds });
        }
        for packs in packs.chunks(NAMED_MAX) {
            let packs = self.put_on_record(inner, &mut ledger, Fate::Condemned, packs.to_vec())?;
            for pack in packs {
                self.report.condemned.add(self.view.length(pack));
            }
        }
        Ok(Stage::Compact)
    }

    /// Puts a decision on the log, for those packs for which what it stands on is still so.
    fn put_on_record(
        &mut self,
        inner: &Inner,
        ledger: &mut Ledger,
        fate: Fate,
        mut packs: Vec<PackId>,
    ) -> Result<Vec<PackId>, Error> {
        let needs_time = matches!(fate, Fate::Quarantined | Fate::Removed);
        if needs_time && inner.watch_time(ledger).is_some() {
            self.hold(Held::Time);
            return Ok(Vec::new());
        }
        let lost_meanwhile = inner.fates().last_lost() > self.view.scene().sequence;
        if fate == Fate::Quarantined && lost_meanwhile {
            // The copy that was marked may be the one that was lost.
            tracing::warn!(
                "left condemned packs to the next cycle, since records were lost meanwhile"
            );
            return Ok(Vec::new());
        }
        let oldest = oldest(&inner.open_sessions()).map_or(u64::MAX, |oldest| oldest.fence);
        let fates = inner.fates();
        packs.retain(|pack| match (fate, fates.of(*pack)) {
            (Fate::Condemned, None) => true,
            (Fate::Spared, Some(Standing::Condemned { .. })) => true,
            (Fate::Quarantined, Some(Standing::Condemned { sequence, .. })) => sequence <= oldest,
            (Fate::Removed, Some(Standing::Quarantined { .. })) => true,
            _ => false,
        });
        drop(fates);
        if packs.is_empty() {
            return Ok(packs);
        }
        let (at, _) = inner.times(ledger);
        let count = packs.len();
        let decision = Decision { fate, at, packs };
        let entry = Entry::Packs(decision.clone());
        let sequence = inner.append(ledger, &entry)?;
        tracing::info!(?fate, count, sequence, "decided about packs");
        Ok(decision.packs)
    }

    /// Copies what is live out of a few packs.
    fn compact(&mut self, inner: &Inner) -> Result<Stage, Error> {
        let group = self.compaction_group();
        let first = group
            .first()
            .and_then(|(first, _)| self.view.dataset(*first));
        let Some(dataset) = first else {
            return Ok(Stage::Clear);
        };
        let mut records = Vec::new();
        for (pack, _) in &group {
            if inner.fates().of(*pack).is_none() {
                records.extend(self.marks.live_records(inner, *pack)?);
            }
        }
        let copied = match copy_records(inner, dataset, self.view.scene().sequence, records) {
            Ok(copied) => copied,
            Err(Error::Full { .. }) => {
                tracing::warn!("left packs as they are; there is no room to compact them");
                self.plan.compact.clear();
                return Ok(Stage::Compact);
            }
            Err(error) => return Err(error),
        };
        for (pack, _) in &group {
            self.marks.note_copied(*pack);
        }
        self.report.damaged_record_count += copied.damaged.len() as u64;
        for (pack, bytes) in group {
            if copied.damaged.iter().any(|(_, at)| at.pack == pack) {
                inner.gc.note_stubborn(pack);
            } else {
                inner.gc.note_copied(pack, bytes);
                self.report.compacted.add(self.view.length(pack));
            }
        }
        Ok(Stage::Compact)
    }

    /// Packs of one dataset that together make about one new pack.
    fn compaction_group(&mut self) -> Vec<(PackId, u64)> {
        let mut group: Vec<(PackId, u64)> = Vec::new();
        let mut sum = 0;
        while let Some((pack, bytes)) = self.plan.compact.last().copied() {
            let dataset = self.view.dataset(pack);
            let fits = group
                .first()
                .is_none_or(|(first, _)| self.view.dataset(*first) == dataset);
            if !fits || sum >= COMPACT_PER_STEP {
                break;
            }
            self.plan.compact.pop();
            sum += bytes;
            group.push((pack, bytes));
        }
        group
    }

    /// Takes the manifests of points out of the way that were deleted before the cycle began.
    fn clear(&mut self, inner: &Inner) -> Result<(), Error> {
        orphans::abandon(inner)?;
        let deleted = self.view.deleted();
        let waiting = inner.gc.without_cleared(deleted);
        let wait = inner.options.condemn_wait;
        let scene = self.view.scene();
        let what = |at: stillwater_format::Time| {
            if scene.is_removable(at.after(wait)) {
                Manifests::Removed
            } else {
                Manifests::SetAside
            }
        };
        let points: Vec<_> = waiting.iter().map(|(p, at)| (*p, what(*at))).collect();
        sweep::clear(&*inner.vfs, &points)?;
        inner.gc.note_cleared(
            points
                .iter()
                .filter(|(_, what)| *what == Manifests::Removed)
                .map(|(point, _)| *point),
        );
        Ok(())
    }

    fn finish(&mut self, inner: &Inner) -> Result<(), Error> {
        let mut ledger = inner.ledger();
        let (at, _) = inner.times(&mut ledger);
        let report = &mut self.report;
        report.cycle = Cycle {
            at,
            live_bytes: self.marks.all_live_bytes(),
            stored_bytes: self.view.stored_bytes(),
            condemned_bytes: report.condemned.bytes,
            held_bytes: report.cycle.held_bytes,
            removed_bytes: report.removed.bytes,
        };
        inner.append(&mut ledger, &Entry::CycleEnded(report.cycle))?;
        drop(ledger);
        report.missing_chunk_count = self.marks.missing_count();
        report.read_node_count = self.marks.read_count();
        report.duration = inner.clock.since_boot().saturating_sub(self.began);
        inner.gc.tally.note(report);
        tracing::info!(?report, "collected garbage");
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        let gc = &self.store.inner.gc;
        if self.has_looked {
            let marks = std::mem::take(&mut self.marks);
            gc.keep_nodes(marks.into_memory(self.is_finished));
        }
        gc.turn.give_back();
    }
}

/// Takes at most `most` packs from a list.
fn take(packs: &mut Vec<PackId>, most: usize) -> Vec<PackId> {
    packs.split_off(packs.len().saturating_sub(most))
}
