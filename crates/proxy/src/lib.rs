//! The proxy role: reads frozen disks into sealed chunks, and back.
//!
//! It moves bytes and nothing else: which VM, which snapshot, when and whither is decided by the
//! controller. It keeps no state but its identity; a transfer that it forgets is started again.
//!
//! Invariants:
//! - Every byte is read, proved and stored, or the transfer fails; nothing is skipped.
//! - What a transfer holds in memory does not depend on the disk (see [`transfer::Limits`]).
//! - A dataset's key is held for one transfer and never written.

pub mod attached;
pub mod command;
pub mod config;
pub mod error;
pub mod exports;
mod grpc;
pub mod join;
mod local;
pub mod metrics;
pub mod probes;
pub mod reach;
pub mod serve;
pub mod slots;
pub mod transfer;
pub mod transfers;
