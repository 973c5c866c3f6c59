//! Fourth stage of a backup: compress, seal, and prove that it comes back.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use stillwater_chunking::{Codec, CodecError, Compressed, Compressor, Decompressor, identify};
use stillwater_format::pack::stored_hash;
use stillwater_repository_api::{Codec as WireCodec, Record, RecordType};
use stillwater_seal::{ChunkContext, IdKey, Stamp};

use super::cut::{Chunk, Node};
use crate::error::{Error, Result};

/// Makes chunks smaller. A trait, so that a test can play a broken compressor.
pub trait Compress: Send {
    /// Encodes a chunk.
    fn compress(&mut self, plain: &[u8]) -> Result<Compressed, CodecError>;
}

impl Compress for Compressor {
    fn compress(&mut self, plain: &[u8]) -> Result<Compressed, CodecError> {
        Compressor::compress(self, plain)
    }
}

/// Makes a compressor for each worker.
pub type NewCompress = Arc<dyn Fn() -> Result<Box<dyn Compress>, CodecError> + Send + Sync>;

/// The compressor that is no test's.
pub fn zstd() -> NewCompress {
    Arc::new(|| Ok(Box::new(Compressor::new()?)))
}

/// Something to be stored, with the right to seal it.
pub(super) enum Job {
    Chunk(Chunk, Stamp),
    Node(Node),
}

/// The contexts that workers take and give back, so that none is made twice.
pub(super) struct Workers {
    id_key: IdKey,
    new_compress: NewCompress,
    idle: Mutex<Vec<Worker>>,
}

struct Worker {
    compressor: Box<dyn Compress>,
    decompressor: Decompressor,
}

impl Workers {
    pub(super) fn new(id_key: IdKey, new_compress: NewCompress) -> Self {
        Self {
            id_key,
            new_compress,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Turns jobs into records. Blocks for as long as that takes.
    pub(super) fn run(&self, jobs: Vec<Job>) -> Result<Vec<Record>> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => Worker {
                compressor: (self.new_compress)()?,
                decompressor: Decompressor::new()?,
            },
        };
        let record = |job| match job {
            Job::Chunk(chunk, stamp) => worker.seal(&self.id_key, &chunk, stamp),
            Job::Node(node) => node_record(&node),
        };
        let records = jobs.into_iter().map(record).collect();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(worker);
        records
    }
}

impl Worker {
    /// Seals a chunk; then opens, decompresses and identifies just what will be sent, so that no
    /// fault of the compressor or of this host's memory can become a stored chunk.
    fn seal(&mut self, id_key: &IdKey, chunk: &Chunk, stamp: Stamp) -> Result<Record> {
        let plain_len = length(chunk.bytes.len())?;
        let compressed = self.compressor.compress(&chunk.bytes)?;
        let codec = compressed.codec;
        let context = ChunkContext {
            codec: codec.number(),
            id: chunk.id,
            plain_len,
        };
        let opener = stamp.opener();
        let sealed = stamp.seal(&context, compressed.bytes)?;
        let failed = Error::SelfCheck {
            offset: chunk.offset,
        };
        let opened = opener.open(&context, sealed.counter, sealed.stored.clone());
        let Ok(opened) = opened else {
            return Err(failed);
        };
        match self.decompressor.decode(codec, &opened, plain_len) {
            Ok(plain) if identify(id_key.expose(), plain) == chunk.id => {}
            Ok(_) | Err(_) => return Err(failed),
        }
        Ok(Record {
            record_type: RecordType::Chunk,
            codec: wire_codec(codec),
            counter: sealed.counter,
            plain_bytes: plain_len,
            id: *chunk.id.as_bytes(),
            stored_hash: stored_hash(&sealed.stored),
            stored: Bytes::from(sealed.stored),
        })
    }
}

fn node_record(node: &Node) -> Result<Record> {
    Ok(Record {
        record_type: RecordType::Node,
        codec: WireCodec::Raw,
        counter: 0,
        plain_bytes: length(node.bytes.len())?,
        id: *node.id.as_bytes(),
        stored_hash: stored_hash(&node.bytes),
        stored: node.bytes.clone(),
    })
}

fn length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| Error::Order("a record is too long"))
}

const fn wire_codec(codec: Codec) -> WireCodec {
    match codec {
        Codec::Raw => WireCodec::Raw,
        Codec::Zstd => WireCodec::Zstd,
    }
}
