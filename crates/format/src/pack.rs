//! Packs: files of records, readable from either end.
//!
//! ```text
//! header (64) · records (72 + stored each) · trailer (8 + 56 each + 32) · footer (64)
//! ```
//!
//! A [`Builder`] gives the bytes to write in order; [`Footer`] and [`Trailer`] read from the end;
//! [`scan`] reads from the start what is left of a damaged pack.

use stillwater_types::{ChunkId, DatasetId, PackId, TreeId};

use crate::Error;
use crate::bytes::{Reader, checked};
use crate::node::{CHUNK_BYTES_MAX, NODE_BYTES_MAX};

/// Bytes of a pack's header.
pub const HEADER_LEN: usize = 64;
/// Bytes of a record before what is stored.
pub const RECORD_HEADER_LEN: usize = 72;
/// Bytes of a pack's footer.
pub const FOOTER_LEN: usize = 64;
/// Bytes of a salt.
pub const SALT_LEN: usize = 32;
/// Most plain bytes of a record.
pub const PLAIN_BYTES_MAX: u32 = CHUNK_BYTES_MAX;
/// Bytes that sealing adds.
pub const TAG_LEN: u32 = 16;
/// Most stored bytes of a record.
pub const STORED_BYTES_MAX: u32 = PLAIN_BYTES_MAX + TAG_LEN;
/// Most records of a pack: a reader holds all their trailer entries.
pub const RECORDS_MAX: usize = 1 << 18;
/// Most bytes of a pack.
pub const PACK_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 4] = b"SWPK";
const RECORD_MAGIC: &[u8; 4] = b"SWRC";
const TRAILER_MAGIC: &[u8; 4] = b"SWPT";
const FOOTER_MAGIC: &[u8; 4] = b"SWPF";
const VERSION: u16 = 1;
const ENTRY_LEN: usize = 56;
const HASH_LEN: usize = 32;
/// Bytes of a trailer beside its entries.
const TRAILER_FRAME_LEN: usize = 8 + HASH_LEN;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// A salt, under which later chunks of the pack are sealed.
    Salt,
    /// A sealed chunk.
    Chunk,
    /// A node of a disk's tree.
    Node,
}

impl RecordKind {
    pub(crate) const fn number(self) -> u8 {
        match self {
            RecordKind::Salt => 1,
            RecordKind::Chunk => 2,
            RecordKind::Node => 3,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(RecordKind::Salt),
            2 => Some(RecordKind::Chunk),
            3 => Some(RecordKind::Node),
            _ => None,
        }
    }
}

/// How a chunk was made smaller before it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    Raw,
    /// By zstd.
    Zstd,
}

impl Codec {
    /// The codec's number in the format.
    pub const fn number(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// The first 16 bytes of the BLAKE3 of `stored`.
pub fn stored_hash(stored: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(stored);
    let (half, _) = hash
        .as_bytes()
        .split_first_chunk::<16>()
        .expect("32 bytes have a first half");
    *half
}

/// The start of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Names the pack.
    pub pack: PackId,
    /// Whose records it holds.
    pub dataset: DatasetId,
    /// The session that wrote it.
    pub fence: u64,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(self.pack.as_bytes());
        out.extend_from_slice(self.dataset.as_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
        closed(out)
    }

    /// Reads the first 64 bytes of a pack.
    ///
    /// # Errors
    /// When they are no header.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        let what = "pack header";
        let mut fields = Reader::new(what, checked(what, bytes)?);
        fields.magic(MAGIC)?;
        version(what, fields.u16()?)?;
        fields.zeros(2)?;
        let header = Header {
            pack: PackId::from_bytes(fields.array()?),
            dataset: DatasetId::from_bytes(fields.array()?),
            fence: fields.u64()?,
        };
        fields.zeros(12)?;
        fields.finish()?;
        Ok(header)
    }

