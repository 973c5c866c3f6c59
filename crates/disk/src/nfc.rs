//! Disks behind the NFC service of an ESXi host, port 902.
//!
//! Works for every disk that a host can open, whatever is below it: the host resolves chains of
//! deltas. A [`Ticket`] of vCenter opens one disk once; all after it is between the host and us.
//!
//! What is known of the protocol is in [`authd`], [`session`] and [`frame`], pure and held by bytes that
//! were written by hand. Nothing a host sends is believed: its certificate must be the one on record,
//! and a read gives exactly what was asked for, every byte once, or an error.
//!
//! It does not get tickets, and it does not know how many disks a host bears: whoever gives tickets and
//! plans runs does.

pub mod assembly;
pub mod authd;
mod bytes;
mod connection;
mod dial;
mod error;
pub mod fastlz;
pub mod frame;
mod handover;
mod link;
mod options;
mod reader;
mod rewriter;
mod sectors;
pub mod session;
mod setup;
mod ticket;
mod trust;
mod writer;

pub use error::{Act, Code, Error, Step, Violation};
pub use options::{IN_FLIGHT_BYTES_MAX, Options, REQUEST_BYTES_MAX, Timeouts};
pub use reader::NfcReader;
pub use rewriter::NfcRewriter;
pub use ticket::{Ticket, TicketBook, Tickets, host_certificate};
pub use writer::NfcWriter;

use crate::path::DatastorePath;

/// Longer paths do not exist on datastores.
const PATH_BYTES_MAX: usize = 4096;

/// The path as it is sent.
fn checked_path(path: &str) -> crate::Result<String> {
    let checked = DatastorePath::parse(path)?.to_string();
    match checked.len() <= PATH_BYTES_MAX {
        true => Ok(checked),
        false => Err(crate::Error::BadPath { path: checked }),
    }
}

#[cfg(test)]
mod tests;
