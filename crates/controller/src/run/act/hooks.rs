//! Hooks: programs in the guest that hold it still around its snapshot, and release it.
//!
//! Once the guest was touched its release is owed. The guest knows that too: it releases itself when its
//! budget is over and nobody came.

use stillwater_rpc::retry::Backoff;
use stillwater_types::{Fault, Reason, VmId};
use stillwater_vsphere::{GuestFamily, GuestLogin, Power, Tools, Vm};

use super::release::is_gone;
use super::{Act, Came, missing};
use crate::guest::{HookRun, Hooks, Keeper, OnFailure, Phase, Release};
use crate::run::cause::Cause;
use crate::run::event::{RunEvent, Work};
use crate::run::scratch::GuestNotes;

/// Most that all hooks of a run may leave in its point.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;

/// What a guest's release came to: none when it was not held, or nothing of that is left.
type Released = Option<(Release, Vec<HookRun>)>;

impl Act {
    /// Prepares the guest and runs the BEFORE hooks.
    pub(super) async fn hold_guest(&self) -> Came {
        self.scratch.notes().guest = Some(GuestNotes::default());
        let hooks = self.hooks()?;
        let vm = self.scratch.notes().vm.clone();
        let vm = vm.ok_or_else(|| missing("plan"))?;
        let mut warnings = Vec::new();
        if vm.power != Power::On {
            self.scratch
                .notes()
                .note("hooks", "not run: the vm was not powered on");
            return Ok(vec![ran(Phase::Before, warnings)]);
        }
        match self.begin(&vm, hooks).await {
            Ok(()) => self.run_hooks(Phase::Before, &mut warnings).await?,
            Err(fault) => self.judge(hooks.strictest(), fault, &mut warnings)?,
        }
        Ok(vec![ran(Phase::Before, warnings)])
    }

    /// Looks whether the guest is still held now that the snapshot stands, and runs the DURING hooks.
    pub(super) async fn use_held_guest(&self) -> Came {
        let mut warnings = Vec::new();
        if !self.guest_notes(|guest| guest.is_begun) {
            return Ok(vec![ran(Phase::During, warnings)]);
        }
        let hooks = self.hooks()?;
        let (vm, keeper) = (self.vm()?, self.keeper()?);
        let asked = async {
            let login = self.login(vm).await?;
            let vsphere = &self.world.vsphere;
            self.repeat(&self.world.timing.call, || {
                vsphere.holds_guest(vm, &login, &keeper)
            })
            .await
        };
        match asked.await {
            Ok(true) => self.run_hooks(Phase::During, &mut warnings).await?,
            Ok(false) => {
                let fault = Fault::new(
                    Reason::HookFailed,
                    format!(
                        "the guest released itself before the snapshot was there: {} seconds were not enough; raise the budget of the hooks",
                        hooks.budget_seconds
                    ),
                );
                self.judge(hooks.strictest(), fault, &mut warnings)?;
            }
            Err(fault) => self.judge(hooks.strictest(), fault, &mut warnings)?,
        }
        Ok(vec![ran(Phase::During, warnings)])
    }

    /// Releases the guest: the AFTER hooks run once, and nothing of ours is left there.
    pub(super) async fn release_guest(&self, events: &mut Vec<RunEvent>) -> Result<(), Fault> {
        let (known, is_touched) = {
            let notes = self.scratch.notes();
            let guest = notes.guest.as_ref();
            (guest.is_some(), guest.is_some_and(|guest| guest.is_touched))
        };
        // After a restart nothing is known, and the guest is asked.
        if known && !is_touched {
            return Ok(());
        }
        let is_begun = self.guest_notes(|guest| guest.is_begun);
        let (vm, keeper) = (self.vm()?, self.keeper()?);
        let released = match self.insist_release(vm, &keeper, is_begun || !known).await {
            Err(fault) if is_gone(&fault) => None,
            released => released?,
        };
        match released {
            Some((release, runs)) => self.take_release(release, runs, events),
            None if is_begun => events.push(RunEvent::Warned(Cause::new(
                Reason::HookFailed,
                "nothing of the hooks was found in the guest any more: it was restarted, or somebody cleared its /tmp; look whether it is as it should be",
            ))),
            None => {}
        }
        Ok(())
    }

    async fn begin(&self, vm: &Vm, hooks: &Hooks) -> Result<(), Fault> {
        let unavailable = |why: &str| Err(Fault::new(Reason::GuestUnavailable, why));
        if vm.facts.guest_family != GuestFamily::Linux {
            return unavailable("hooks run in linux guests only; leave them out for this vm");
        }
        if vm.tools != Tools::Running {
            return unavailable(
                "hooks need vmware tools, which do not run in the guest; install or start them",
            );
        }
        let vm_id = self.vm()?;
        let login = self.login(vm_id).await?;
        let keeper = Keeper::new(self.run.id, hooks.clone());
        self.note_guest(|guest| guest.is_touched = true);
        // Not given up in the middle: what was put into the guest must be known before it is released.
        let begun = self
            .repeat(&self.world.timing.call, || {
                self.world.vsphere.begin_hooks(vm_id, &login, &keeper)
            })
            .await;
        if let Err(fault) = begun {
            let untouched = fault.reason == Reason::GuestLoginRefused;
            self.note_guest(|guest| guest.is_touched = !untouched);
            return Err(fault);
        }
        self.note_guest(|guest| guest.is_begun = true);
        Ok(())
    }

