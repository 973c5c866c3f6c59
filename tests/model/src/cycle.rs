//! One cycle of garbage collection, step by step.

use crate::rules::Rule;
use crate::runs::Protocol;
use crate::state::{Cycle, Fate, Life, Pack, Phase, Set, Standing, State};

impl Protocol {
    /// Looks at points, sessions and packs, in one place of the log.
    pub(crate) fn begin_cycle(&self, state: &mut State) -> Option<()> {
        if state.cycle.phase != Phase::Idle {
            return None;
        }
        state.left.cycles = state.left.cycles.checked_sub(1)?;
        let runs = state.runs.iter().enumerate();
        let todo = runs.filter(|(_, run)| run.point == Fate::Committed);
        let is_fresh = |pack: &Pack| self.holds(Rule::FreshPacksStay) && pack.fence.is_some();
        state.cycle = Cycle {
            phase: Phase::Mark,
            todo: todo.map(|(run, _)| run).collect(),
            used: state.packs_where(|pack| {
                pack.standing == Standing::Used && !pack.is_aside && !is_fresh(pack)
            }),
            condemned: state.packs_where(|pack| {
                matches!(pack.standing, Standing::Condemned(_)) && !pack.is_aside
            }),
            judgeable: self.judgeable(state),
            removable: state
                .packs_where(|pack| pack.standing == Standing::Quarantined && pack.is_aside),
            saw_loss: false,
        };
        self.skip_to_work(state);
        Some(())
    }

    /// Condemned packs that nobody waits for.
    fn judgeable(&self, state: &State) -> Set {
        let everything = !self.holds(Rule::JudgeWaitsForOldSessions);
        let mut counting = state.open_sessions();
        if !self.holds(Rule::SessionsEndByLog) {
            let sessions = state.sessions.iter().enumerate();
            let expired = sessions.filter(|(_, session)| session.life == Life::Expired);
            counting = counting.without(expired.map(|(slot, _)| slot).collect());
        }
        if !self.holds(Rule::LookIsOnePlace) {
            // Sessions are looked at later.
            counting = Set::NONE;
        }
        state.packs_where(|pack| match pack.standing {
            Standing::Condemned(seen_by) => {
                !pack.is_aside && (everything || seen_by.common(counting).is_empty())
            }
            _ => false,
        })
    }

    pub(crate) fn step_cycle(&self, state: &mut State) -> Option<()> {
        match state.cycle.phase {
            Phase::Idle => return None,
            Phase::Mark => self.mark(state),
            Phase::Spare => {
                for place in self.spared(state).iter() {
                    state.packs[place].standing = Standing::Used;
                }
                state.cycle.phase = Phase::Quarantine;
            }
            Phase::Quarantine => self.quarantine(state),
            Phase::Move => {
                for pack in &mut state.packs {
                    if self.holds(Rule::DecisionComesFirst) {
                        pack.is_aside |= pack.standing == Standing::Quarantined;
                    } else if pack.is_aside && matches!(pack.standing, Standing::Condemned(_)) {
                        pack.standing = Standing::Quarantined;
                    }
                }
                state.cycle.phase = Phase::Forget;
            }
            Phase::Forget => {
                state.whole = Set::NONE;
                state.cycle.phase = Phase::Condemn;
            }
            Phase::Condemn => self.condemn(state),
            Phase::Apply => {
                for pack in &mut state.packs {
                    if let Standing::Pending(seen_by) = pack.standing {
                        pack.standing = Standing::Condemned(seen_by);
                    }
                }
                state.whole = Set::NONE;
                state.cycle.phase = Phase::Compact;
            }
            Phase::Compact => {
                self.compact(state);
                state.cycle.phase = Phase::End;
            }
            Phase::End => self.end_cycle(state),
        }
        self.skip_to_work(state);
        Some(())
    }

    /// Ends a cycle with nothing more decided.
    fn abandon(state: &mut State) {
        state.cycle = Cycle::default();
        for pack in &mut state.packs {
            pack.marks = Set::NONE;
        }
    }

    /// Leaves out the phases in which there is nothing to do.
    fn skip_to_work(&self, state: &mut State) {
        loop {
            let (is_idle, next) = match state.cycle.phase {
                Phase::Mark => (state.cycle.todo.is_empty(), Phase::Spare),
                Phase::Spare => (self.spared(state).is_empty(), Phase::Quarantine),
                Phase::Quarantine => (self.quarantined(state).is_empty(), Phase::Forget),
                Phase::Forget => (self.holds(Rule::ForgetAfterLog), Phase::Condemn),
                Phase::Condemn => (self.condemned(state).is_empty(), Phase::Compact),
                Phase::Compact => (self.compacted(state).is_none(), Phase::End),
                Phase::Idle | Phase::Move | Phase::Apply | Phase::End => return,
            };
            if !is_idle {
                return;
            }
            state.cycle.phase = next;
        }
    }

    /// Marks what one point reaches.
    fn mark(&self, state: &mut State) {
        let Some(run) = state.cycle.todo.first() else {
            return;
        };
        state.cycle.todo = state.cycle.todo.without(Set::of(run));
        for id in self.content(run).iter() {
            match self.best_copy(state, id) {
                Some(place) => {
                    let pack = &mut state.packs[place];
                    pack.marks = pack.marks.and(Set::of(id));
                }
                None if state.lost.has(id) && self.holds(Rule::KnownLossIsSkipped) => {}
                None if !state.lost.has(id) && !self.holds(Rule::MarkFailsClosed) => {}
                None => return Self::abandon(state),
            }
        }
    }

