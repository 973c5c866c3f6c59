//! The repository's process.

use std::process::ExitCode;

use clap::Parser;
use stillwater_repository::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