    /// What the damaged first 64 bytes of the pack `id` said, if their checksum proves it: any damage to what is
    /// known anyway, or one flipped bit elsewhere. A wrong answer has a chance of less than one in ten millions, and makes
    /// records that no key opens.
    pub fn mend(bytes: &[u8; HEADER_LEN], id: PackId) -> Option<Self> {
        let told = &bytes[DATASET_AT..FENCE_AT + 8];
        let flipped = (0..told.len() * 8).map(|bit| {
            let mut told = told.to_vec();
            told[bit / 8] ^= 1 << (bit % 8);
            told
        });
        let mut candidates = std::iter::once(told.to_vec()).chain(flipped);
        candidates.find_map(|told| {
            let (dataset, fence) = told.split_first_chunk()?;
            let header = Header {
                pack: id,
                dataset: DatasetId::from_bytes(*dataset),
                fence: u64::from_le_bytes(*fence.first_chunk()?),
            };
            let whole = header.encode();
            let is_proved = whole[CHECKSUM_AT..] == bytes[CHECKSUM_AT..];
            // The bit may have been one of the checksum's.
            let changed: u32 = whole
                .iter()
                .zip(bytes)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            (is_proved || changed == 1).then_some(header)
        })
    }
}

/// Where the fields of a header lie that nothing else tells.
const DATASET_AT: usize = 24;
const FENCE_AT: usize = 40;
const CHECKSUM_AT: usize = 60;

/// The start of a record; what is stored follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it holds.
    pub kind: RecordKind,
    /// How it was made smaller.
    pub codec: Codec,
    /// The slot of the salt.
    pub slot: u16,
    /// The record counter that made the nonce.
    pub counter: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// Length of the stored bytes.
    pub stored_len: u32,
    /// The salt, the chunk id or the tree id.
    pub id: [u8; 32],
    /// The first half of the BLAKE3 of the stored bytes.
    pub stored_hash: [u8; 16],
}

impl RecordHeader {
    /// The header of a salt record.
    pub fn salt(slot: u16, salt: &[u8; SALT_LEN]) -> Self {
        let (codec, counter) = (Codec::Raw, 0);
        let (plain_len, stored_len) = (SALT_LEN as u32, SALT_LEN as u32);
        let stored_hash = stored_hash(salt);
        let (kind, id) = (RecordKind::Salt, *salt);
        Self {
            kind,
            codec,
            slot,
            counter,
            plain_len,
            stored_len,
            id,
            stored_hash,
        }
    }

    /// The header of a chunk that was sealed under the salt of `slot`.
    ///
    /// # Errors
    /// When a length is beyond its bound.
    pub fn chunk(
        id: ChunkId,
        codec: Codec,
        slot: u16,
        counter: u32,
        plain_len: u32,
        stored: &[u8],
    ) -> Result<Self, Error> {
        let (kind, id, stored_len) = (RecordKind::Chunk, *id.as_bytes(), length(stored)?);
        let stored_hash = stored_hash(stored);
        let header = Self {
            kind,
            codec,
            slot,
            counter,
            plain_len,
            stored_len,
            id,
            stored_hash,
        };
        header.validate().map(|()| header)
    }

