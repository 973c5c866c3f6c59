//! A stored record becomes a chunk's bytes, or is refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use stillwater_chunking::{Codec, Decompressor, identify};
use stillwater_repository_api::{Codec as WireCodec, SaltedRecord};
use stillwater_seal::{ChunkContext, DatasetKey, IdKey, Opener, TAG_LEN};
use stillwater_types::{ChunkId, DatasetId};

use crate::error::{Error, Result};

/// Salts whose ciphers are kept: those of as many packs.
const SALTS: usize = 256;

/// Opens chunks of one dataset, and keeps what it derived and allocated for the next ones.
pub(super) struct ChunkOpener {
    key: DatasetKey,
    dataset: DatasetId,
    id_key: IdKey,
    by_salt: HashMap<[u8; 32], Opener>,
    decompressor: Decompressor,
    encoded: Vec<u8>,
}

impl ChunkOpener {
    fn new(key: &DatasetKey, dataset: DatasetId) -> Result<Self> {
        Ok(Self {
            key: key.clone(),
            dataset,
            id_key: key.id_key()?,
            by_salt: HashMap::new(),
            decompressor: Decompressor::new()?,
            encoded: Vec::new(),
        })
    }

    /// Opens, decompresses and identifies.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub(super) fn open(&mut self, salted: &SaltedRecord) -> Result<(ChunkId, Bytes)> {
        let SaltedRecord { record, salt } = salted;
        let id = ChunkId::from_bytes(record.id);
        let wrong = |problem: &str| Error::WrongChunk {
            id,
            problem: problem.to_owned(),
        };
        let salt = salt.ok_or_else(|| wrong("it came without its salt"))?;
        if record.stored.len() > record.plain_bytes as usize + TAG_LEN {
            return Err(wrong("it has more bytes than it can"));
        }
        let codec = codec(record.codec);
        let context = ChunkContext {
            codec: codec.number(),
            id,
            plain_len: record.plain_bytes,
        };
        self.encoded.clear();
        self.encoded.extend_from_slice(&record.stored);
        let opener = cipher(&mut self.by_salt, &self.key, self.dataset, salt)?;
        opener
            .open_in_place(&context, record.counter, &mut self.encoded)
            .map_err(|_| wrong("it was changed, or sealed with another key"))?;
        let bytes = self
            .decompressor
            .decompress(codec, &self.encoded, record.plain_bytes)
            .map_err(|error| wrong(&error.to_string()))?;
        if identify(self.id_key.expose(), &bytes) != id {
            return Err(wrong("its bytes have another id"));
        }
        Ok((id, bytes.into()))
    }
}

/// The cipher of a salt, which costs a derivation to make.
fn cipher<'a>(
    by_salt: &'a mut HashMap<[u8; 32], Opener>,
    key: &DatasetKey,
    dataset: DatasetId,
    salt: [u8; 32],
) -> Result<&'a Opener> {
    if by_salt.len() >= SALTS && !by_salt.contains_key(&salt) {
        by_salt.clear();
    }
    Ok(match by_salt.entry(salt) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(Opener::new(key, dataset, salt)?)
        }
    })
}

const fn codec(codec: WireCodec) -> Codec {
    match codec {
        WireCodec::Raw => Codec::Raw,
        WireCodec::Zstd => Codec::Zstd,
    }
}

/// Openers of one stored disk that wait for work; at most as many as batches are opened at a time.
#[derive(Clone, Default)]
pub struct ChunkOpeners(Arc<Mutex<Vec<ChunkOpener>>>);

impl ChunkOpeners {
    /// Works with one that waits, or with a new one.
    pub(super) fn with<T>(
        &self,
        key: &DatasetKey,
        dataset: DatasetId,
        work: impl FnOnce(&mut ChunkOpener) -> Result<T>,
    ) -> Result<T> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut opener = match waiting {
            Some(opener) => opener,
            None => ChunkOpener::new(key, dataset)?,
        };
        let done = work(&mut opener);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(opener);
        done
    }
}
