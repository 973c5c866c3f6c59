//! The proxy's process.

use std::process::ExitCode;

use clap::Parser;
use stillwater_proxy::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