    /// The header of a node with these bytes.
    ///
    /// # Errors
    /// When there are more bytes than a node can have.
    pub fn node(stored: &[u8]) -> Result<Self, Error> {
        let (codec, slot, counter) = (Codec::Raw, 0, 0);
        let stored_len = length(stored)?;
        let header = Self {
            kind: RecordKind::Node,
            codec,
            slot,
            counter,
            plain_len: stored_len,
            stored_len,
            id: *blake3::hash(stored).as_bytes(),
            stored_hash: stored_hash(stored),
        };
        header.validate().map(|()| header)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut out = Vec::with_capacity(RECORD_HEADER_LEN);
        out.extend_from_slice(RECORD_MAGIC);
        out.extend_from_slice(&[self.kind.number(), self.codec.number()]);
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.stored_hash);
        closed(out)
    }

    /// Reads a record's header.
    ///
    /// # Errors
    /// When the bytes are none, or a field has a value that no record has.
    pub fn decode(bytes: &[u8; RECORD_HEADER_LEN]) -> Result<Self, Error> {
        let what = "record header";
        let mut fields = Reader::new(what, checked(what, bytes)?);
        fields.magic(RECORD_MAGIC)?;
        let kind = RecordKind::of(fields.u8()?).ok_or_else(|| fields.refuse("type"))?;
        let codec = Codec::of(fields.u8()?).ok_or_else(|| fields.refuse("codec"))?;
        let header = RecordHeader {
            kind,
            codec,
            slot: fields.u16()?,
            counter: fields.u32()?,
            plain_len: fields.u32()?,
            stored_len: fields.u32()?,
            id: fields.array()?,
            stored_hash: fields.array()?,
        };
        fields.finish()?;
        header.validate()?;
        Ok(header)
    }

    /// Checks what is stored against the header: length, stored hash, and for salts and nodes the id.
    ///
    /// # Errors
    /// When the bytes are not those that the header was made for.
    pub fn check(&self, stored: &[u8]) -> Result<(), Error> {
        let id_fits = match self.kind {
            RecordKind::Salt => stored == self.id,
            RecordKind::Chunk => true,
            RecordKind::Node => *blake3::hash(stored).as_bytes() == self.id,
        };
        let fits = stored.len() == self.stored_len as usize
            && stored_hash(stored) == self.stored_hash
            && id_fits;
        if fits {
            Ok(())
        } else {
            Err(Error::Checksum { what: "record" })
        }
    }

    /// Bytes of the record with its header.
    pub const fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + self.stored_len as u64
    }

    /// Checks that the fields have values that the format allows.
    ///
    /// # Errors
    /// When one does not.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |field| {
            Err(Error::Field {
                what: "record header",
                field,
            })
        };
        let plain = self.codec == Codec::Raw && self.counter == 0;
        let (fields_fit, lengths_fit) = match self.kind {
            RecordKind::Salt => (
                plain,
                self.stored_len == SALT_LEN as u32 && self.plain_len == self.stored_len,
            ),
            RecordKind::Chunk => (true, self.chunk_lengths_fit()),
            RecordKind::Node => (
                plain && self.slot == 0,
                self.plain_len == self.stored_len
                    && (1..=NODE_BYTES_MAX as u32).contains(&self.stored_len),
            ),
        };
        if !fields_fit {
            return refuse("codec, slot or counter");
        }
        if lengths_fit {
            Ok(())
        } else {
            refuse("length")
        }
    }

    const fn chunk_lengths_fit(&self) -> bool {
        let plain_fits = 1 <= self.plain_len && self.plain_len <= PLAIN_BYTES_MAX;
        plain_fits && self.stored_len > TAG_LEN && self.stored_len <= self.plain_len + TAG_LEN
    }
}

/// Where a record is; a line of the trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub kind: RecordKind,
    /// The salt, the chunk id or the tree id.
    pub id: [u8; 32],
    /// Offset of the record's header in the pack.
    pub offset: u64,
    /// Length of the stored bytes.
    pub stored_len: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// The record counter that made the nonce.
    pub counter: u32,
    /// The slot of the salt.
    pub slot: u16,
    /// How it was made smaller.
    pub codec: Codec,
}

impl Entry {
    /// The entry of a record at `offset`.
    pub const fn of(header: &RecordHeader, offset: u64) -> Self {
        let RecordHeader {
            kind,
            codec,
            slot,
            counter,
            plain_len,
            stored_len,
            id,
            ..
        } = *header;
        Self {
            kind,
            id,
            offset,
            stored_len,
            plain_len,
            counter,
            slot,
            codec,
        }
    }

    fn key(&self) -> (RecordKind, [u8; 32]) {
        (self.kind, self.id)
    }

    fn end(&self) -> u64 {
        self.offset
            .saturating_add(RECORD_HEADER_LEN as u64 + u64::from(self.stored_len))
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
        out.extend_from_slice(&self.counter.to_le_bytes());
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&[self.kind.number(), self.codec.number()]);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let id = fields.array()?;
        let offset = fields.u64()?;
        let (stored_len, plain_len) = (fields.u32()?, fields.u32()?);
        let (counter, slot) = (fields.u32()?, fields.u16()?);
        let kind = RecordKind::of(fields.u8()?).ok_or_else(|| fields.refuse("type"))?;
        let codec = Codec::of(fields.u8()?).ok_or_else(|| fields.refuse("codec"))?;
        Ok(Entry {
            kind,
            id,
            offset,
            stored_len,
            plain_len,
            counter,
            slot,
            codec,
        })
    }
}

/// Gives the bytes of a pack in the order in which they are written.
#[derive(Debug)]
pub struct Builder {
    entries: Vec<Entry>,
    content: blake3::Hasher,
    offset: u64,
}

