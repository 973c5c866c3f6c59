//! What the outside tells a process.

use std::io;

use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT drain, SIGHUP reloads.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled at the first SIGTERM or SIGINT; a second one ends the process at once.
    pub drain: CancellationToken,
}

impl Signals {
    /// Watches from now on. Must be called inside a tokio runtime.
    pub fn watch() -> io::Result<Self> {
        unimplemented!()
    }
    /// Waits for the next SIGHUP.
    pub async fn reload(&mut self) {
        unimplemented!()
    }
}
