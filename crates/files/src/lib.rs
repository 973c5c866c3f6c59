//! Reads files out of guests' disks in a process of its own, which can do nothing else.
//!
//! What parses a hostile guest's bytes may be wrong. So it runs in a process without files, network, other
//! processes or much memory ([`enter`]): its standard input and output are all that it has, and over these it
//! asks for the bytes of disks and says what it found. A crash there is that [`Session`]'s error and nobody
//! else's.

mod answer;
mod frame;
mod jail;
mod pattern;
mod session;
mod tree;
mod work;

pub use answer::{
    Cause, Entry, Event, Facts, Item, Job, Lost, Moment, NamePattern, VolumeFacts, Wanted,
};
pub use jail::{JailError, enter};
pub use session::{Error, ReadDisk, Session};
pub use work::work;
