//! Sessions, points and crashes; and the model as the checker sees it.

use stateright::{Model, Property};

use crate::checks::Violation;
use crate::rules::Rule;
use crate::state::{
    Cycle, Fate, Left, Life, PACKS, Pack, RUNS, Run, SESSIONS, Scrub, Session, Set, Standing, State,
};

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// What each run wants to keep, as a set of at most three ids. The first one's point is there.
    pub contents: [u8; RUNS],
    /// Sessions.
    pub opens: u8,
    /// Points that are deleted.
    pub deletions: u8,
    /// Cycles of garbage collection.
    pub cycles: u8,
    /// Packs that are compacted.
    pub compactions: u8,
    /// Records that are found damaged.
    pub losses: u8,
    /// Crashes.
    pub crashes: u8,
    /// Whether terms of sessions end unnoticed.
    pub expires: bool,
    /// Whether a pack may hold less than all that is missing.
    pub splits: bool,
    /// Whether a pack may be durable for a while before the index learns of it.
    pub indexes_late: bool,
    /// Whether the index comes back after the rest.
    pub lags: bool,
}

/// The protocol, perhaps with one rule broken.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// How much may happen.
    pub bounds: Bounds,
    /// The rule that is broken.
    pub broken: Option<Rule>,
}

/// A step. Sessions, runs and packs go by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "a field says what it is by its name and its act"
)]
pub enum Act {
    /// A run opens a session.
    Open { run: usize },
    /// A session's pack becomes durable.
    Put { session: usize, ids: Set },
    /// The index learns of a pack; if a session wrote it, it is acknowledged now.
    Index { pack: usize },
    /// The walk of a session's proposal finds one id more.
    Walk { session: usize },
    /// The proposal is taken.
    Propose { session: usize },
    /// The point is put on the log.
    Commit { session: usize },
    /// The term of a session is over.
    Expire { session: usize },
    /// A session ends, by itself or since its term was over.
    Close { session: usize },
    /// A point is deleted.
    Delete { run: usize },
    /// A cycle begins.
    BeginCycle,
    /// The cycle goes on.
    StepCycle,
    /// The scrub finds a record damaged, and saves the others of its pack.
    Salvage { pack: usize, id: usize },
    /// The scrub goes on.
    StepScrub,
    /// Crash and restart; the index may come back with another preference.
    Crash { prefers_oldest: bool },
}

impl Protocol {
    pub(crate) fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    pub(crate) fn content(&self, run: usize) -> Set {
        Set(self.bounds.contents[run])
    }

    /// Whether an open session may rely on an id.
    pub(crate) fn sees(&self, state: &State, session: usize, id: usize) -> bool {
        state.packs.iter().any(|pack| {
            let is_seen = match pack.standing {
                Standing::Condemned(seen_by) => {
                    seen_by.has(session) || !self.holds(Rule::SightHidesCondemned)
                }
                _ => true,
            };
            let is_known = pack.is_indexed || state.is_rebuilding;
            pack.ids.has(id) && is_known && pack.is_readable() && is_seen
        })
    }

    /// What a session has to send: neither there for it nor on its way.
    fn missing(&self, state: &State, session: usize) -> Set {
        let run = usize::from(state.sessions[session].run);
        let is_on_its_way = |id: &usize| {
            let own = Some(session as u8);
            let mut packs = state.packs.iter();
            packs.any(|pack| pack.fence == own && !pack.is_indexed && pack.ids.has(*id))
        };
        let ids = self.content(run).iter();
        ids.filter(|id| !self.sees(state, session, *id) && !is_on_its_way(id))
            .collect()
    }

    fn open(&self, state: &mut State, run: usize) -> Option<()> {
        if state.runs[run].point == Fate::Committed {
            return None;
        }
        let is_older = |session: &Session| session.is_on_log() && usize::from(session.run) == run;
        if let Some(older) = state.sessions.iter().position(is_older) {
            self.end(state, older);
            if self.holds(Rule::ProposalIsOwn) && self.holds(Rule::CommitChecksSession) {
                state.runs[run].proposed_by = None;
            }
        }
        let is_free = |session: &Session| session.life == Life::Free;
        let free = state.sessions.iter().position(is_free)?;
        state.left.opens = state.left.opens.checked_sub(1)?;
        state.sessions[free] = Session {
            life: Life::Open,
            run: run as u8,
            walked: Set::NONE,
        };
        state.teachers = state.teachers.and(Set::of(free));
        Some(())
    }

