//! The data plane of vSphere: reading and writing virtual disks over open transports.
//!
//! A transport answers a range completely and exactly, or with an error; it never guesses, pads or
//! shortens. What a disk means, how it is cut and where it is kept is not known here.

mod block;
mod error;
mod fallback;
pub mod file;
pub mod folder;
pub mod hotadd;
pub mod nbd;
pub mod nfc;
mod path;
mod read_ahead;
mod reader;
mod rewriter;
mod task;
mod writer;

pub use block::{BlockPool, Unwritten};
pub use error::{Error, Result};
pub use fallback::{FallbackReader, GivenUp, Way};
pub use read_ahead::read_ahead;
pub use reader::DiskReader;
pub use rewriter::{DiskRewriter, REWRITE_ALIGN};
pub use writer::DiskWriter;
