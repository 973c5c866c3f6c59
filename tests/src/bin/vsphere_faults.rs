//! Throws faults of vCenter at backups: `make vsphere-faults` (FAULTS=2000 KILLS=60 SEED=… ONLY=METHOD).

use anyhow::{Context, Result};
use stillwater_tests::vsphere_faults::{Options, run};

fn main() -> Result<()> {
    let options = Options::from_environment(2000, 60)?;
    println!(
        "vsphere faults: {} faults, {} kills, seed {}",
        options.faults, options.kills, options.seed
    );
    let tally = run(&options, |line| println!("{line}"))
        .with_context(|| format!("SEED={}", options.seed))?;
    println!("{}", tally.report());
    Ok(())
}
