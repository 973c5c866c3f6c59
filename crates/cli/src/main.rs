//! `stillwater`, the administrator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    stillwater_cli::main()
}
