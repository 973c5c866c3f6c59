//! Lets a fleet keep its promises in accelerated time: `make fleet` (VMS=200 MINUTES=120 SPEED=6 SEED=…).
//!
//! Starts itself again in a network namespace of its own and under libfaketime; root only.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use stillwater_tests::fleet::{Options, Tally, run};
use stillwater_tests::workspace::setting;

/// Set for the process that is inside.
const INSIDE: &str = "STILLWATER_FLEET_INSIDE";

fn main() -> Result<()> {
    let speed: u32 = setting("SPEED", 6)?;
    if env::var_os(INSIDE).is_none() {
        return Err(start_inside(speed)).context("start faketime and unshare; see tests/setup.sh");
    }
    let options = Options {
        vms: setting("VMS", 200)?,
        minutes: setting("MINUTES", 120)?,
        seed: setting("SEED", 1)?,
    };
    println!(
        "fleet: {} VMs for {} minutes, {speed} times as fast, seed {}",
        options.vms, options.minutes, options.seed
    );
    let mut tally = Tally::default();
    let done = run(&options, &mut tally, |line| println!("{line}"));
    println!("{}", tally.report());
    done?;
    println!("fleet passed: every promise kept or explained, snapshots left 0");
    Ok(())
}

/// Becomes this program again; answers only if that does not work.
fn start_inside(speed: u32) -> std::io::Error {
    let own = match env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    // One start of the accelerated clock for all processes, whenever they begin.
    Command::new("faketime")
        .args(["-f", &format!("+0 x{speed}"), "unshare", "--net"])
        .arg(own)
        .env(INSIDE, "1")
        .exec()
}
