//! Chunks and nodes by id, each proved before it is given out.

use stillwater_chunking::{Decompressor, identify};
use stillwater_format::node::{Node, tree_id};
use stillwater_format::pack::{
    Entry, RECORD_HEADER_LEN, RecordHeader, RecordId, RecordKind, SALT_LEN, STORED_BYTES_MAX,
};
use stillwater_seal::{ChunkContext, DatasetKey, IdKey, Opener, SealError};
use stillwater_types::{ChunkId, DatasetId, TreeId};

use crate::packs::{Packs, Place};

/// Openers that are kept: deriving one takes as long as opening a small chunk.
const OPENERS_MAX: usize = 256;

/// The keys of one dataset.
pub(crate) struct Vault {
    dataset: DatasetId,
    key: DatasetKey,
    id_key: IdKey,
    openers: Vec<Opener>,
}

impl Vault {
    pub(crate) fn new(dataset: DatasetId, key: DatasetKey) -> Result<Self, SealError> {
        let id_key = key.id_key()?;
        let openers = Vec::new();
        Ok(Self {
            dataset,
            key,
            id_key,
            openers,
        })
    }

    pub(crate) const fn dataset(&self) -> DatasetId {
        self.dataset
    }

    pub(crate) const fn key(&self) -> &DatasetKey {
        &self.key
    }

    fn opener(&mut self, salt: [u8; SALT_LEN]) -> Result<Opener, SealError> {
        if let Some(known) = self.openers.iter().find(|known| *known.salt() == salt) {
            return Ok(known.clone());
        }
        let opener = Opener::new(&self.key, self.dataset, salt)?;
        if self.openers.len() >= OPENERS_MAX {
            self.openers.clear();
        }
        self.openers.push(opener.clone());
        Ok(opener)
    }
}

/// Reads a node whose bytes have that id.
pub(crate) fn node(packs: &mut Packs, id: TreeId) -> Option<Node> {
    let record = RecordId::from(id);
    packs.places(&record).into_iter().find_map(|place| {
        let prove = |stored: &[u8]| (tree_id(stored) == id).then(|| Node::decode(stored).ok());
        attempts(packs, place, &record)
            .into_iter()
            .find_map(|entry| prove(&stored(packs, place.pack, &entry)?).flatten())
    })
}

/// Reads a chunk whose plaintext has that id.
pub(crate) fn chunk(
    packs: &mut Packs,
    vault: &mut Vault,
    decompressor: &mut Decompressor,
    id: ChunkId,
    length: u32,
) -> Option<Vec<u8>> {
    let record = RecordId::from(id);
    packs.places(&record).into_iter().find_map(|place| {
        attempts(packs, place, &record)
            .into_iter()
            .find_map(|entry| {
                if entry.plain_len != length {
                    return None;
                }
                let sealed = stored(packs, place.pack, &entry)?;
                let salts = packs.salts(place.pack, entry.slot);
                salts
                    .into_iter()
                    .find_map(|salt| open(vault, decompressor, salt, &entry, sealed.clone(), id))
            })
    })
}

/// What a record's own header says of it and, should that be damaged, what the trailer does.
fn attempts(packs: &mut Packs, place: Place, id: &RecordId) -> Vec<Entry> {
    let header = packs.read(place.pack, place.offset, RECORD_HEADER_LEN).ok();
    let header = header
        .as_deref()
        .and_then(|bytes| bytes.first_chunk::<RECORD_HEADER_LEN>())
        .and_then(|bytes| RecordHeader::decode(bytes).ok());
    match header {
        Some(header) if header.kind == id.kind && header.id == id.id => {
            vec![Entry::of(&header, place.offset)]
        }
        // Another id that begins alike.
        Some(_) => Vec::new(),
        None => packs.entry(place.pack, id).into_iter().collect(),
    }
}

fn stored(packs: &mut Packs, pack: u32, entry: &Entry) -> Option<Vec<u8>> {
    if entry.stored_len > STORED_BYTES_MAX {
        return None;
    }
    let offset = entry.offset.checked_add(RECORD_HEADER_LEN as u64)?;
    packs.read(pack, offset, entry.stored_len as usize).ok()
}

fn open(
    vault: &mut Vault,
    decompressor: &mut Decompressor,
    salt: [u8; SALT_LEN],
    entry: &Entry,
    sealed: Vec<u8>,
    id: ChunkId,
) -> Option<Vec<u8>> {
    debug_assert_eq!(entry.kind, RecordKind::Chunk);
    let context = ChunkContext {
        codec: entry.codec.number(),
        id,
        plain_len: entry.plain_len,
    };
    let opener = vault.opener(salt).ok()?;
    let text = opener.open(&context, entry.counter, sealed).ok()?;
    let plain = decompressor
        .decompress(entry.codec, &text, entry.plain_len)
        .ok()?;
    (identify(vault.id_key.expose(), &plain) == id).then_some(plain)
}
