//! Sealing chunk records: a salt per pack stream, a counter per record.
//!
//! Key: HKDF-SHA256(salt, pack root, `stillwater/pack-key/v1`). Nonce: the record's counter as a
//! 96-bit big-endian number. AAD: `SWC1` · dataset id (16) · record type 2 (1) · codec (1) · chunk
//! id (32) · plain length (4, little-endian). A [`Stamp`] holds one counter and is used up by
//! sealing, so workers may seal in any order and no counter can come twice.

use std::fmt;
use std::sync::Arc;

use stillwater_types::{ChunkId, DatasetId};

use crate::key::{Cipher, KEY_LEN, random_bytes};
use crate::{DatasetKey, SealError};

/// Bytes of a salt.
pub const SALT_LEN: usize = KEY_LEN;
/// Bytes that sealing adds to a text.
pub const TAG_LEN: usize = 16;

const FORMAT_TAG: &[u8; 4] = b"SWC1";
const RECORD_TYPE_CHUNK: u8 = 2;
const INFO: &[u8] = b"stillwater/pack-key/v1";
const AAD_LEN: usize = 4 + 16 + 1 + 1 + 32 + 4;

/// What is authenticated beside the text of a chunk record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkContext {
    /// The codec's number in the format.
    pub codec: u8,
    /// The chunk's id.
    pub id: ChunkId,
    /// Length of the plaintext before compression.
    pub plain_len: u32,
}

impl ChunkContext {
    fn aad(&self, dataset: DatasetId) -> [u8; AAD_LEN] {
        let mut aad = [0; AAD_LEN];
        aad[..4].copy_from_slice(FORMAT_TAG);
        aad[4..20].copy_from_slice(dataset.as_bytes());
        aad[20] = RECORD_TYPE_CHUNK;
        aad[21] = self.codec;
        aad[22..54].copy_from_slice(self.id.as_bytes());
        aad[54..].copy_from_slice(&self.plain_len.to_le_bytes());
        aad
    }
}

/// The sealed text of a chunk with the counter that made its nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// Goes into the record's header; the opener needs it.
    pub counter: u32,
    /// Ciphertext and tag.
    pub stored: Vec<u8>,
}

/// Seals the chunks of one pack stream under a salt of its own.
pub struct Sealer {
    seal: Arc<Salted>,
    next: Option<u32>,
}

struct Salted {
    cipher: Cipher,
    salt: [u8; SALT_LEN],
    dataset: DatasetId,
}

impl Sealer {
    /// Draws a fresh salt. A stream that is sent again needs a new sealer.
    pub fn new(key: &DatasetKey, dataset: DatasetId) -> Result<Self, SealError> {
        Self::with_salt(key, dataset, random_bytes()?)
    }

    /// Private: whoever could choose the salt could make a nonce come twice.
    fn with_salt(
        key: &DatasetKey,
        dataset: DatasetId,
        salt: [u8; SALT_LEN],
    ) -> Result<Self, SealError> {
        let cipher = key.pack_root()?.cipher(&salt, &[INFO])?;
        Ok(Self {
            seal: Arc::new(Salted {
                cipher,
                salt,
                dataset,
            }),
            next: Some(0),
        })
    }

    /// The salt, which the pack carries in the clear.
    pub fn salt(&self) -> &[u8; SALT_LEN] {
        &self.seal.salt
    }

    /// Gives out the next counter, for one record.
    pub fn stamp(&mut self) -> Result<Stamp, SealError> {
        let counter = self.next.ok_or(SealError::SaltExhausted)?;
        self.next = counter.checked_add(1);
        Ok(Stamp {
            seal: Arc::clone(&self.seal),
            counter,
        })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// The right to seal one record. Neither `Clone` nor reusable: sealing uses it up.
pub struct Stamp {
    seal: Arc<Salted>,
    counter: u32,
}

impl Stamp {
    /// Seals `text`, the plaintext as `context.codec` encodes it.
    pub fn seal(self, context: &ChunkContext, mut text: Vec<u8>) -> Result<SealedChunk, SealError> {
        let aad = context.aad(self.seal.dataset);
        self.seal.cipher.seal(self.counter, &aad, &mut text)?;
        Ok(SealedChunk {
            counter: self.counter,
            stored: text,
        })
    }

    /// An opener for the record that this stamp seals, so that it can be checked before it leaves.
    pub fn opener(&self) -> Opener {
        Opener {
            seal: Arc::clone(&self.seal),
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// Opens the chunks that were sealed under one salt.
#[derive(Clone)]
pub struct Opener {
    seal: Arc<Salted>,
}

impl Opener {
    /// For records sealed under `salt` in `dataset`.
    pub fn new(
        key: &DatasetKey,
        dataset: DatasetId,
        salt: [u8; SALT_LEN],
    ) -> Result<Self, SealError> {
        let cipher = key.pack_root()?.cipher(&salt, &[INFO])?;
        Ok(Self {
            seal: Arc::new(Salted {
                cipher,
                salt,
                dataset,
            }),
        })
    }

    /// The salt.
    pub fn salt(&self) -> &[u8; SALT_LEN] {
        &self.seal.salt
    }

    /// Opens one record's stored bytes in place; gives the text as the codec encoded it.
    pub fn open(
        &self,
        context: &ChunkContext,
        counter: u32,
        mut stored: Vec<u8>,
    ) -> Result<Vec<u8>, SealError> {
        self.open_in_place(context, counter, &mut stored)?;
        Ok(stored)
    }

    /// The same in a buffer that the caller keeps. After an error its content means nothing.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open_in_place(
        &self,
        context: &ChunkContext,
        counter: u32,
        stored: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let aad = context.aad(self.seal.dataset);
        self.seal.cipher.open(counter, &aad, "chunk", stored)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
