//! Damage, as the scrub finds it.

use crate::rules::Rule;
use crate::runs::Protocol;
use crate::state::{Phase, Scrub, Set, Standing, State};

impl Protocol {
    /// Finds a record damaged and copies the others of its pack.
    pub(crate) fn salvage(&self, state: &mut State, place: usize, id: usize) -> Option<()> {
        let pack = state.packs[place];
        if state.scrub != Scrub::Idle || !pack.is_readable() || !pack.ids.has(id) {
            return None;
        }
        state.left.losses = state.left.losses.checked_sub(1)?;
        let good = pack.ids.without(Set::of(id));
        if !self.holds(Rule::SalvageBeforeLog) {
            self.take_loss(state, place, id);
            state.scrub = Scrub::Logged { good };
            return Some(());
        }
        let copy = if good.is_empty() {
            None
        } else {
            Some(state.reveal(good, None)? as u8)
        };
        let (pack, id) = (place as u8, id as u8);
        state.scrub = Scrub::Copied { pack, id, copy };
        Some(())
    }

    /// Puts the damage on the log.
    pub(crate) fn step_scrub(&self, state: &mut State) -> Option<()> {
        match state.scrub {
            Scrub::Idle => return None,
            Scrub::Copied { pack, id, copy } => {
                let place = usize::from(pack);
                let copy = copy.map(|copy| state.packs[usize::from(copy)]);
                if copy.is_some_and(|copy| copy.is_readable() && !copy.is_indexed) {
                    return None;
                }
                // A cycle may have condemned the copy: nothing reached it while the first was there.
                let is_saved = copy.is_none_or(|copy| copy.standing == Standing::Used);
                if state.packs[place].is_readable()
                    && (is_saved || !self.holds(Rule::LossChecksCopies))
                {
                    self.take_loss(state, place, usize::from(id));
                }
            }
            Scrub::Logged { good } => {
                if !good.is_empty() {
                    state.reveal(good, None)?;
                }
            }
        }
        state.scrub = Scrub::Idle;
        Some(())
    }

    fn take_loss(&self, state: &mut State, place: usize, id: usize) {
        let pack = &mut state.packs[place];
        pack.standing = Standing::Damaged;
        pack.is_aside = true;
        pack.is_indexed = false;
        if !state.is_readable(id) {
            state.lost = state.lost.and(Set::of(id));
        }
        if self.holds(Rule::LossForgetsWhole) {
            state.whole = Set::NONE;
            state.teachers = Set::NONE;
        }
        if self.holds(Rule::LossVoidsWalks) {
            for session in &mut state.sessions {
                session.walked = Set::NONE;
            }
            for run in &mut state.runs {
                run.proposed_by = None;
            }
        }
        state.cycle.saw_loss = state.cycle.phase != Phase::Idle;
    }
}
