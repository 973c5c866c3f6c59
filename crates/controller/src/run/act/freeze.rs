//! Freezing a VM: the snapshot, rung by rung, and what it is proved to be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use stillwater_types::{Fault, Reason, VmId};
use stillwater_vsphere::{Quiesce, RungOutcome, Vm, VssWriter, vss_writers};

use super::{Act, Came, missing};
use crate::point::{QuiesceTry, Quiescence};
use crate::run::cause::Cause;
use crate::run::event::{RunEvent, Work};
use crate::run::ladder::{self, Level, Proof, Rung};
use crate::run::outside::{FreezeEvidence, MadeSnapshot, Refusal};
use crate::run::state::HeldSnapshot;
use crate::run::turnstile::Turn;

/// Most bytes of a shadow copy's archive that go into the point as they are; of a larger one the list
/// of writers stays.
const ARCHIVE_BYTES_MAX: usize = 512 * 1024;
/// How often a VM that is busy is asked.
const BUSY_TRIES: u32 = 3;

impl Act {
    /// Takes the turn first: neither the lease's time nor the guest's patience is spent on waiting.
    pub(super) async fn intend_snapshot(&self) -> Came {
        let turn = self.take_snapshot_turn(self.vm()?).await?;
        let ttl = self.world.timing.lease;
        let expires_at = self.world.clock.now().saturating_add(ttl);
        let expires_at = expires_at.map_err(|error| {
            Fault::new(Reason::Bug, format!("work out the end of a lease: {error}"))
        })?;
        let mut notes = self.scratch.notes();
        notes.snapshot_turn = Some(turn);
        let vm = notes.vm.as_ref().ok_or_else(|| missing("plan"))?;
        Ok(vec![RunEvent::SnapshotIntended {
            lease: self.lease(expires_at),
            ladder: match &self.run.work {
                Work::Backup(work) if !work.quiesce.is_empty() => work.quiesce.clone(),
                _ => ladder::usual(vm),
            },
        }])
    }

    /// Waits for a turn at the VM's host and datastores, unless the run is told to stop.
    async fn take_snapshot_turn(&self, vm: &VmId) -> Result<Turn, Fault> {
        let turn = self.world.snapshot_turn(vm);
        let turn = self.halt.run_until_cancelled(turn).await;
        turn.ok_or_else(|| Fault::new(Reason::RunCancelled, "the run was told to stop"))
    }

    /// Tries the rung that the run is at, once.
    pub(super) async fn create_snapshot(&self) -> Came {
        let vm_id = self.vm()?;
        let held = self.run.snapshot.as_ref().ok_or_else(|| missing("lease"))?;
        let rung = held.rung().ok_or_else(|| missing("rung"))?;
        let vm = self.scratch.notes().vm.clone();
        let vm = vm.ok_or_else(|| missing("plan"))?;
        let quiesce = match ladder::request(&rung, &vm) {
            Ok(quiesce) => quiesce,
            Err(useless) => return Ok(vec![failed(&rung, useless, false)]),
        };
        if held.failures > 0 {
            // What the guest could not do just now it may do in a moment.
            let pause = tokio::time::sleep(self.world.timing.quiesce_pause);
            self.halt.run_until_cancelled(pause).await;
        }
        let warnings = self.track_changes(vm_id).await;
        let kept = self.scratch.notes().snapshot_turn.take();
        let turn = match kept {
            Some(turn) => turn,
            None => self.take_snapshot_turn(vm_id).await?,
        };
        let began = self.world.clock.now();
        let asked = self.ask(vm_id, held, quiesce).await;
        drop(turn);
        let made = match asked {
            Ok(made) => made,
            Err(Refusal { fault, outcome }) => match outcome {
                RungOutcome::Failed => return Ok(vec![failed(&rung, &fault.message, true)]),
                _ => return Err(fault),
            },
        };
        let taken_at = self.world.clock.now();
        let freeze = taken_at.duration_since(began).as_millis();
        let quiescence = Quiescence {
            freeze_millis: u64::try_from(freeze).ok(),
            ..self.prove(&vm, vm_id, held, &rung, &made).await
        };
        if let Some(again) = self.is_too_little(held, &rung, &quiescence) {
            // Never two snapshots of one run: this one goes before another is asked for.
            let turn = self.world.snapshot_turn(vm_id).await;
            let vsphere = &self.world.vsphere;
            vsphere.remove_snapshot(vm_id, &held.lease).await?;
            drop(turn);
            let problem = quiescence.shortcoming();
            return Ok(vec![failed(&rung, &problem, again)]);
        }
        let warning = downgrade(held, &vm, &quiescence);
        let mut notes = self.scratch.notes();
        notes.taken_at = Some(taken_at);
        notes.note("snapshot", &made.snapshot);
        notes.note("quiesced", made.is_quiesced.to_string());
        let stun_micros = quiescence.stun_micros;
        notes.quiescence = Some(quiescence);
        Ok(vec![RunEvent::SnapshotCreated {
            snapshot: made.snapshot,
            warnings: warnings.into_iter().chain(warning).collect(),
            stun_micros,
        }])
    }

