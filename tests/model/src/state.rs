//! What is so at one moment.

/// Sessions that may be open at once.
pub(crate) const SESSIONS: usize = 3;
/// Runs. The point of the first one is there from the start.
pub(crate) const RUNS: usize = 3;
/// Packs that may come to be.
pub(crate) const PACKS: usize = 6;

/// A set of small numbers: ids of records, places of sessions, runs or packs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(pub u8);

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Set {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(member: usize) -> Self {
        Self(1 << member)
    }

    pub(crate) const fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub(crate) const fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn first(self) -> Option<usize> {
        self.iter().next()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |member| self.has(*member))
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<T: IntoIterator<Item = usize>>(members: T) -> Self {
        members
            .into_iter()
            .fold(Self::NONE, |set, member| set.and(Self::of(member)))
    }
}

/// The repository, its sessions, and what a crash would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) sessions: [Session; SESSIONS],
    pub(crate) runs: [Run; RUNS],
    pub(crate) packs: [Pack; PACKS],
    /// Ids that are remembered as whole.
    pub(crate) whole: Set,
    /// Sessions that opened after the last decision that made less visible.
    pub(crate) teachers: Set,
    /// Ids of which the log has the last copy as lost.
    pub(crate) lost: Set,
    pub(crate) cycle: Cycle,
    pub(crate) scrub: Scrub,
    pub(crate) left: Left,
    /// Of copies that are as good, the index prefers the oldest; what it does after a restart is open.
    pub(crate) prefers_oldest: bool,
    /// The index does not know all packs yet, and sessions wait.
    pub(crate) is_rebuilding: bool,
    /// Violations that only a step can show, as a set.
    pub(crate) violations: Set,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// Nobody's.
    #[default]
    Free,
    Open,
    /// Its term is over and the log does not have it as closed.
    Expired,
    /// Over, but some call of it is still under way. Only where a rule is broken that stops such calls.
    Ghost,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) life: Life,
    pub(crate) run: u8,
    /// What the walk of its proposal went through.
    pub(crate) walked: Set,
}

impl Session {
    /// Whether the log has it as open.
    pub(crate) fn is_on_log(self) -> bool {
        matches!(self.life, Life::Open | Life::Expired)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    #[default]
    Absent,
    Committed,
    Deleted,
}

/// A run, and the one point that it wants to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) point: Fate,
    pub(crate) has_manifest: bool,
    /// By which session.
    pub(crate) proposed_by: Option<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// There is no such pack, or not any more.
    #[default]
    None,
    Used,
    /// On the log as condemned, which sessions do not know yet. Only where a rule is broken.
    Pending(Set),
    /// By the sessions that see it still.
    Condemned(Set),
    Quarantined,
    Damaged,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pack {
    pub(crate) ids: Set,
    /// The session that wrote it, while the log has that as open.
    pub(crate) fence: Option<u8>,
    pub(crate) standing: Standing,
    pub(crate) is_indexed: bool,
    /// Whether the file lies in quarantine.
    pub(crate) is_aside: bool,
    pub(crate) marks: Set,
}

impl Pack {
    pub(crate) fn is_readable(&self) -> bool {
        let is_in = matches!(
            self.standing,
            Standing::Used | Standing::Pending(_) | Standing::Condemned(_)
        );
        is_in && !self.is_aside
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    #[default]
    Idle,
    Mark,
    Spare,
    Quarantine,
    Move,
    /// Only where a rule is broken.
    Forget,
    Condemn,
    /// Only where a rule is broken.
    Apply,
    Compact,
    End,
}

/// A collection that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cycle {
    pub(crate) phase: Phase,
    /// Points that are to be marked, by their runs.
    pub(crate) todo: Set,
    /// Packs that may be condemned or compacted.
    pub(crate) used: Set,
    /// Packs that were condemned before.
    pub(crate) condemned: Set,
    /// Those of them that nobody waits for.
    pub(crate) judgeable: Set,
    /// Packs that may be removed.
    pub(crate) removable: Set,
    pub(crate) saw_loss: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Scrub {
    #[default]
    Idle,
    /// The good records were copied, or need not be; the damage is not on the log.
    Copied { pack: u8, id: u8, copy: Option<u8> },
    /// The damage is on the log, the good records were not copied. Only where a rule is broken.
    Logged { good: Set },
}

/// How often something may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) opens: u8,
    pub(crate) deletions: u8,
    pub(crate) cycles: u8,
    pub(crate) compactions: u8,
    pub(crate) losses: u8,
    pub(crate) crashes: u8,
}

impl State {
    /// Sessions that the log has as open.
    pub(crate) fn open_sessions(&self) -> Set {
        let sessions = self.sessions.iter().enumerate();
        sessions
            .filter(|(_, session)| session.is_on_log())
            .map(|(slot, _)| slot)
            .collect()
    }

    /// Whether any readable pack has it.
    pub(crate) fn is_readable(&self, id: usize) -> bool {
        self.packs
            .iter()
            .any(|pack| pack.is_readable() && pack.ids.has(id))
    }

    pub(crate) fn free_pack(&self) -> Option<usize> {
        self.packs.iter().position(|pack| pack.ids.is_empty())
    }

    /// Adds a pack that is durable and not indexed.
    pub(crate) fn reveal(&mut self, ids: Set, fence: Option<u8>) -> Option<usize> {
        let free = self.free_pack()?;
        self.packs[free] = Pack {
            ids,
            fence,
            standing: Standing::Used,
            ..Pack::default()
        };
        self.lost = self.lost.without(ids);
        Some(free)
    }

    pub(crate) fn packs_where(&self, is_so: impl Fn(&Pack) -> bool) -> Set {
        let packs = self.packs.iter().enumerate();
        packs
            .filter(|(_, pack)| is_so(pack))
            .map(|(place, _)| place)
            .collect()
    }
}
