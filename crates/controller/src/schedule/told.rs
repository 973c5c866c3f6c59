//! How each promise stands, in words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stillwater_policy::When;
use stillwater_scheduler::{Breach, Cause, JobIx, Rhythm, judge};
use stillwater_types::{RunId, VmId};

use super::book::{Book, Entry};

/// It is decided every few seconds, or not at all.
const DECIDES_WITHIN_SECS: i64 = 60;

/// A promise that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// Since when.
    pub(super) since: Timestamp,
    /// Why, and what to do.
    pub(super) why: String,
    /// Whether it is broken because nobody decides any more.
    pub(super) nobody_decides: bool,
}

/// How the promise to one VM stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Its number, which stays.
    pub(super) number: u32,
    pub(super) policy: String,
    pub(super) vm: VmId,
    pub(super) vm_name: String,
    /// What was promised.
    pub(super) promise: String,
    /// How old the newest point may become, if that was promised.
    pub(super) rpo_seconds: Option<u32>,
    /// The moment of the newest point.
    pub(super) last_point_at: Option<Timestamp>,
    /// How old points were when the next one came: half of them, 99 of 100, all.
    pub(super) achieved: Option<[u32; 3]>,
    /// When the next run is to start; none while one is on its way, or at no time.
    pub(super) due_at: Option<Timestamp>,
    /// Until when the next point has to be there; none is at no time.
    pub(super) deadline: Option<Timestamp>,
    /// The run that is on its way.
    pub(super) run: Option<RunId>,
    /// What a run that is due waits for, and what to do.
    pub(super) waits_for: Option<String>,
    /// Whether the promise is broken.
    pub(super) broken: Option<Broken>,
    /// Runs that failed since the last one that did not.
    pub(super) failure_count: u32,
    /// How runs follow each other.
    pub(super) pace: String,
}

/// How every promise stands.
pub(super) fn told(book: &Book, now: Timestamp) -> Vec<Told> {
    let breaches = judge(&book.state, now).into_iter();
    let breaches: BTreeMap<JobIx, Breach> = breaches.map(|breach| (breach.job, breach)).collect();
    let running = book.running.iter().map(|(run, job)| (*job, *run)).collect();
    let in_scope = book.jobs.iter().filter(|(_, entry)| entry.in_scope);
    in_scope
        .map(|(ix, entry)| {
            let breach = breaches.get(ix);
            tell(book, *ix, entry, (breach, now), &running)
        })
        .collect()
}

fn tell(
    book: &Book,
    ix: JobIx,
    entry: &Entry,
    (breach, now): (Option<&Breach>, Timestamp),
    running: &BTreeMap<JobIx, RunId>,
) -> Told {
    let state = &book.state;
    let job = state.job_at(ix);
    let history = &job.history;
    let schedule = &state.policy_at(job.policy).schedule;
    let run = running.get(&ix).copied();
    let sketch = &history.achieved;
    let percentiles = sketch.percentile(50).zip(sketch.percentile(99));
    let sometime = |at: Timestamp| (at < Timestamp::MAX).then_some(at);
    Told {
        number: ix.number(),
        policy: entry.policy.clone(),
        vm: entry.member.vm.clone(),
        vm_name: entry.member.name.clone(),
        promise: schedule.when.to_string(),
        rpo_seconds: match &schedule.when {
            When::Rpo(rpo) => u32::try_from(rpo.secs()).ok(),
            When::Cron { .. } => None,
        },
        last_point_at: history.last_point,
        achieved: percentiles.map(|(half, most)| [half, most, sketch.most()]),
        due_at: match run {
            None => sometime(state.due(ix)),
            Some(_) => None,
        },
        deadline: sometime(state.deadline(ix)),
        run,
        waits_for: book.waiting.get(&ix).map(|blocked| blocked.advice(state)),
        broken: breach.map(|breach| broken(book, breach, now)),
        failure_count: history.failures,
        pace: match job.rhythm(schedule) {
            Rhythm::Calm => "calm".to_owned(),
            Rhythm::BackToBack(interval) => {
                format!("back to back, every {} s at most", interval.as_secs())
            }
            Rhythm::BackedOff(interval) => format!(
                "held back to every {} s: the vm suffers from its snapshots",
                interval.as_secs()
            ),
        },
    }
}

fn broken(book: &Book, breach: &Breach, now: Timestamp) -> Broken {
    let cause = cause(book, breach, now);
    let why = match cause {
        Cause::Running { since } => {
            format!("its run has been on its way since {since}; see `stillwater run list`")
        }
        Cause::Failing { runs } => {
            format!("{runs} runs in a row failed; see `stillwater run list`")
        }
        Cause::Missing(blocked) => blocked.advice(&book.state),
        Cause::Suffering => {
            "the vm stands still for long with each snapshot, so runs are held back: give it faster storage or a looser promise".to_owned()
        }
        Cause::NothingRan => {
            "a run could start and none was started for minutes; see the controller's log and restart it".to_owned()
        }
        Cause::Starting => "its run is about to start".to_owned(),
    };
    Broken {
        since: breach.since,
        why,
        nobody_decides: cause == Cause::NothingRan,
    }
}

/// What is held back for others that are later still could be taken, but not by this one.
fn cause(book: &Book, breach: &Breach, now: Timestamp) -> Cause {
    let is_recent =
        |decided: Timestamp| now.duration_since(decided).as_secs() < DECIDES_WITHIN_SECS;
    let waits = book.waiting.get(&breach.job);
    match (breach.cause, waits) {
        (Cause::NothingRan, Some(blocked)) if book.decided_at.is_some_and(is_recent) => {
            Cause::Missing(*blocked)
        }
        (cause, _) => cause,
    }
}
