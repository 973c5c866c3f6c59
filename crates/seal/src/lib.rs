//! Keys, derivation and authenticated encryption; the only crate that names a cipher.
//!
//! It knows neither where keys are kept nor what is sealed with them: callers load and store bytes,
//! and say by type what each text is. Every cipher key is derived from a fresh random salt and every
//! nonce from a stamp that can be used once, so that no (key, nonce) pair can come twice, whatever
//! is retried, restarted or compacted. The layouts stand in `docs/format.md`, "Identify and seal".

mod blob;
mod dataset;
mod error;
mod kek;
mod key;
mod record;
mod recovery;

pub use blob::Purpose;
pub use dataset::{DatasetKey, IdKey};
pub use error::SealError;
pub use kek::KeyEncryptionKey;
pub use record::{ChunkContext, Opener, SALT_LEN, SealedChunk, Sealer, Stamp, TAG_LEN};
pub use recovery::{RecoveryKey, RecoveryPublicKey, WrappedDatasetKey};
