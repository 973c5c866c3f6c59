//! The repository role: keeps chunks durable and decides alone what is deleted.
//!
//! A thin shell round the engine in crate `store`: it proves who calls, holds grants and fences
//! against each call, and moves blocking work off the async threads. It never holds a key.
//!
//! Invariants:
//! - A proxy is served only with a grant of the controller for this repository, that proxy, the
//!   session's run and dataset, and the act; and only under the run's newest fence.
//! - Nothing is acknowledged before the engine says that it is durable.
//! - Memory does not depend on the size of packs: see [`ingest`] and [`reading`].

pub mod authority;
pub mod command;
pub mod config;
pub mod engine;
mod grpc;
pub mod ingest;
pub mod join;
pub mod metrics;
pub mod reading;
mod record;
pub mod serve;
