//! One record in one pack, and its order among others.

use std::cmp::Ordering;

use stillwater_format::pack::{Entry, RecordId, RecordKind};

/// Bytes of an encoded row.
pub(super) const ROW_LEN: usize = 45;
/// Packs that one segment can number: three bytes.
pub(super) const PACKS_MAX: usize = 1 << 24;

const NODE_BIT: u32 = 1 << 31;

/// What rows are ordered by: copies of one record are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) id: [u8; 32],
    pub(super) is_node: bool,
}

impl Key {
    pub(super) fn of(record: &RecordId) -> Self {
        Self {
            id: record.id,
            is_node: record.kind == RecordKind::Node,
        }
    }

    /// The first bytes of the id as a number: what blocks are found by.
    pub(super) fn prefix(&self) -> u64 {
        word(&self.id, 0)
    }
}

/// The eight bytes of an id from `from`, as a number in the order of the bytes.
pub(super) fn word(id: &[u8; 32], from: usize) -> u64 {
    let bytes = id.get(from..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A record in a pack that is known by a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) pack: u32,
    /// Packs are at most 1 GiB long.
    pub(super) offset: u32,
    pub(super) stored_len: u32,
    pub(super) plain_len: u32,
}

impl Row {
    /// The row of a trailer's entry; none for salts, which are not looked up.
    pub(super) fn of(entry: &Entry, pack: u32) -> Option<Self> {
        let is_node = match entry.kind {
            RecordKind::Salt => return None,
            RecordKind::Chunk => false,
            RecordKind::Node => true,
        };
        let offset = u32::try_from(entry.offset).ok()?;
        Some(Self {
            key: Key {
                id: entry.id,
                is_node,
            },
            pack,
            offset: (offset < NODE_BIT).then_some(offset)?,
            stored_len: entry.stored_len,
            plain_len: entry.plain_len,
        })
    }

    /// By id, kind and pack.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        // Ids are hashes, so their first bytes nearly always decide.
        let by_prefix = self.key.prefix().cmp(&other.key.prefix());
        by_prefix.then_with(|| (self.key, self.pack).cmp(&(other.key, other.pack)))
    }

    /// The row in 45 bytes; lengths are less than 16 MiB by the format.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let offset = self.offset | if self.key.is_node { NODE_BIT } else { 0 };
        out.extend_from_slice(&self.key.id);
        out.extend_from_slice(&three(self.pack));
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&three(self.stored_len));
        out.extend_from_slice(&three(self.plain_len));
    }

    /// Reads what [`Row::put`] wrote.
    pub(super) fn take(bytes: &[u8; ROW_LEN]) -> Self {
        let (id, rest) = bytes
            .split_first_chunk::<32>()
            .expect("45 bytes begin with 32");
        let [p0, p1, p2, o0, o1, o2, o3, s0, s1, s2, l0, l1, l2] =
            *rest.first_chunk::<13>().expect("45 bytes less 32 are 13");
        let offset = u32::from_le_bytes([o0, o1, o2, o3]);
        Self {
            key: Key {
                id: *id,
                is_node: offset & NODE_BIT != 0,
            },
            pack: u32::from_le_bytes([p0, p1, p2, 0]),
            offset: offset & !NODE_BIT,
            stored_len: u32::from_le_bytes([s0, s1, s2, 0]),
            plain_len: u32::from_le_bytes([l0, l1, l2, 0]),
        }
    }
}

fn three(number: u32) -> [u8; 3] {
    let [a, b, c, _] = number.to_le_bytes();
    [a, b, c]
}
