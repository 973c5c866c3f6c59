//! What every role does around its work: configuration, telemetry, health, drain, systemd.
//!
//! Knows nothing of backups. A role's `main` parses [`config::Arguments`], loads its settings,
//! starts [`telemetry`], watches [`Signals`], and runs; everything here ends with its cancellation
//! token.

pub mod command;
pub mod config;
pub mod enrol;
mod heartbeat;
pub mod metrics;
mod renewal;
mod signals;
pub mod state;
pub mod systemd;
pub mod telemetry;

pub use heartbeat::beat;
pub use renewal::keep_identity_fresh;
pub use signals::Signals;
