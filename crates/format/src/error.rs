//! Why bytes were refused.

/// Why bytes are not the structure that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the structure does.
    #[error("{what} is cut short")]
    Short {
        /// The structure.
        what: &'static str,
    },
    /// The bytes do not begin with the structure's magic.
    #[error("{what} does not begin with its magic")]
    Magic {
        /// The structure.
        what: &'static str,
    },
    /// A checksum or hash does not fit: the bytes were damaged.
    #[error("{what} is damaged: its checksum does not fit")]
    Checksum {
        /// The structure.
        what: &'static str,
    },
    /// The structure was written by a newer release.
    #[error("{what} has format version {found}, this program reads up to {known}")]
    TooNew {
        /// The structure.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// A field has a value that the format does not allow.
    #[error("{what} has a field {field} that the format does not allow")]
    Field {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A length is beyond its bound.
    #[error("{what} is longer than the format allows: {found} of at most {limit} bytes")]
    TooLong {
        /// The structure.
        what: &'static str,
        /// Its length.
        found: u64,
        /// The bound.
        limit: u64,
    },
}
