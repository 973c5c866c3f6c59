//! The administrator's tool `stillwater`.
//!
//! Speaks to the controller, and to a proxy for the one call that reads an export. Decides nothing:
//! it says what the controller said, as tables or JSON on stdout, everything else on stderr, and an
//! exit code that scripts can rely on.

mod arguments;
mod command;
mod context;
mod exit;
mod export;
mod files;
mod follow;
mod hooks;
mod output;
mod password;
mod progress;
mod resolve;
mod serve;
mod session;
mod view;

use std::process::ExitCode;

use clap::Parser;
use stillwater_types::{Fault, Reason};

pub use arguments::Arguments;

/// Parses the command line, runs the command, prints its fault, if any, and says how it ended.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        // The runtime is dropped before the exit code is answered: that waits for the thread that
        // removes an unfinished file.
        Ok(runtime) => runtime.block_on(command::run(arguments)),
        Err(err) => Err(Fault::new(Reason::Bug, format!("start the runtime: {err}"))),
    };
    exit::code(outcome)
}
