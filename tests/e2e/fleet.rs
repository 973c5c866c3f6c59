//! A small fleet for a short time: `make fleet` is the whole of it.

use std::process::Command;

use anyhow::{Result, ensure};

#[test]
fn a_small_fleet_keeps_its_promises_while_proxies_come_and_go() -> Result<()> {
    // The network of a fleet is made in namespaces.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_fleet"))
        .envs([("VMS", "14"), ("MINUTES", "10"), ("SPEED", "8")])
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{told}");
    Ok(())
}
