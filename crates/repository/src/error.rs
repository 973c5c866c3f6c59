//! The engine's errors as they leave the role.

use stillwater_service::telemetry::chain;
use stillwater_store::Error;
use stillwater_types::{Fault, Kind};

/// Tells the caller what it can act on, and the log what a person must act on.
pub fn fault(error: Error) -> Fault {
    match error.reason().kind() {
        Kind::Corrupt | Kind::Unavailable | Kind::Internal => {
            tracing::error!(reason = %error.reason(), error = %chain(&error), "the store failed");
        }
        Kind::Exhausted => tracing::warn!(error = %error, "refused for lack of room"),
        _ => tracing::debug!(reason = %error.reason(), error = %chain(&error), "refused"),
    }
    Fault::from(error)
}
