//! Which packs hold a record.
//!
//! An index may lag the packs and must never lead them: entries come in only when their pack is
//! durable. It is a cache that is made anew from the trailers of packs.
//!
//! A record may lie in several packs: two runs sent it at once, a pack was compacted, or the record
//! was sent again because the pack that holds it was condemned. An index knows all copies and orders
//! them: those in packs that are not condemned come first, and of those the one whose pack came last.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use stillwater_format::pack::{Entry, Header, RecordId, RecordKind, SALT_LEN};
use stillwater_types::{DatasetId, PackId};

use crate::Error;

use self::roster::Roster;
use self::row::{Key, Row};
use self::table::Table;

mod fences;
mod filter;
mod merge;
mod plan;
mod roster;
mod row;
mod segment;
mod segments;
mod table;
mod worker;

pub use self::segments::{IndexLimits, IndexSize, SegmentIndex, Upkeep};

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

/// What an index holds. A record that lies in two packs counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexCount {
    /// Chunks of all datasets.
    pub chunk_count: u64,
    /// Tree nodes of all datasets.
    pub node_count: u64,
}

/// What has to be known of a pack without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFacts {
    /// Names it.
    pub pack: PackId,
    /// Whose records it holds.
    pub dataset: DatasetId,
    /// The session that wrote it.
    pub fence: u64,
    /// Its length as a file.
    pub length: u64,
    /// Whether its trailer is good. If not, only the records that a scan found are known.
    pub is_whole: bool,
    /// Chunks in it.
    pub chunk_count: u32,
    /// Tree nodes in it.
    pub node_count: u32,
    /// The slots of its salts, and the salts.
    pub salts: Vec<(u16, [u8; SALT_LEN])>,
}

impl PackFacts {
    /// What a pack's header and table tell.
    pub fn of(header: &Header, entries: &[Entry], length: u64, is_whole: bool) -> Self {
        let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count() as u32;
        let salts = entries
            .iter()
            .filter(|entry| entry.kind == RecordKind::Salt);
        Self {
            pack: header.pack,
            dataset: header.dataset,
            fence: header.fence,
            length,
            is_whole,
            chunk_count: count(RecordKind::Chunk),
            node_count: count(RecordKind::Node),
            salts: salts.map(|entry| (entry.slot, entry.id)).collect(),
        }
    }
}

/// A pack's facts and its table.
pub type PackTable = (PackFacts, Vec<Entry>);

/// Finds records by dataset and id.
pub trait Index: Send + Sync + 'static {
    /// Opens what was kept since the last time, for the packs that are `present`; called once, before
    /// anything else. Gives the facts of the packs that it covers; the others are to be added.
    ///
    /// It does not fail: what cannot be opened is set aside, and nothing is covered.
    fn open(&self, present: &HashSet<PackId>) -> Vec<PackFacts>;

    /// Where the copies of a record are, best first; empty if it is not stored.
    ///
    /// # Errors
    /// When the index was found damaged and the packs that it is made from cannot be read.
    fn copies(&self, dataset: DatasetId, record: &RecordId) -> Result<Vec<Location>, Error>;

    /// Where the best copy of a record is, if it is stored.
    ///
    /// # Errors
    /// As [`Index::copies`].
    fn find(&self, dataset: DatasetId, record: &RecordId) -> Result<Option<Location>, Error> {
        let copies = self.copies(dataset, record)?;
        Ok(copies.first().copied())
    }

    /// Takes in the records of a pack that is durable. Its copies are preferred to earlier ones. A
    /// pack that is known already changes nothing.
    ///
    /// # Errors
    /// When there are more packs than can be numbered.
    fn add(&self, facts: &PackFacts, entries: &[Entry]) -> Result<(), Error>;

    /// Takes in many packs, as [`Index::add`] would one by one.
    ///
    /// # Errors
    /// As [`Index::add`], and the first error of `packs`.
    fn add_all(
        &self,
        packs: &mut dyn Iterator<Item = Result<PackTable, Error>>,
    ) -> Result<(), Error> {
        for pack in packs {
            let (facts, entries) = pack?;
            self.add(&facts, &entries)?;
        }
        Ok(())
    }

    /// Prefers other copies to those in these packs from now on. They may be added later.
    fn condemn(&self, packs: &[PackId]);

    /// Takes back [`Index::condemn`].
    fn spare(&self, packs: &[PackId]);

    /// Lets go of packs: what lies only in them is a miss from now on.
    fn forget(&self, packs: &[PackId]);

    /// How much it holds.
    fn count(&self) -> IndexCount;
}

/// The index as a table in memory: for tests. It takes about 90 bytes of memory for each record.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    inner: RwLock<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    roster: Roster,
    table: Table,
}

impl MemoryIndex {
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn open(&self, _: &HashSet<PackId>) -> Vec<PackFacts> {
        Vec::new()
    }

    fn copies(&self, dataset: DatasetId, record: &RecordId) -> Result<Vec<Location>, Error> {
        let Memory { roster, table } = &*self.read();
        let rows: Vec<Row> = table.copies(Key::of(record)).collect();
        Ok(roster.locations(dataset, &rows))
    }

    fn add(&self, facts: &PackFacts, entries: &[Entry]) -> Result<(), Error> {
        let Memory { roster, table } = &mut *self.write();
        if let Some(number) = roster.enter(facts)? {
            table.add(number, facts.clone(), entries);
        }
        Ok(())
    }

    fn condemn(&self, packs: &[PackId]) {
        self.write().roster.condemn(packs);
    }

    fn spare(&self, packs: &[PackId]) {
        self.write().roster.spare(packs);
    }

    fn forget(&self, packs: &[PackId]) {
        let Memory { roster, table } = &mut *self.write();
        table.forget(&roster.forget(packs));
    }

    fn count(&self) -> IndexCount {
        self.read().roster.count()
    }
}

#[cfg(test)]
mod tests;
