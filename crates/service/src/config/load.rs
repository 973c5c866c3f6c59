//! From files, environment and flags to settings.

use stillwater_types::Role;

use super::{Arguments, Faults, Settings};

/// Everything a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {}

impl Sources {
    /// What this process was started with.
    pub fn of_process(arguments: &Arguments, role: Role) -> Self {
        unimplemented!("{arguments:?} {role}")
    }
    /// Reads and checks.
    pub fn load<S: Settings>(&self) -> Result<S, Faults> {
        unimplemented!()
    }
}
