//! A sample of `make vsphere-faults`.

use anyhow::{Context, Result};
use stillwater_tests::vsphere_faults::{Options, Tally, run};

#[test]
fn no_fault_of_vcenter_leaves_a_snapshot_or_makes_a_false_point() -> Result<()> {
    let options = Options::from_clock(15, 2)?;
    let seed = options.seed;
    let mut tally = Tally::default();
    run(&options, &mut tally, |line| println!("{line}"))
        .with_context(|| format!("make vsphere-faults FAULTS=15 KILLS=2 SEED={seed}"))?;
    println!("{}", tally.report());
    Ok(())
}