    /// The copy of which the mark is set.
    pub(crate) fn best_copy(&self, state: &State, id: usize) -> Option<usize> {
        let packs = state.packs.iter().enumerate();
        let copies =
            packs.filter(|(_, pack)| pack.ids.has(id) && pack.is_indexed && pack.is_readable());
        let (prefers_used, oldest) = (
            self.holds(Rule::MarkPrefersUncondemned),
            state.prefers_oldest,
        );
        copies
            .max_by_key(|(place, pack)| {
                let is_used = !matches!(pack.standing, Standing::Condemned(_));
                let age = if oldest { PLACES - place } else { *place };
                (is_used == prefers_used, age)
            })
            .map(|(place, _)| place)
    }

    fn spared(&self, state: &State) -> Set {
        let condemned = state.cycle.condemned;
        condemned.common(state.packs_where(|pack| {
            !pack.marks.is_empty() && matches!(pack.standing, Standing::Condemned(_))
        }))
    }

    fn quarantined(&self, state: &State) -> Set {
        let judgeable = state.cycle.judgeable;
        judgeable.common(state.packs_where(|pack| {
            pack.marks.is_empty() && matches!(pack.standing, Standing::Condemned(_))
        }))
    }

    fn quarantine(&self, state: &mut State) {
        if state.cycle.saw_loss && self.holds(Rule::LossEndsCycle) {
            return Self::abandon(state);
        }
        for place in self.quarantined(state).iter() {
            let pack = &mut state.packs[place];
            if let Standing::Condemned(seen_by) = pack.standing
                && !self.holds(Rule::LookIsOnePlace)
                && !seen_by.is_empty()
            {
                continue;
            }
            if self.holds(Rule::DecisionComesFirst) {
                pack.standing = Standing::Quarantined;
            } else {
                pack.is_aside = true;
            }
        }
        state.cycle.phase = Phase::Move;
    }

    fn condemned(&self, state: &State) -> Set {
        let used = state.cycle.used;
        used.common(
            state.packs_where(|pack| pack.marks.is_empty() && pack.standing == Standing::Used),
        )
    }

    fn condemn(&self, state: &mut State) {
        let seen_by = state.open_sessions();
        for place in self.condemned(state).iter() {
            let pack = &mut state.packs[place];
            pack.is_aside = seen_by.is_empty() && !self.holds(Rule::JudgeMarksAgain);
            pack.standing = if !self.holds(Rule::CondemnIsOneStep) {
                Standing::Pending(seen_by)
            } else if seen_by.is_empty() && !self.holds(Rule::JudgeMarksAgain) {
                Standing::Quarantined
            } else {
                Standing::Condemned(seen_by)
            };
        }
        state.teachers = Set::NONE;
        let is_whole = self.holds(Rule::CondemnIsOneStep);
        if is_whole && self.holds(Rule::CondemnForgetsWhole) && self.holds(Rule::ForgetAfterLog) {
            state.whole = Set::NONE;
        }
        state.cycle.phase = if is_whole {
            Phase::Compact
        } else {
            Phase::Apply
        };
    }

    /// The pack that is compacted, if there is one and room.
    fn compacted(&self, state: &State) -> Option<usize> {
        if state.left.compactions == 0 || state.free_pack().is_none() {
            return None;
        }
        let is_partly_live = |pack: &Pack| {
            pack.standing == Standing::Used && !pack.marks.is_empty() && pack.marks != pack.ids
        };
        let used = state.cycle.used;
        used.common(state.packs_where(is_partly_live)).first()
    }

    /// Copies what is live. The index learns of it in a step of its own.
    fn compact(&self, state: &mut State) {
        let Some(place) = self.compacted(state) else {
            return;
        };
        state.left.compactions -= 1;
        let live = state.packs[place].marks;
        let copy = state.reveal(live, None);
        if !self.holds(Rule::CompactedPackWaits) {
            state.packs[place].standing = Standing::Quarantined;
            state.packs[place].is_aside = true;
            if let Some(copy) = copy {
                state.packs[copy].is_indexed = true;
            }
        }
    }

    /// Removes what waited in quarantine, and manifests that belong to nothing.
    ///
    /// A removal that is on the log is done at the next start if a crash comes between, and nothing
    /// reads a pack in quarantine: so log and file go in one step.
    fn end_cycle(&self, state: &mut State) {
        for place in state.cycle.removable.iter() {
            state.packs[place] = Pack {
                ids: GONE,
                ..Pack::default()
            };
        }
        let sessions = state.sessions;
        for (number, run) in state.runs.iter_mut().enumerate() {
            let is_open = sessions
                .iter()
                .any(|session| session.is_on_log() && usize::from(session.run) == number);
            match run.point {
                Fate::Committed => {}
                Fate::Deleted => run.has_manifest = false,
                Fate::Absent if !run.has_manifest => {}
                Fate::Absent if !self.holds(Rule::ManifestsWaitForSessions) => {
                    run.has_manifest = false;
                }
                Fate::Absent if is_open => {}
                Fate::Absent => {
                    run.point = Fate::Deleted;
                    run.has_manifest = false;
                }
            }
        }
        Self::abandon(state);
    }
}

/// More than there are places for packs.
const PLACES: usize = 8;
/// The place of a pack that was removed is not taken again: places are in the order of age.
const GONE: Set = Set(1 << 7);
