//! One TOML file per role, overridden by the environment, overridden by flags.
//!
//! The variable `STILLWATER_LIMITS__PARALLEL_RUNS` sets `limits.parallel-runs`,
//! `STILLWATER__LISTEN` sets `listen`; the flag is `--set limits.parallel-runs=4`.
//!
//! Every fault is found before anything listens, and all of them are told at once with file and
//! line: an administrator fixes a file once, not once per fault.

mod check;
mod fault;
mod load;
mod secret;
mod tree;
mod unit;
mod walk;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use stillwater_types::Role;

pub use check::{advertised, host_name, is_address};
pub use fault::{ConfigFault, Faults};
pub use load::Sources;
pub use secret::{Secret, SecretRef};
pub use unit::{Bytes, Period};

/// A role's settings: plain serde structs with `deny_unknown_fields` and kebab-case keys.
pub trait Settings: DeserializeOwned {
    /// Adds what types cannot say, such as limits between two keys. Keys are named as in the
    /// file: `server.listen`.
    fn check(&self, faults: &mut Faults);
}

/// The flags that every role takes; flatten it into the role's command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Configuration file [default: /etc/stillwater/ROLE.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Override one key, such as server.listen=127.0.0.1:7443; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Check the configuration, print every fault, and exit without starting
    #[arg(long, global = true)]
    pub check_config: bool,
}

impl Arguments {
    /// Reads and checks the settings of `role`.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn load<S: Settings>(&self, role: Role) -> Result<S, Faults> {
        Sources::of_process(self, role).load()
    }
}

#[cfg(test)]
mod tests;
