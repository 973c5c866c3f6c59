//! The controller's process.

use std::process::ExitCode;

use clap::Parser;
use stillwater_controller::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
