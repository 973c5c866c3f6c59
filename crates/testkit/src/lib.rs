//! What the tests of several crates lean on: the role × RPC matrix, bare TLS, the example settings, the
//! documented metrics, and storage that fails.
//!
//! Knows no message of any role and no settings of one, so that each crate brings its own. Nothing
//! that ships depends on it; `cargo xtask layers` sees to that. What is not as it should be panics.

#[cfg(feature = "storage")]
mod clock;
#[cfg(feature = "roles")]
pub mod example;
#[cfg(feature = "storage")]
pub mod fault_fs;
#[cfg(feature = "roles")]
mod identity;
#[cfg(feature = "roles")]
pub mod matrix;
#[cfg(feature = "roles")]
pub mod metrics;
#[cfg(feature = "storage")]
mod random;
#[cfg(feature = "roles")]
pub mod tls;

#[cfg(feature = "storage")]
pub use clock::FaultClock;
#[cfg(feature = "storage")]
pub use fault_fs::FaultFs;
#[cfg(feature = "roles")]
pub use identity::identity;
#[cfg(feature = "storage")]
pub use random::{Dice, SeededRng};
