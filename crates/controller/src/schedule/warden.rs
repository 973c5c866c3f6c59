//! Broken promises become alarms, whether somebody decides or not.
//!
//! It runs beside the loop that decides, so that it also tells when that one stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use stillwater_types::{Fault, VmId};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::keeper::Shared;
use super::told::{Told, told};
use crate::alarm::{AlarmKind, Alarms, Subject};
use crate::memory::Memory;

/// How often promises are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const KINDS: [AlarmKind; 2] = [AlarmKind::PromiseBroken, AlarmKind::NothingRuns];

/// Raises and clears the alarms of promises.
pub struct Warden {
    /// Keeps alarms, and knows the time.
    pub memory: Memory,
    /// What is known.
    pub shared: Shared,
}

impl Warden {
    /// Looks after promises until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_some()
        {
            if let Err(fault) = self.look().await {
                tracing::error!(%fault, "cannot keep the alarms of broken promises");
            }
        }
    }

    async fn look(&self) -> Result<(), Fault> {
        let wanted = {
            let book = self.shared.book();
            // Who has not looked yet knows of no promise that is kept.
            if !book.has_looked() {
                return Ok(());
            }
            wanted(&book, self.memory.now())
        };
        let alarms = Alarms::new(self.memory.clone());
        for ((kind, vm), message) in &wanted {
            alarms.raise(*kind, vm.clone().into(), message).await?;
        }
        for (kind, vm) in self.over(&wanted) {
            alarms.clear(kind, vm.into()).await?;
        }
        Ok(())
    }

    /// Alarms that stand and are not wanted any more.
    fn over(&self, wanted: &BTreeMap<(AlarmKind, VmId), String>) -> BTreeSet<(AlarmKind, VmId)> {
        let state = self.memory.state();
        let standing = state.alarms.standing();
        let ours = standing.filter_map(|alarm| match &alarm.subject {
            Subject::Vm(vm) if KINDS.contains(&alarm.kind) => Some((alarm.kind, vm.clone())),
            _ => None,
        });
        ours.filter(|alarm| !wanted.contains_key(alarm)).collect()
    }
}

/// The alarms that are to stand, each with its message.
fn wanted(book: &Book, now: Timestamp) -> BTreeMap<(AlarmKind, VmId), String> {
    let mut wanted: BTreeMap<(AlarmKind, VmId), String> = BTreeMap::new();
    for told in told(book, now) {
        let Some(broken) = &told.broken else { continue };
        let kind = match broken.nobody_decides {
            true => AlarmKind::NothingRuns,
            false => AlarmKind::PromiseBroken,
        };
        let message = message(&told, &broken.why);
        // A VM has one alarm of a kind, however many policies are for it.
        wanted
            .entry((kind, told.vm.clone()))
            .and_modify(|all| *all = format!("{all}; {message}"))
            .or_insert(message);
    }
    wanted
}

fn message(told: &Told, why: &str) -> String {
    let Told {
        policy,
        vm_name,
        promise,
        ..
    } = told;
    let newest = match told.last_point_at {
        Some(at) => format!("the newest one is of {at:.0}"),
        None => "there is none".to_owned(),
    };
    format!("policy {policy} promises points of {vm_name} {promise}; {newest}: {why}")
}

#[cfg(test)]
mod tests {
    use stillwater_scheduler::Blocked;

    use super::super::facts::NodesNow;
    use super::super::fixture::*;
    use super::*;

    /// Of which VMs an alarm stands that says this.
    fn about(book: &Book, now: Timestamp, kind: AlarmKind, says: &str) -> Vec<VmId> {
        let wanted = wanted(book, now).into_iter();
        let of_kind = wanted.filter(|((wanted, _), _)| *wanted == kind);
        let says = of_kind.filter(|(_, message)| message.contains(says));
        says.map(|((_, vm), _)| vm).collect()
    }

    #[test]
    fn a_promise_that_is_kept_is_no_alarm_and_a_broken_one_is_until_there_is_a_point() {
        let mut book = book();
        book.tell_promises(&promises(&[("gold", &[1]), ("silver", &[1])]), at(0));
        book.saw(&vm(2), repository(), at(0));
        let broken = |book: &Book, now, says| about(book, now, AlarmKind::PromiseBroken, says);
        let orders = book.decide(at(0));
        assert_eq!(orders.len(), 1, "a vm is in one run at a time");
        book.begun(&orders[0], run_id(1));
        for says in [
            "policy gold",
            "policy silver",
            "there is none",
            "on its way",
        ] {
            assert_eq!(broken(&book, at(5), says), [vm(1)], "{says}");
        }
        let policy = orders[0].policy.name.as_str();
        book.ended(&whole(run(1, 1, Some(policy), 0)), at(10));
        assert!(wanted(&book, at(10)).is_empty(), "one point keeps both");
        assert_eq!(book.decide(at(3_500)).len(), 1);
        assert_eq!(
            broken(&book, at(3_700), "the newest one is of 2026-03-02T00:00:01"),
            [vm(1)]
        );
        // Whoever comes into scope later was promised nothing before.
        book.tell_promises(&promises(&[("gold", &[9])]), at(3_705));
        assert!(wanted(&book, at(3_706)).is_empty(), "it just came");
        book.tell_promises(&promises(&[]), at(3_710));
        assert!(wanted(&book, at(3_720)).is_empty(), "nothing is promised");
    }

    #[test]
    fn that_nobody_decides_is_another_alarm_than_that_runs_fail_or_something_is_missing() {
        let mut book = book();
        book.tell_promises(&promises(&[("gold", &[1])]), at(0));
        let of = |book: &Book, now| {
            let kinds = wanted(book, now).into_keys().map(|(kind, _)| kind);
            kinds.collect::<Vec<_>>()
        };
        // It has been due for a day, and nobody has ever asked for a decision.
        assert_eq!(of(&book, at(1)), [AlarmKind::NothingRuns]);
        // What is held back for others, as the last decision said, is no fault of whoever decides.
        let (job, mut held_back) = (*book.jobs.keys().next().expect("a job"), book.clone());
        held_back.waiting.insert(job, Blocked::VmBusy);
        held_back.decided_at = Some(at(1));
        assert_eq!(of(&held_back, at(2)), [AlarmKind::PromiseBroken]);
        assert_eq!(of(&held_back, at(600)), [AlarmKind::NothingRuns]);
        book.tell_nodes(NodesNow::default());
        assert_eq!(of(&book, at(2)), [AlarmKind::PromiseBroken]);
        book.tell_nodes(nodes());
        let orders = book.decide(at(3));
        book.not_begun(&orders[0], at(3));
        assert_eq!(of(&book, at(4)), [AlarmKind::PromiseBroken]);
        let says = "1 runs in a row failed";
        assert_eq!(about(&book, at(4), AlarmKind::PromiseBroken, says), [vm(1)]);
    }
}
