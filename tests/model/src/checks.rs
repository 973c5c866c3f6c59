//! What must hold.

use crate::runs::Protocol;
use crate::state::{Fate, Phase, Scrub, Set, Standing, State};

/// What a step must never show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// An open session does not see any more what it saw.
    PromiseBroken,
    /// A session changed something after a newer one of its run was opened.
    LowerFenceActed,
    /// A deleted point came back.
    PointCameBack,
    /// A point was committed of which something is missing.
    FalseSuccess,
    /// A point was committed that has no manifest.
    NoManifest,
}

impl Violation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::PromiseBroken,
        Self::LowerFenceActed,
        Self::PointCameBack,
        Self::FalseSuccess,
        Self::NoManifest,
    ];
}

impl State {
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violations = self.violations.and(Set::of(violation as usize));
    }

    /// Whether a step that led here was one.
    pub fn has(&self, violation: Violation) -> bool {
        self.violations.has(violation as usize)
    }
}

impl Protocol {
    /// Everything that points reach is readable, but for what the disk lost.
    pub(crate) fn points_are_whole(&self, state: &State) -> bool {
        let mut runs = state.runs.iter().enumerate();
        runs.all(|(number, run)| {
            let mut ids = self.content(number).iter();
            run.point != Fate::Committed
                || ids.all(|id| state.lost.has(id) || state.is_readable(id))
        })
    }

    /// Once nobody wants anything, a few cycles leave what points reach and nothing else.
    pub(crate) fn garbage_goes(&self, state: &State) -> bool {
        if !is_quiet(state) {
            return true;
        }
        let mut state = *state;
        for _ in 0..CYCLES {
            state.left.cycles = 1;
            if self.begin_cycle(&mut state).is_none() {
                return false;
            }
            while state.cycle.phase != Phase::Idle {
                if self.step_cycle(&mut state).is_none() {
                    return false;
                }
                for pack in &mut state.packs {
                    pack.is_indexed |= pack.is_readable();
                }
            }
        }
        self.is_clean(&state) && self.points_are_whole(&state)
    }

    fn is_clean(&self, state: &State) -> bool {
        let runs = state.runs.iter().enumerate();
        let committed = runs.filter(|(_, run)| run.point == Fate::Committed);
        let ids = committed.fold(Set::NONE, |ids, (run, _)| ids.and(self.content(run)));
        let reached: Set = ids
            .iter()
            .filter_map(|id| self.best_copy(state, id))
            .collect();
        let kept =
            state.packs_where(|pack| !matches!(pack.standing, Standing::None | Standing::Damaged));
        let is_left_over = state
            .runs
            .iter()
            .any(|run| run.has_manifest && run.point != Fate::Committed);
        reached.covers(kept) && !is_left_over
    }
}

/// Spare or compact, condemn, quarantine, remove, and one more for each of two copies.
const CYCLES: usize = 6;

fn is_quiet(state: &State) -> bool {
    let waits = state.packs_where(|pack| pack.is_readable() && !pack.is_indexed);
    state.open_sessions().is_empty()
        && state.cycle.phase == Phase::Idle
        && state.scrub == Scrub::Idle
        && waits.is_empty()
}
