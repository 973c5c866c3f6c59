//! The reader of guests' files: a process that can read and write its two pipes, and nothing else.

use std::io::{stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = stillwater_files::enter() {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    match stillwater_files::work(stdin(), stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
