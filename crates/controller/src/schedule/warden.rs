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
