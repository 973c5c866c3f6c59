//! What can go wrong with keys and sealed bytes.

use stillwater_types::{Fault, Reason};

/// A failure of sealing or opening. None of the variants carries secret bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no random bytes, so nothing may be sealed.
    #[error("draw random bytes")]
    Random,
    /// A key that does not have 32 bytes.
    #[error("read a key of {found} bytes where 32 are needed")]
    KeyLength {
        /// How many bytes there were.
        found: usize,
    },
    /// All counters of one salt are used; a new sealer is needed.
    #[error("take another stamp: the salt has no counter left")]
    SaltExhausted,
    /// Bytes that are not the sealed thing they should be.
    #[error("read {what}: the bytes do not have its form")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
    /// The key is wrong, or bytes or their context were changed.
    #[error("open {what}: the key does not fit or the bytes were changed")]
    Unauthentic {
        /// What was to be opened.
        what: &'static str,
    },
    /// A recovery key with a typing error.
    #[error("read the recovery key: {0}")]
    RecoveryText(&'static str),
    /// The cipher library refused to work.
    #[error("run the cipher {0}")]
    Cipher(&'static str),
}

impl From<SealError> for Fault {
    fn from(error: SealError) -> Self {
        let reason = match error {
            SealError::Unauthentic { what: "chunk" } => Reason::ChunkHashMismatch,
            SealError::Unauthentic { .. } | SealError::Malformed { .. } => Reason::SecretUnreadable,
            SealError::KeyLength { .. } | SealError::RecoveryText(_) => Reason::BadField,
            SealError::Random | SealError::SaltExhausted | SealError::Cipher(_) => Reason::Bug,
        };
        Fault::new(reason, error.to_string())
    }
}
