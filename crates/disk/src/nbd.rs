//! Disks that another program serves over the Network Block Device protocol, such as nbdkit or
//! qemu-nbd.
//!
//! The protocol is the fixed newstyle one of the NetworkBlockDevice project's `proto.md`. What the
//! bytes mean is in modules without I/O; every length that a server sends is bounded before it is
//! believed. What the other program does with the disk is not known here.

mod assembly;
mod client;
mod command;
mod connection;
mod error;
mod handshake;
mod reader;
mod stream;
pub mod wire;
mod writer;

pub use assembly::Assembly;
pub use client::{Endpoint, NbdClient, Settings, Tls};
pub use command::{CommandLine, CommandValues, NbdCommand};
pub use error::NbdError;
pub use handshake::{Export, Handshake, Step, Wishes};
pub use reader::{Allocation, NbdReader};
pub use writer::NbdWriter;

#[cfg(test)]
mod tests;
