//! Serves disks over NBD: the newstyle handshake, structured replies, block status, many requests at a time.
//!
//! Source of the protocol: `doc/proto.md` of the NetworkBlockDevice project. Only what clients of today use is
//! there: no old style, no export by number, no TLS (the streams are local, or somebody else protects them).
//! Bytes of a client never decide how much memory is taken: a request has a limit, and so have all that wait.

mod error;
mod export;
mod negotiate;
mod reply;
mod serve;
mod wire;

pub use error::Error;
pub use export::{Errno, Export, Piece, Trouble};
pub use serve::{IN_FLIGHT_BYTES, serve};
pub use wire::REQUEST_MAX;