    /// Asks for the snapshot; a VM that is busy is asked again, which is no fault of the rung.
    ///
    /// What stays unknown is not repeated: a snapshot whose answer was lost is looked for by its lease
    /// when the run cleans up, and the adapter does so before it asks again.
    async fn ask(
        &self,
        vm: &VmId,
        held: &HeldSnapshot,
        quiesce: Quiesce,
    ) -> Result<MadeSnapshot, Refusal> {
        let mut tries = 0;
        loop {
            let vsphere = &self.world.vsphere;
            let asked = vsphere.create_snapshot(vm, &held.lease, quiesce).await;
            tries += 1;
            match asked {
                Err(refusal) if refusal.outcome == RungOutcome::Busy && tries < BUSY_TRIES => {}
                asked => return asked,
            }
            let pause = tokio::time::sleep(self.world.timing.quiesce_pause);
            if self.halt.run_until_cancelled(pause).await.is_none() {
                return Err(Refusal::from(Fault::new(
                    Reason::RunCancelled,
                    "the run was told to stop",
                )));
            }
        }
    }

    /// Whether what was proved does not do, and then whether the same rung may be tried again. Less
    /// than the rung asks for is good enough when its tries are used up and the ladder goes that low.
    fn is_too_little(&self, held: &HeldSnapshot, rung: &Rung, proved: &Quiescence) -> Option<bool> {
        let vm = self.scratch.notes().vm.as_ref().map(|vm| vm.power);
        let is_off = vm == Some(stillwater_vsphere::Power::Off);
        if is_off || proved.achieved >= rung.level {
            return None;
        }
        let may_retry = held.failures + 1 < rung.tries;
        let is_allowed = proved.achieved >= ladder::least(&held.ladder);
        match (may_retry, is_allowed) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// Gathers what vSphere and the guest left of the freeze. What cannot be read proves nothing.
    async fn prove(
        &self,
        vm: &Vm,
        vm_id: &VmId,
        held: &HeldSnapshot,
        rung: &Rung,
        made: &MadeSnapshot,
    ) -> Quiescence {
        let evidence = self
            .repeat(&self.world.timing.call, || async {
                let vsphere = &self.world.vsphere;
                vsphere.freeze_evidence(vm_id, &made.snapshot).await
            })
            .await;
        let mut remarks = Vec::new();
        let evidence = evidence.unwrap_or_else(|fault| {
            remarks.push(format!("the guest's own report could not be read: {fault}"));
            FreezeEvidence::default()
        });
        let writers = evidence.report.as_deref().and_then(|archive| {
            let is_archive = archive.starts_with(b"PK");
            let read = is_archive.then(|| vss_writers(archive))?;
            read.inspect_err(|error| remarks.push(error.to_string()))
                .ok()
        });
        let proof = Proof {
            power: vm.power,
            is_quiesced: made.is_quiesced,
            writers: writers.as_deref(),
        };
        Quiescence {
            asked: held.ladder.iter().map(|rung| rung.level).collect(),
            achieved: ladder::achieved(rung.level, &proof),
            tries: held.failed.clone(),
            tools: format!("{:?}, {:?}", vm.tools, vm.facts.tools_version),
            quiesced: made.is_quiesced,
            archive: evidence.report.as_deref().and_then(kept),
            writers: writers.unwrap_or_default(),
            stun_micros: evidence.stun_micros,
            freeze_millis: None,
            remarks,
            hooks: Vec::new(),
            release: None,
        }
    }

    /// Turns change tracking on if that is safe: with snapshots there, vSphere would track from a
    /// wrong base and say nothing. The backup's own snapshot makes it take effect.
    async fn track_changes(&self, vm_id: &VmId) -> Vec<Cause> {
        let wanted = |vm: &Vm| vm.cbt_supported && !vm.cbt_enabled && vm.snapshots.is_empty();
        let is_first = self
            .run
            .snapshot
            .as_ref()
            .is_some_and(|held| held.failed.is_empty());
        let is_backup = matches!(self.run.work, Work::Backup(_));
        if !is_backup || !is_first || !self.scratch.notes().vm.as_ref().is_some_and(wanted) {
            return Vec::new();
        }
        match self.world.vsphere.enable_tracking(vm_id).await {
            Ok(()) => {
                self.scratch
                    .notes()
                    .note("change tracking", "turned on by this run");
                Vec::new()
            }
            Err(fault) => {
                tracing::warn!(run.id = %self.run.id, vm.id = %vm_id, %fault, "change tracking is off");
                vec![Cause(Fault {
                    message: format!("change tracking could not be turned on: {}", fault.message),
                    ..fault
                })]
            }
        }
    }
}

fn kept(archive: &[u8]) -> Option<String> {
    (archive.len() <= ARCHIVE_BYTES_MAX).then(|| STANDARD.encode(archive))
}

fn failed(rung: &Rung, problem: &str, may_repeat: bool) -> RunEvent {
    RunEvent::RungFailed {
        failed: QuiesceTry {
            level: rung.level,
            problem: problem.to_owned(),
        },
        may_repeat,
    }
}

/// A point that is weaker than was asked for is never silently so.
fn downgrade(held: &HeldSnapshot, vm: &Vm, quiescence: &Quiescence) -> Option<Cause> {
    let achieved = quiescence.achieved;
    if !ladder::is_downgrade(&held.ladder, vm.power, achieved) {
        return None;
    }
    let why = quiescence.tries.last().map_or_else(
        || quiescence.shortcoming(),
        |tried| format!("{}: {}", tried.level, tried.problem),
    );
    let asked = held.ladder.iter().map(|rung| rung.level).max();
    Some(Cause::new(
        Reason::ConsistencyDowngraded,
        format!(
            "the point is {achieved} consistent, not {} consistent as was asked for ({why}); `stillwater point show` has the evidence",
            asked.unwrap_or(Level::Crash)
        ),
    ))
}

impl Quiescence {
    /// What is missing for the level that was asked for.
    fn shortcoming(&self) -> String {
        let failed = |writer: &VssWriter| {
            let failure = writer.failure.as_ref()?;
            Some(format!("{} ({failure})", writer.name))
        };
        let failed: Vec<String> = self.writers.iter().filter_map(failed).collect();
        match (self.quiesced, failed.is_empty(), self.writers.is_empty()) {
            (false, ..) => "vsphere did not quiesce the guest".to_owned(),
            (true, false, _) => format!("writers failed: {}", failed.join(", ")),
            (true, true, true) => "no application took part in the freeze".to_owned(),
            (true, true, false) => "less than was asked for".to_owned(),
        }
    }
}
