//! Bytes at rest: records and packs, tree nodes, manifests, the commit log, the journal and the
//! superblock, exactly as `docs/format.md` describes them.
//!
//! Pure encoding and decoding: no I/O, no clock, no randomness. It neither compresses nor seals; what
//! is sealed is opaque here. Decoders take any bytes, never panic, and never allocate more than a
//! bound that is stated beside them.
//!
//! All integers are little-endian.

mod bytes;
pub mod commit;
mod error;
pub mod log;
pub mod manifest;
pub mod node;
pub mod pack;
pub mod superblock;
mod time;

#[cfg(test)]
mod vectors;

pub use error::Error;
pub use time::Time;
