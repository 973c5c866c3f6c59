//! Checks of this workspace that no ready-made tool does.
//!
//! `cargo xtask layers` holds the crates' dependencies against the table of the architecture;
//! `cargo xtask reasons` holds the error pages against the reasons that the code can give.

mod layers;
mod reasons;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let task = std::env::args().nth(1);
    let faults = match task.as_deref() {
        Some("layers") => layers::check()?,
        Some("reasons") => reasons::check()?,
        _ => bail!("usage: cargo xtask layers | reasons"),
    };
    for fault in &faults {
        eprintln!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    Ok(())
}