    /// Takes a session out of everything that knows it.
    fn end(&self, state: &mut State, slot: usize) {
        let has_ghosts =
            !self.holds(Rule::CommitChecksSession) || !self.holds(Rule::RevealChecksFence);
        let session = &mut state.sessions[slot];
        if has_ghosts {
            session.life = Life::Ghost;
        } else {
            *session = Session::default();
        }
        let own = Set::of(slot);
        state.teachers = state.teachers.without(own);
        for pack in &mut state.packs {
            if pack.fence == Some(slot as u8) {
                pack.fence = None;
            }
            if let Standing::Condemned(seen_by) | Standing::Pending(seen_by) = &mut pack.standing {
                *seen_by = seen_by.without(own);
            }
        }
    }

    fn close(&self, state: &mut State, slot: usize) -> Option<()> {
        if !state.sessions[slot].is_on_log() {
            return None;
        }
        let run = usize::from(state.sessions[slot].run);
        self.end(state, slot);
        if self.holds(Rule::CommitChecksSession) {
            state.runs[run].proposed_by = None;
        }
        Some(())
    }

    fn put(&self, state: &mut State, slot: usize, ids: Set) -> Option<()> {
        match state.sessions[slot].life {
            Life::Open => {}
            Life::Ghost if !self.holds(Rule::RevealChecksFence) => {
                let newer = state
                    .sessions
                    .iter()
                    .any(|session| session.is_on_log() && session.run == state.sessions[slot].run);
                if newer {
                    state.violate(Violation::LowerFenceActed);
                }
            }
            _ => return None,
        }
        let fence = (state.sessions[slot].life == Life::Open).then_some(slot as u8);
        state.reveal(ids, fence).map(|_| ())
    }

    fn index(&self, state: &mut State, place: usize) -> Option<()> {
        let pack = &mut state.packs[place];
        if pack.is_indexed || !pack.is_readable() {
            return None;
        }
        pack.is_indexed = true;
        let waits = state.packs_where(|pack| pack.is_readable() && !pack.is_indexed);
        state.is_rebuilding &= !waits.is_empty();
        Some(())
    }

    fn walk(&self, state: &mut State, slot: usize) -> Option<()> {
        let session = state.sessions[slot];
        let run = usize::from(session.run);
        if session.life != Life::Open || !self.wants(state, run) {
            return None;
        }
        let id = self.content(run).without(session.walked).first()?;
        if !state.whole.has(id) && !self.sees(state, slot, id) {
            return None;
        }
        state.sessions[slot].walked = session.walked.and(Set::of(id));
        Some(())
    }

    /// Whether a proposal of the run can be taken.
    fn wants(&self, state: &State, run: usize) -> bool {
        match state.runs[run].point {
            Fate::Absent => true,
            Fate::Committed => false,
            Fate::Deleted => !self.holds(Rule::DeletedStaysDeleted),
        }
    }

    fn propose(&self, state: &mut State, slot: usize) -> Option<()> {
        let session = state.sessions[slot];
        let run = usize::from(session.run);
        if session.life != Life::Open
            || !self.wants(state, run)
            || !session.walked.covers(self.content(run))
        {
            return None;
        }
        state.sessions[slot].walked = Set::NONE;
        state.runs[run].has_manifest = true;
        state.runs[run].proposed_by = Some(slot as u8);
        Some(())
    }

    fn commit(&self, state: &mut State, slot: usize) -> Option<()> {
        let session = state.sessions[slot];
        let number = usize::from(session.run);
        let run = state.runs[number];
        let is_allowed = session.life == Life::Open
            || (session.life == Life::Ghost && !self.holds(Rule::CommitChecksSession));
        let by = run.proposed_by?;
        let is_own = usize::from(by) == slot || !self.holds(Rule::ProposalIsOwn);
        if !is_allowed || !is_own || !self.wants(state, number) {
            return None;
        }
        if run.point == Fate::Deleted {
            state.violate(Violation::PointCameBack);
        }
        if !run.has_manifest {
            state.violate(Violation::NoManifest);
        }
        let content = self.content(number);
        if content.iter().any(|id| !state.is_readable(id)) {
            state.violate(Violation::FalseSuccess);
        }
        if state.teachers.has(slot) || !self.holds(Rule::OldSessionsTeachNothing) {
            state.whole = state.whole.and(content);
        }
        state.runs[number] = Run {
            point: Fate::Committed,
            has_manifest: run.has_manifest,
            proposed_by: None,
        };
        Some(())
    }

