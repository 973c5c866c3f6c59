//! Trouble at every call that the script makes.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use stillwater_store::Error;
use stillwater_testkit::Dice;
use stillwater_testkit::fault_fs::{AfterFailedSync, Journal, Trouble};

use crate::campaign::is_full;
use crate::check::{check, check_point};
use crate::op::Op;
use crate::script::{checkpoints, go_on, lives, play};
use crate::world::World;

/// One life with trouble at one of its calls.
struct Trial {
    life: usize,
    call: u64,
    what: String,
}

struct Sweep {
    starts: Vec<World>,
    lives: [Vec<Op>; 4],
    trials: Vec<Trial>,
}

impl Sweep {
    /// Every call of the script that `concerns` the trouble. In `make test`, of the directories that are
    /// all alike only some.
    fn over(concerns: fn(&str) -> bool) -> Self {
        let (starts, lives) = (checkpoints(), lives());
        let mut trials = Vec::new();
        for (life, ops) in lives.iter().enumerate() {
            let start = &starts[life];
            let mut world = start.on(start.fs.copy(), 1);
            world.fs.record();
            play(&mut world, life, ops, &mut |error, op| {
                panic!("{op}: {error:#}")
            });
            let calls = (1..).zip(world.fs.recorded());
            let trial = |(call, what)| Trial { life, call, what };
            let wanted = calls.filter(|(_, what)| concerns(what) && (is_full() || !is_alike(what)));
            trials.extend(wanted.map(trial));
        }
        if !is_full() {
            // A different part of them in each run would be luck; these are every so many.
            let step = trials.len().div_ceil(150);
            let mut at = 0;
            trials.retain(|_| {
                at += 1;
                at % step == 0
            });
        }
        Self {
            starts,
            lives,
            trials,
        }
    }

    /// Tries them all, on two threads.
    fn run(&self, trouble: Trouble) {
        let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(trial) = self.trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(violation) = self.attempt(trial, trouble) {
                    let Trial { life, call, what } = trial;
                    let told = format!("life {life}, call {call} ({what}): {violation:#}");
                    failures.lock().expect("no panic elsewhere").push(told);
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        let failures = failures.into_inner().expect("no panic elsewhere");
        println!("{trouble:?}: {} calls", self.trials.len());
        for told in failures.iter().take(20) {
            println!("{told}");
        }
        assert!(
            failures.is_empty(),
            "{} calls broke a promise",
            failures.len()
        );
    }

    fn attempt(&self, trial: &Trial, trouble: Trouble) -> Result<()> {
        let Trial { life, call, .. } = *trial;
        let start = &self.starts[life];
        let mut world = start.on(start.fs.copy(), 1);
        world.fs.trouble_in(call, trouble);
        let mut broken = None;
        play(&mut world, life, &self.lives[life], &mut |error, op| {
            // Whatever fails says why in a way that can be decided on.
            if error.downcast_ref::<Error>().is_none() && broken.is_none() {
                broken = Some(format!("{op}: {error:#}"));
            }
        });
        ensure!(broken.is_none(), "{}", broken.unwrap_or_default());
        ensure!(world.fs.struck().is_some(), "the call was not made");
        restore(&world)?;
        world.fs.heal();
        let mut cut = world.on(world.fs.crash(Journal::Torn, &mut Dice::new(call)), 2);
        go_on(&mut world, life)?;
        go_on(&mut cut, life).context("after a power cut")?;
        // What a restart saw must not have stood on pages that the disk never got.
        let fs = world.fs.crash(Journal::Torn, &mut Dice::new(0));
        let mut later = world.on(fs, 3);
        later
            .open()
            .context("does not open after a later power cut")?;
        check(&mut later).context("after a later power cut")
    }
}

/// I16: whatever is the matter with the disk, what can be read is restored.
fn restore(world: &World) -> Result<()> {
    let Some(store) = &world.store else {
        return Ok(());
    };
    for (point, kept) in &world.oracle.kept {
        if !world.oracle.doomed.contains(point) {
            check_point(store, *point, kept).context("I16: in the same process")?;
        }
    }
    Ok(())
}

/// Lists and syncs of the directories that packs and manifests are spread over, but for some.
fn is_alike(what: &str) -> bool {
    let is_spread = |name: &str| name.len() == 2 && !["00", "7f", "ff"].contains(&name);
    let (call, path) = what.split_once(' ').unwrap_or((what, ""));
    matches!(call, "List" | "MakeDir") && path.rsplit('/').next().is_some_and(is_spread)
}

#[test]
fn an_error_at_any_call_is_typed_and_breaks_no_promise() {
    Sweep::over(|_| true).run(Trouble::Fails(ErrorKind::Other));
}

#[test]
fn a_disk_that_is_full_from_any_call_on_breaks_no_promise() {
    Sweep::over(|_| true).run(Trouble::NoRoom);
}

#[test]
fn a_sync_that_fails_anywhere_is_not_believed_later() {
    let sweep = Sweep::over(|what| what.starts_with("Sync"));
    sweep.run(Trouble::LosesPages(AfterFailedSync::Kept));
    sweep.run(Trouble::LosesPages(AfterFailedSync::Dropped));
}

#[test]
fn a_read_that_ends_early_anywhere_breaks_no_promise() {
    Sweep::over(|what| what.starts_with("Read")).run(Trouble::EndsEarly);
}

#[test]
fn a_bit_that_is_read_wrong_once_breaks_no_promise() {
    Sweep::over(|what| what.starts_with("Read")).run(Trouble::Flips(12_345));
}