impl Builder {
    /// Begins a pack; the bytes are its header.
    pub fn begin(header: &Header) -> (Self, [u8; HEADER_LEN]) {
        let bytes = header.encode();
        let mut content = blake3::Hasher::new();
        content.update(&bytes);
        (
            Self {
                entries: Vec::new(),
                content,
                offset: HEADER_LEN as u64,
            },
            bytes,
        )
    }

    /// Adds a record. The bytes are its header; the caller writes them and then `stored`.
    ///
    /// The caller sees to it that an id comes once and that [`RecordHeader::check`] holds.
    ///
    /// # Errors
    /// When the pack would grow beyond its bounds.
    pub fn append(
        &mut self,
        header: &RecordHeader,
        stored: &[u8],
    ) -> Result<[u8; RECORD_HEADER_LEN], Error> {
        let grown = self.len_with(header);
        if self.entries.len() >= RECORDS_MAX || grown > PACK_BYTES_MAX {
            return Err(Error::TooLong {
                what: "pack",
                found: grown,
                limit: PACK_BYTES_MAX,
            });
        }
        let bytes = header.encode();
        self.content.update(&bytes);
        self.content.update(stored);
        self.entries.push(Entry::of(header, self.offset));
        self.offset += header.record_len();
        Ok(bytes)
    }

    /// How long the finished pack would be with one record more.
    pub fn len_with(&self, header: &RecordHeader) -> u64 {
        let trailer = TRAILER_FRAME_LEN + (self.entries.len() + 1) * ENTRY_LEN;
        self.offset + header.record_len() + (trailer + FOOTER_LEN) as u64
    }

    /// How many bytes were given out so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Ends the pack: trailer and footer, and the entries in the trailer's order.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Entry>) {
        self.entries.sort_unstable_by_key(Entry::key);
        let trailer = encode_trailer(&self.entries, self.content.finalize());
        let footer = Footer {
            trailer_offset: self.offset,
            trailer_len: trailer.len() as u32,
            count: self.entries.len() as u32,
            trailer_hash: *blake3::hash(&trailer).as_bytes(),
        };
        (
            [trailer.as_slice(), &footer.encode()].concat(),
            self.entries,
        )
    }
}

fn encode_trailer(entries: &[Entry], content: blake3::Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(TRAILER_FRAME_LEN + entries.len() * ENTRY_LEN);
    out.extend_from_slice(TRAILER_MAGIC);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| entry.put(&mut out));
    out.extend_from_slice(content.as_bytes());
    out
}

/// The end of a pack: where its trailer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the trailer begins.
    pub trailer_offset: u64,
    /// Its length.
    pub trailer_len: u32,
    /// How many entries it has.
    pub count: u32,
    trailer_hash: [u8; 32],
}

impl Footer {
    fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.extend_from_slice(FOOTER_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.trailer_offset.to_le_bytes());
        out.extend_from_slice(&self.trailer_len.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.trailer_hash);
        out.extend_from_slice(&[0; 4]);
        closed(out)
    }

    /// Reads the last 64 bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// When they are no footer, or one of a file of another length.
    pub fn decode(bytes: &[u8; FOOTER_LEN], file_len: u64) -> Result<Self, Error> {
        let what = "pack footer";
        let mut fields = Reader::new(what, checked(what, bytes)?);
        fields.magic(FOOTER_MAGIC)?;
        version(what, fields.u16()?)?;
        fields.zeros(2)?;
        let footer = Footer {
            trailer_offset: fields.u64()?,
            trailer_len: fields.u32()?,
            count: fields.u32()?,
            trailer_hash: fields.array()?,
        };
        fields.zeros(4)?;
        let count = footer.count as usize;
        let trailer_len = TRAILER_FRAME_LEN.saturating_add(count.saturating_mul(ENTRY_LEN));
        let end = footer
            .trailer_offset
            .checked_add((trailer_len + FOOTER_LEN) as u64);
        let fits = count <= RECORDS_MAX
            && footer.trailer_len as usize == trailer_len
            && footer.trailer_offset >= HEADER_LEN as u64
            && end == Some(file_len)
            && file_len <= PACK_BYTES_MAX;
        if fits {
            Ok(footer)
        } else {
            Err(fields.refuse("length"))
        }
    }
}

/// The table of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Every record, ascending by kind and id.
    pub entries: Vec<Entry>,
    /// BLAKE3 of everything before the trailer.
    pub content_hash: [u8; 32],
}

