//! Which pack holds a record.
//!
//! An index may lag the packs and must never lead them: entries come in only when their pack is
//! durable. It is a cache that is rebuilt from the trailers of packs.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use stillwater_format::pack::{Entry, RecordId, RecordKind};
use stillwater_types::{DatasetId, PackId};

use crate::Error;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Offset of the record's header in it.
    pub offset: u64,
    /// Length of the stored bytes.
    pub stored_len: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
}

/// What an index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexCount {
    /// Chunks of all datasets.
    pub chunk_count: u64,
    /// Tree nodes of all datasets.
    pub node_count: u64,
}

/// Finds records by dataset and id.
pub trait Index: Send + Sync + 'static {
    /// Where the record is, if it is stored.
    ///
    /// # Errors
    /// When the index itself cannot be read.
    fn find(&self, dataset: DatasetId, record: &RecordId) -> Result<Option<Location>, Error>;

    /// Takes in the records of a pack that is durable.
    ///
    /// # Errors
    /// When the index itself cannot be written.
    fn add(&self, pack: PackId, dataset: DatasetId, entries: &[Entry]) -> Result<(), Error>;

    /// How much it holds.
    fn count(&self) -> IndexCount;
}

/// The index as a table in memory: right for what is fresh, and for repositories of a few TiB.
///
/// It takes about 90 bytes of memory for each record.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    packs: Vec<PackId>,
    datasets: HashMap<DatasetId, HashMap<RecordId, Slot>>,
    count: IndexCount,
}

/// A location in 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    pack: u32,
    /// Packs are shorter than 1 GiB.
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

impl Index for MemoryIndex {
    fn find(&self, dataset: DatasetId, record: &RecordId) -> Result<Option<Location>, Error> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let slot = tables
            .datasets
            .get(&dataset)
            .and_then(|table| table.get(record));
        let location = slot.and_then(|slot| {
            let Slot {
                pack,
                offset,
                stored_len,
                plain_len,
            } = *slot;
            let pack = *tables.packs.get(pack as usize)?;
            Some(Location {
                pack,
                offset: u64::from(offset),
                stored_len,
                plain_len,
            })
        });
        Ok(location)
    }

    fn add(&self, pack: PackId, dataset: DatasetId, entries: &[Entry]) -> Result<(), Error> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let Tables {
            packs,
            datasets,
            count,
        } = &mut *tables;
        let (Ok(number), table) = (
            u32::try_from(packs.len()),
            datasets.entry(dataset).or_default(),
        ) else {
            return Err(Error::malformed("more packs than the index can number"));
        };
        packs.push(pack);
        for entry in entries
            .iter()
            .filter(|entry| entry.kind != RecordKind::Salt)
        {
            let Ok(offset) = u32::try_from(entry.offset) else {
                continue;
            };
            let Entry {
                kind,
                id,
                stored_len,
                plain_len,
                ..
            } = *entry;
            let slot = Slot {
                pack: number,
                offset,
                stored_len,
                plain_len,
            };
            if table.insert(RecordId { kind, id }, slot).is_none() {
                match kind {
                    RecordKind::Chunk => count.chunk_count += 1,
                    RecordKind::Node | RecordKind::Salt => count.node_count += 1,
                }
            }
        }
        Ok(())
    }

    fn count(&self) -> IndexCount {
        self.tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use stillwater_format::pack::Codec;

    use super::*;

    fn entry(kind: RecordKind, id: u8, offset: u32) -> Entry {
        let (stored_len, plain_len) = (offset / 2, offset / 3);
        let (id, offset) = ([id; 32], u64::from(offset));
        Entry {
            kind,
            id,
            offset,
            stored_len,
            plain_len,
            counter: 0,
            slot: 0,
            codec: Codec::Raw,
        }
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_plain_map(
            packs in prop::collection::vec(
                (0..3u8, prop::collection::vec((0..3u8, 0..20u8, 64..1_000_000u32), 0..8)), 0..20),
        ) {
            let index = MemoryIndex::default();
            let mut model = BTreeMap::new();
            for (number, (dataset, records)) in packs.iter().enumerate() {
                let kinds = [RecordKind::Salt, RecordKind::Chunk, RecordKind::Node];
                let entries: Vec<_> = records
                    .iter()
                    .map(|(kind, id, offset)| entry(kinds[usize::from(*kind)], *id, *offset))
                    .collect();
                let pack = PackId::from_bytes([number as u8; 16]);
                index.add(pack, DatasetId::from_bytes([*dataset; 16]), &entries).unwrap();
                for e in entries.iter().filter(|e| e.kind != RecordKind::Salt) {
                    model.insert((*dataset, e.kind, e.id), (pack, e.offset, e.stored_len));
                }
            }
            for dataset in 0..3u8 {
                for kind in [RecordKind::Chunk, RecordKind::Node] {
                    for id in 0..20u8 {
                        let record = RecordId { kind, id: [id; 32] };
                        let found =
                            index.find(DatasetId::from_bytes([dataset; 16]), &record).unwrap();
                        let found = found.map(|at| (at.pack, at.offset, at.stored_len));
                        prop_assert_eq!(found, model.get(&(dataset, kind, [id; 32])).copied());
                    }
                }
            }
            let IndexCount { chunk_count, node_count } = index.count();
            prop_assert_eq!(chunk_count + node_count, model.len() as u64);
        }
    }
}