    /// Runs the hooks of a phase in their order. The first that fails and must not ends it.
    async fn run_hooks(&self, phase: Phase, warnings: &mut Vec<Cause>) -> Result<(), Fault> {
        let (vm, keeper) = (self.vm()?, self.keeper()?);
        let login = self.login(vm).await?;
        for (number, hook) in self.hooks()?.of(phase) {
            let run = self.repeat(&self.world.timing.call, || {
                self.world.vsphere.run_hook(vm, &login, &keeper, number)
            });
            // The hook itself is ended when the guest is released.
            let Some(came) = self.halt.run_until_cancelled(run).await else {
                let told = "the run was told to stop";
                return Err(Fault::new(Reason::RunCancelled, told));
            };
            let failure = match came {
                Ok(Some(run)) => {
                    let failure = run.failure();
                    self.keep(run);
                    failure
                }
                Ok(None) => Some(Fault::new(
                    Reason::HookFailed,
                    format!(
                        "the {phase} hook {:?} was not run: the guest had released itself; raise the budget of the hooks",
                        hook.name
                    ),
                )),
                Err(fault) => Some(fault.with("hook", &hook.name)),
            };
            if let Some(fault) = failure {
                self.judge(hook.on_failure, fault, warnings)?;
            }
        }
        Ok(())
    }

    async fn insist_release(
        &self,
        vm: &VmId,
        keeper: &Keeper,
        may_be_held: bool,
    ) -> Result<Released, Fault> {
        let backoff: &Backoff = match may_be_held {
            true => &self.world.timing.release,
            false => &self.world.timing.follow,
        };
        let released = self
            .insist(backoff, || async {
                let released = async {
                    let login = self.login(vm).await?;
                    self.world.vsphere.release_guest(vm, &login, keeper).await
                };
                match released.await {
                    // Asking again changes nothing; the guest releases itself.
                    Err(fault) if lasts(&fault) => Ok(Err(fault)),
                    released => released.map(Ok),
                }
            })
            .await;
        released?
    }

    /// Keeps what came of the AFTER hooks. A run that is ending anyway is not failed twice.
    fn take_release(&self, release: Release, runs: Vec<HookRun>, events: &mut Vec<RunEvent>) {
        self.note_guest(|guest| guest.release = Some(release));
        if release.by_watchdog {
            tracing::warn!(run.id = %self.run.id, at = %release.at, "the guest had released itself");
        }
        let hooks = self.hooks().ok();
        let policy = |name: &str| {
            let mut all = hooks.into_iter().flat_map(|hooks| &hooks.hooks);
            let found = all.find(|hook| hook.phase == Phase::After && hook.name == name);
            found.map_or(OnFailure::Warn, |hook| hook.on_failure)
        };
        for run in runs {
            if let Some(fault) = run.failure() {
                events.extend(match policy(&run.name) {
                    OnFailure::Fail if self.run.ending.is_none() => {
                        Some(RunEvent::Failed(fault.into()))
                    }
                    OnFailure::Fail | OnFailure::Warn => Some(RunEvent::Warned(fault.into())),
                    OnFailure::Ignore => None,
                });
            }
            self.keep(run);
        }
    }

    /// What a failure means: the end of the run, a warning, or a line of evidence.
    fn judge(
        &self,
        on_failure: OnFailure,
        fault: Fault,
        warnings: &mut Vec<Cause>,
    ) -> Result<(), Fault> {
        match on_failure {
            OnFailure::Fail => return Err(fault),
            OnFailure::Warn => warnings.push(fault.into()),
            OnFailure::Ignore => self.scratch.notes().note("hooks", fault.message),
        }
        Ok(())
    }

    /// The account for the guest. It is looked up each time: it may be mended while a run waits.
    async fn login(&self, vm_id: &VmId) -> Result<GuestLogin, Fault> {
        let known = self.scratch.notes().vm.as_ref().map(|vm| vm.path.clone());
        let path = match known {
            Some(path) => path,
            None => self.world.vsphere.vm(vm_id).await?.path,
        };
        let state = self.world.memory.state();
        let account = state.credentials.nearest(vm_id, &path)?;
        account.login(&self.world.secrets)
    }

    fn hooks(&self) -> Result<&Hooks, Fault> {
        match &self.run.work {
            Work::Backup(work) => work.hooks.as_ref().ok_or_else(|| missing("hooks")),
            _ => Err(missing("hooks")),
        }
    }

    fn keeper(&self) -> Result<Keeper, Fault> {
        Ok(Keeper::new(self.run.id, self.hooks()?.clone()))
    }

    fn guest_notes(&self, ask: impl FnOnce(&GuestNotes) -> bool) -> bool {
        self.scratch.notes().guest.as_ref().is_some_and(ask)
    }

    fn note_guest(&self, note: impl FnOnce(&mut GuestNotes)) {
        note(self.scratch.notes().guest.get_or_insert_default());
    }

    /// Keeps what came of a hook, within what a point has room for.
    fn keep(&self, mut run: HookRun) {
        self.note_guest(|guest| {
            let used: usize = guest.hooks.iter().map(|run| run.output.len()).sum();
            let room = OUTPUT_BYTES_MAX.saturating_sub(used);
            if run.output.len() > room {
                let cut = run.output.floor_char_boundary(room);
                run.output.truncate(cut);
                run.truncated = true;
            }
            guest.hooks.push(run);
        });
    }
}

fn ran(phase: Phase, warnings: Vec<Cause>) -> RunEvent {
    RunEvent::HooksRan { phase, warnings }
}

/// Faults that a person must mend.
fn lasts(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        Reason::GuestLoginRefused | Reason::GuestCredentialMissing | Reason::SecretUnreadable
    )
}
