//! The repository's process.

use std::process::ExitCode;

use stillwater_repository::command::Command;

fn main() -> ExitCode {
    Command::run_process()
}