    fn crash(&self, state: &mut State, prefers_oldest: bool) -> Option<()> {
        state.left.crashes = state.left.crashes.checked_sub(1)?;
        state.prefers_oldest = prefers_oldest;
        state.whole = Set::NONE;
        state.cycle = Cycle::default();
        state.scrub = Scrub::Idle;
        for session in &mut state.sessions {
            match session.life {
                Life::Expired => session.life = Life::Open,
                Life::Ghost => *session = Session::default(),
                Life::Free | Life::Open => {}
            }
            session.walked = Set::NONE;
        }
        for run in &mut state.runs {
            run.proposed_by = None;
        }
        for pack in &mut state.packs {
            self.restart_pack(pack);
        }
        let waits = state.packs_where(|pack| pack.is_readable() && !pack.is_indexed);
        state.is_rebuilding = !waits.is_empty();
        Some(())
    }

    fn restart_pack(&self, pack: &mut Pack) {
        pack.marks = Set::NONE;
        if let Standing::Pending(seen_by) = pack.standing {
            pack.standing = Standing::Condemned(seen_by);
        }
        if pack.standing == Standing::Quarantined && self.holds(Rule::StartDoesWhatWasDecided) {
            pack.is_aside = true;
        }
        pack.is_indexed = pack.is_readable() && !self.bounds.lags;
    }

    fn apply(&self, state: &mut State, act: Act) -> Option<()> {
        let waits = state.is_rebuilding;
        match act {
            Act::Open { .. } | Act::Put { .. } | Act::Walk { .. } if waits => None,
            Act::Propose { .. } | Act::Commit { .. } if waits => None,
            Act::Open { run } => self.open(state, run),
            Act::Put { session, ids } => self.put(state, session, ids),
            Act::Index { pack } => self.index(state, pack),
            Act::Walk { session } => self.walk(state, session),
            Act::Propose { session } => self.propose(state, session),
            Act::Commit { session } => self.commit(state, session),
            Act::Expire { session } => {
                state.sessions[session].life = Life::Expired;
                Some(())
            }
            Act::Close { session } => self.close(state, session),
            Act::Delete { run } => {
                state.left.deletions = state.left.deletions.checked_sub(1)?;
                state.runs[run].point = Fate::Deleted;
                Some(())
            }
            Act::BeginCycle => self.begin_cycle(state),
            Act::StepCycle => self.step_cycle(state),
            Act::Salvage { pack, id } => self.salvage(state, pack, id),
            Act::StepScrub => self.step_scrub(state),
            Act::Crash { prefers_oldest } => self.crash(state, prefers_oldest),
        }
    }

    /// What an open session saw it must see, but for the record that the disk lost in this step.
    fn check_promises(&self, before: &State, after: &mut State, act: Act) {
        let superseded = match act {
            Act::Open { run } => Some(run as u8),
            _ => None,
        };
        let excused = match (act, before.scrub) {
            (Act::StepScrub, Scrub::Copied { id, .. }) => Some(usize::from(id)),
            (Act::Salvage { id, .. }, _) => Some(id),
            _ => None,
        };
        for (slot, session) in before.sessions.iter().enumerate() {
            let is_same = after.sessions[slot].is_on_log() && superseded != Some(session.run);
            if !session.is_on_log() || !is_same {
                continue;
            }
            let kept = (0..3)
                .filter(|id| excused != Some(*id))
                .all(|id| !self.sees(before, slot, id) || self.sees(after, slot, id));
            if !kept {
                after.violate(Violation::PromiseBroken);
            }
        }
    }

