//! Checks of this workspace that no ready-made tool does.
//!
//! `cargo xtask layers` holds the crates' dependencies against the table of the architecture;
//! `cargo xtask reasons` holds the error pages against the reasons that the code can give.

mod layers;
mod reasons;

use std::process::ExitCode;

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let faults = match task.as_deref() {
        Some("layers") => layers::check(),
        Some("reasons") => reasons::check(),
        _ => {
            eprintln!("usage: cargo xtask layers | reasons");
            return ExitCode::from(2);
        }
    };
    match faults {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
