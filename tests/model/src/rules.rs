//! The rules, each of which can be broken to see what it is for.

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A condemned pack waits for every session that was open before it was condemned.
    JudgeWaitsForOldSessions,
    /// A condemned pack is judged by a mark that began after it was condemned.
    JudgeMarksAgain,
    /// Points and open sessions are looked at in one place of the log.
    LookIsOnePlace,
    /// Sessions that opened later do not see a condemned pack.
    SightHidesCondemned,
    /// What is remembered as whole is forgotten when packs are condemned.
    CondemnForgetsWhole,
    /// It is forgotten after the decision is on the log, not before.
    ForgetAfterLog,
    /// A session that was open before the last decision teaches nothing.
    OldSessionsTeachNothing,
    /// The log and what sessions see change under one lock.
    CondemnIsOneStep,
    /// A proposal counts for the session that walked it, and for no other of its run.
    ProposalIsOwn,
    /// A commit makes sure of its session under the lock under which it is put on the log.
    CommitChecksSession,
    /// A session is open until the log has it as closed, whatever its term.
    SessionsEndByLog,
    /// A mark that misses what the log does not have as lost ends its cycle.
    MarkFailsClosed,
    /// What the log has as lost does not end a cycle.
    KnownLossIsSkipped,
    /// The mark prefers copies in packs that are not condemned.
    MarkPrefersUncondemned,
    /// A pack of a session that is open is not condemned.
    FreshPacksStay,
    /// A pack that was compacted is condemned by a later cycle, and waits like any other.
    CompactedPackWaits,
    /// What can be saved of a damaged pack is durable before the log has the pack as damaged.
    SalvageBeforeLog,
    /// A pack goes on the log as damaged only while the copies of its good records are in use.
    LossChecksCopies,
    /// What is remembered as whole is forgotten when a record is lost.
    LossForgetsWhole,
    /// A walk that is older than a loss is made again.
    LossVoidsWalks,
    /// A cycle that began before a loss takes nothing out.
    LossEndsCycle,
    /// The id of a deleted point is never committed again.
    DeletedStaysDeleted,
    /// A pack is revealed only for the newest session of its run.
    RevealChecksFence,
    /// Manifests without a point stay while their run has a session.
    ManifestsWaitForSessions,
    /// What the log has as quarantined is moved at the next start, if a crash came between.
    StartDoesWhatWasDecided,
    /// A pack is moved after the log has it as quarantined.
    DecisionComesFirst,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 26] = [
        Self::JudgeWaitsForOldSessions,
        Self::JudgeMarksAgain,
        Self::LookIsOnePlace,
        Self::SightHidesCondemned,
        Self::CondemnForgetsWhole,
        Self::ForgetAfterLog,
        Self::OldSessionsTeachNothing,
        Self::CondemnIsOneStep,
        Self::ProposalIsOwn,
        Self::CommitChecksSession,
        Self::SessionsEndByLog,
        Self::MarkFailsClosed,
        Self::KnownLossIsSkipped,
        Self::MarkPrefersUncondemned,
        Self::FreshPacksStay,
        Self::CompactedPackWaits,
        Self::SalvageBeforeLog,
        Self::LossChecksCopies,
        Self::LossForgetsWhole,
        Self::LossVoidsWalks,
        Self::LossEndsCycle,
        Self::DeletedStaysDeleted,
        Self::RevealChecksFence,
        Self::ManifestsWaitForSessions,
        Self::StartDoesWhatWasDecided,
        Self::DecisionComesFirst,
    ];
}
