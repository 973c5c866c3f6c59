//! Clocks that are ahead, so that days of waiting pass in a moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use stillwater_format::Time;
use stillwater_store::Clock;

/// The machine's clocks, both ahead by as much as a file says.
///
/// A machine that sleeps for days and wakes up shows the same: wall clock and boot clock agree.
pub struct Ahead {
    machine: Arc<dyn Clock>,
    file: PathBuf,
}

impl Ahead {
    /// Puts `machine` ahead by what `file` says at each moment.
    pub fn new(machine: Arc<dyn Clock>, file: &Path) -> Self {
        Self {
            machine,
            file: file.to_owned(),
        }
    }

    fn by(&self) -> Duration {
        let text = fs::read_to_string(&self.file).expect("the file is there as long as the clock");
        Duration::from_millis(text.parse().expect("it holds a number"))
    }
}

impl Clock for Ahead {
    fn wall(&self) -> Time {
        self.machine.wall().after(self.by())
    }

    fn since_boot(&self) -> Duration {
        self.machine.since_boot() + self.by()
    }

    fn boot(&self) -> [u8; 16] {
        self.machine.boot()
    }
}

/// Puts the clocks that `file` is read by ahead.
pub fn put_ahead(file: &Path, millis: u64) -> Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, millis.to_string()).context("write how far clocks are ahead")?;
    // Renamed, so that nobody reads half of it.
    fs::rename(&fresh, file).context("put clocks ahead")
}
