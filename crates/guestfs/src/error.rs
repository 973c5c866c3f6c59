//! Why something of a guest's disk cannot be read.

use crate::Loss;

/// What a reader of guests' disks gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes could not be had: what gives them says why.
    #[error("read {length} bytes at {offset} of a disk")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        length: usize,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The guest's structures contradict themselves. Nothing is guessed in their place.
    #[error("the {structure} at {at} is damaged: {what}")]
    Damaged {
        /// What was read.
        structure: &'static str,
        /// Where it is, in bytes or in the file system's own numbers.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// This reader does not know how.
    #[error("{0} cannot be read; serve the point as a block device and read it there")]
    Unsupported(&'static str),
    /// This one file or directory cannot be shown as it is.
    #[error("this cannot be shown: {0}")]
    Lost(Loss),
    /// More than the caller's limits allow.
    #[error("{what} go beyond the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// There is nothing of that name.
    #[error("there is no such file")]
    NotFound,
    /// A file where a directory is needed.
    #[error("this is not a directory")]
    NotADirectory,
    /// Something that has no content of its own.
    #[error("this has no content to read")]
    NoContent,
    /// Not a symbolic link.
    #[error("this is not a symbolic link")]
    NotALink,
}
