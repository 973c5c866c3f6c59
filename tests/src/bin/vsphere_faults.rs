//! Throws faults of vCenter at backups: `make vsphere-faults` (FAULTS=2000 KILLS=60 SEED=… ONLY=METHOD).

use anyhow::{Context, Result};
use stillwater_tests::vsphere_faults::{Options, Tally, run};

fn main() -> Result<()> {
    let options = Options::from_environment(2000, 60)?;
    println!(
        "vsphere faults: {} faults, {} kills, seed {}",
        options.faults, options.kills, options.seed
    );
    let mut tally = Tally::default();
    let done = run(&options, &mut tally, |line| println!("{line}"));
    // What was seen until then counts also when the rest fails.
    println!("{}", tally.report());
    done.with_context(|| format!("SEED={}", options.seed))?;
    println!(
        "vsphere faults passed: nothing of ours left, nothing foreign touched, no point false"
    );
    Ok(())
}
