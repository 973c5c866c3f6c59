//! The repository role: keeps chunks durable and decides alone what is deleted.
//!
//! It never holds a key: what it stores is sealed, and what it can check without a key it checks
//! before it acknowledges. Policies, schedules and vSphere are the controller's.
//!
//! Invariants:
//! - What was acknowledged is durable; what was not leaves no trace.
//! - A proxy acts only with a grant for this repository, and only while its session's fence is the
//!   run's newest.
//! - What a call holds in memory does not depend on what is stored (see [`intake`] and [`delivery`]).
//! - What is deleted is the store's decision, whoever asks.

pub mod admin;
pub mod command;
pub mod config;
pub mod delivery;
pub mod engine;
pub mod error;
pub mod gate;
mod grpc;
pub mod intake;
pub mod join;
pub mod metrics;
pub mod recover;
pub mod serve;
pub mod statement;
mod task;
pub mod upkeep;

#[cfg(test)]
mod tests;
