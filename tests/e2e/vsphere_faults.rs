//! A sample of `make vsphere-faults`.

use anyhow::{Context, Result};
use stillwater_tests::vsphere_faults::{Options, run};

#[test]
fn no_fault_of_vcenter_leaves_a_snapshot_or_makes_a_false_point() -> Result<()> {
    let options = Options::from_clock(40, 3)?;
    let seed = options.seed;
    let tally = run(&options, |line| println!("{line}"))
        .with_context(|| format!("make vsphere-faults FAULTS=40 KILLS=3 SEED={seed}"))?;
    println!("{}", tally.report());
    Ok(())
}