impl Trailer {
    /// Reads the trailer that `footer` tells of.
    ///
    /// # Errors
    /// When the bytes are not that trailer, or an entry lies outside the pack.
    pub fn decode(bytes: &[u8], footer: &Footer) -> Result<Self, Error> {
        let what = "pack trailer";
        if *blake3::hash(bytes).as_bytes() != footer.trailer_hash {
            return Err(Error::Checksum { what });
        }
        let mut fields = Reader::new(what, bytes);
        fields.magic(TRAILER_MAGIC)?;
        let count = fields.u32()?;
        if count != footer.count {
            return Err(fields.refuse("count"));
        }
        // The footer was checked: there are at most `RECORDS_MAX`.
        let entries = (0..count)
            .map(|_| Entry::take(&mut fields))
            .collect::<Result<Vec<_>, _>>()?;
        let content_hash = fields.array()?;
        let ascend = entries
            .iter()
            .zip(entries.iter().skip(1))
            .all(|(a, b)| a.key() < b.key());
        let inside = |entry: &Entry| {
            entry.offset >= HEADER_LEN as u64 && entry.end() <= footer.trailer_offset
        };
        if !ascend || !entries.iter().all(inside) {
            return Err(fields.refuse("entry"));
        }
        fields.finish()?;
        Ok(Trailer {
            entries,
            content_hash,
        })
    }
}

/// Finds the whole, undamaged records of a pack by reading it forwards, whatever its trailer says.
///
/// `bytes` is the pack from its first byte; a record that reaches beyond it is not whole.
pub fn scan(bytes: &[u8]) -> impl Iterator<Item = (Entry, &[u8])> {
    let mut at = HEADER_LEN;
    std::iter::from_fn(move || {
        loop {
            let (skip, found) = next_magic(bytes, at)?;
            match record_at(found) {
                Some((header, stored)) => {
                    let offset = (at + skip) as u64;
                    at += skip + RECORD_HEADER_LEN + stored.len();
                    return Some((Entry::of(&header, offset), stored));
                }
                None => at += skip + 1,
            }
        }
    })
}

fn next_magic(bytes: &[u8], from: usize) -> Option<(usize, &[u8])> {
    let rest = bytes.get(from..)?;
    let skip = rest
        .windows(RECORD_MAGIC.len())
        .position(|window| window == RECORD_MAGIC)?;
    rest.get(skip..).map(|found| (skip, found))
}

fn record_at(bytes: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_LEN>()?;
    let header = RecordHeader::decode(header).ok()?;
    let stored = rest.get(..header.stored_len as usize)?;
    header.check(stored).ok().map(|()| (header, stored))
}

fn version(what: &'static str, found: u16) -> Result<(), Error> {
    if found > VERSION {
        return Err(Error::TooNew {
            what,
            found,
            known: VERSION,
        });
    }
    if found == VERSION {
        Ok(())
    } else {
        Err(Error::Field {
            what,
            field: "version",
        })
    }
}

fn length(stored: &[u8]) -> Result<u32, Error> {
    let (found, limit) = (stored.len() as u64, u64::from(STORED_BYTES_MAX));
    u32::try_from(found)
        .ok()
        .filter(|length| *length <= STORED_BYTES_MAX)
        .ok_or(Error::TooLong {
            what: "record",
            found,
            limit,
        })
}

/// Closes a fixed structure with its CRC-32C.
fn closed<const N: usize>(mut out: Vec<u8>) -> [u8; N] {
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.try_into()
        .expect("the fields add up to the length of the structure")
}

impl From<TreeId> for RecordId {
    fn from(id: TreeId) -> Self {
        Self {
            kind: RecordKind::Node,
            id: *id.as_bytes(),
        }
    }
}

impl From<ChunkId> for RecordId {
    fn from(id: ChunkId) -> Self {
        Self {
            kind: RecordKind::Chunk,
            id: *id.as_bytes(),
        }
    }
}

/// What a record is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// What it holds.
    pub kind: RecordKind,
    /// Chunk id or tree id.
    pub id: [u8; 32],
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.kind {
            RecordKind::Salt => "salt",
            RecordKind::Chunk => "chunk",
            RecordKind::Node => "node",
        };
        write!(f, "{word} {}", blake3::Hash::from_bytes(self.id).to_hex())
    }
}

#[cfg(test)]
mod tests;