    fn session_acts(&self, state: &State, slot: usize, acts: &mut Vec<Act>) {
        let session = state.sessions[slot];
        if session.life == Life::Free {
            return;
        }
        let missing = self.missing(state, slot);
        let run = usize::from(session.run);
        if !missing.is_empty() && state.runs[run].point == Fate::Absent {
            acts.push(Act::Put {
                session: slot,
                ids: missing,
            });
            if self.bounds.splits && missing.len() > 1 {
                acts.extend(missing.iter().map(|id| Act::Put {
                    session: slot,
                    ids: Set::of(id),
                }));
            }
        }
        acts.push(Act::Walk { session: slot });
        acts.push(Act::Propose { session: slot });
        acts.push(Act::Commit { session: slot });
        acts.push(Act::Close { session: slot });
        if self.bounds.expires && session.life == Life::Open {
            acts.push(Act::Expire { session: slot });
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let Bounds {
            opens,
            deletions,
            cycles,
            compactions,
            losses,
            crashes,
            ..
        } = self.bounds;
        let mut state = State {
            sessions: [Session::default(); SESSIONS],
            runs: [Run::default(); RUNS],
            packs: [Pack::default(); PACKS],
            whole: Set::NONE,
            teachers: Set::NONE,
            lost: Set::NONE,
            cycle: Cycle::default(),
            scrub: Scrub::Idle,
            left: Left {
                opens,
                deletions,
                cycles,
                compactions,
                losses,
                crashes,
            },
            prefers_oldest: false,
            is_rebuilding: false,
            violations: Set::NONE,
        };
        state.runs[0] = Run {
            point: Fate::Committed,
            has_manifest: true,
            proposed_by: None,
        };
        state.packs[0] = Pack {
            ids: self.content(0),
            standing: Standing::Used,
            is_indexed: true,
            ..Pack::default()
        };
        vec![state]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        if state.left.opens > 0 {
            acts.extend((1..RUNS).map(|run| Act::Open { run }));
        }
        for slot in 0..SESSIONS {
            self.session_acts(state, slot, acts);
        }
        let waits = state.packs_where(|pack| pack.is_readable() && !pack.is_indexed);
        acts.extend(waits.iter().map(|pack| Act::Index { pack }));
        if state.left.deletions > 0 {
            let runs = state.runs.iter().enumerate();
            let there = runs.filter(|(_, run)| run.point == Fate::Committed);
            acts.extend(there.map(|(run, _)| Act::Delete { run }));
        }
        acts.extend([Act::BeginCycle, Act::StepCycle, Act::StepScrub]);
        if state.left.losses > 0 {
            for (place, pack) in state.packs.iter().enumerate() {
                acts.extend(pack.ids.iter().map(|id| Act::Salvage { pack: place, id }));
            }
        }
        if state.left.crashes > 0 {
            acts.extend([false, true].map(|prefers_oldest| Act::Crash { prefers_oldest }));
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut next = *last;
        self.apply(&mut next, act)?;
        if !self.bounds.indexes_late && !matches!(act, Act::Crash { .. }) && !next.is_rebuilding {
            for pack in &mut next.packs {
                pack.is_indexed |= pack.is_readable();
            }
        }
        self.check_promises(last, &mut next, act);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every point is whole", Protocol::points_are_whole),
            Property::always("garbage goes", Protocol::garbage_goes),
            Property::always("promises are kept", |_, state: &State| {
                !state.has(Violation::PromiseBroken)
            }),
            Property::always("a lower fence never acts", |_, state: &State| {
                !state.has(Violation::LowerFenceActed)
            }),
            Property::always("a deleted point stays deleted", |_, state: &State| {
                !state.has(Violation::PointCameBack)
            }),
            Property::always("success is no lie", |_, state: &State| {
                !state.has(Violation::FalseSuccess)
            }),
            Property::always("every point has a manifest", |_, state: &State| {
                !state.has(Violation::NoManifest)
            }),
            Property::sometimes("a pack is quarantined", |_, state: &State| {
                state
                    .packs
                    .iter()
                    .any(|pack| pack.standing == Standing::Quarantined)
            }),
            Property::sometimes("two points are committed", |_, state: &State| {
                let there = state.runs.iter().filter(|run| run.point == Fate::Committed);
                there.count() > 1
            }),
        ]
    }
}
