//! Copies records to new packs, byte for byte.
//!
//! A chunk is sealed under its salt and its counter, neither of which a copy changes; so a new pack has a
//! slot for each salt of its chunks. Each record is checked against its hash on its way. A copy is as
//! durable as any pack before the index learns of it, and from then on both copies are good.

use std::collections::{HashMap, HashSet};

use stillwater_format::pack::{Header, RECORDS_MAX, RecordHeader, RecordId, SALT_LEN};
use stillwater_types::{DatasetId, PackId};

use crate::index::{Location, PackFacts};
use crate::pack::{Draft, PackHost, StoredRecord};
use crate::store::Inner;
use crate::{Error, durable, layout};

/// A new pack is ended when it is this long: what proxies send is as long.
const PACK_BYTES: u64 = 64 << 20;

/// What became of records that were to be copied.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// The new packs.
    pub(crate) packs: Vec<PackId>,
    /// Records in them.
    pub(crate) record_count: u64,
    /// Bytes of these records.
    pub(crate) bytes: u64,
    /// Records that could not be read well; they stay where they are.
    pub(crate) damaged: Vec<(RecordId, Location)>,
}

/// Copies records of a dataset to new packs, which are durable and indexed when this returns.
///
/// `fence` stands in the new packs' headers: the place in the log that whoever copies has looked at.
/// Damaged records are left out and told of; an error of the storage ends it, and leaves the packs that
/// were finished before.
pub(crate) fn copy_records(
    inner: &Inner,
    dataset: DatasetId,
    fence: u64,
    records: impl IntoIterator<Item = (RecordId, Location)>,
) -> Result<Copied, Error> {
    let mut copier = Copier::new(inner, dataset, fence);
    for (record, at) in records {
        match inner.read_at(record, at) {
            Ok(found) => copier.put(record, &found)?,
            Err(Error::Damaged { .. }) => {
                tracing::error!(%record, pack = %at.pack, "left a damaged record where it is");
                copier.copied.damaged.push((record, at));
            }
            Err(error) => return Err(error),
        }
    }
    copier.finish()
}

/// Copies records one by one, to as many packs as it takes.
pub(crate) struct Copier<'a> {
    inner: &'a Inner,
    dataset: DatasetId,
    fence: u64,
    copied: Copied,
    open: Option<Copy<'a>>,
}

impl<'a> Copier<'a> {
    /// Copies nothing yet, and makes no file before there is something to copy.
    pub(crate) fn new(inner: &'a Inner, dataset: DatasetId, fence: u64) -> Self {
        Self {
            inner,
            dataset,
            fence,
            copied: Copied::default(),
            open: None,
        }
    }

    /// Copies a record that was checked.
    pub(crate) fn put(&mut self, record: RecordId, found: &StoredRecord) -> Result<(), Error> {
        if let Some(full) = self.open.take_if(|copy| copy.is_full(&found.header)) {
            full.finish(&mut self.copied)?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => Copy::begin(self.inner, self.dataset, self.fence)?,
        };
        self.open.insert(open).put(record, found)
    }

    /// Makes the last pack durable as well.
    pub(crate) fn finish(mut self) -> Result<Copied, Error> {
        if let Some(last) = self.open.take() {
            last.finish(&mut self.copied)?;
        }
        Ok(self.copied)
    }
}

/// One new pack. Dropped unfinished, it removes its file.
struct Copy<'a> {
    inner: &'a Inner,
    draft: Draft,
    slots: HashMap<[u8; SALT_LEN], u16>,
    seen: HashSet<RecordId>,
    record_bytes: u64,
}

impl<'a> Copy<'a> {
    fn begin(inner: &'a Inner, dataset: DatasetId, fence: u64) -> Result<Self, Error> {
        let header = Header {
            pack: durable::mint_pack(&*inner.clock, &*inner.rng)?,
            dataset,
            fence,
        };
        let tmp = durable::tmp_path(&*inner.rng)?;
        Ok(Self {
            inner,
            draft: Draft::begin(inner, header, tmp)?,
            slots: HashMap::new(),
            seen: HashSet::new(),
            record_bytes: 0,
        })
    }

    fn is_full(&self, next: &RecordHeader) -> bool {
        // Two entries more, should the next chunk bring its salt.
        let entries = self.seen.len() + self.slots.len() + 2;
        self.draft.len_with(next) > PACK_BYTES
            || entries > RECORDS_MAX
            || self.slots.len() >= usize::from(u16::MAX)
    }

    fn put(&mut self, record: RecordId, found: &StoredRecord) -> Result<(), Error> {
        if !self.seen.insert(record) {
            return Ok(());
        }
        let slot = match &found.salt {
            Some(salt) => self.slot(salt)?,
            None => found.header.slot,
        };
        let header = RecordHeader {
            slot,
            ..found.header
        };
        self.record_bytes += header.record_len();
        self.append(&header, &found.stored)
    }

    /// The slot of a salt; new ones are written before the chunks that name them.
    fn slot(&mut self, salt: &[u8; SALT_LEN]) -> Result<u16, Error> {
        if let Some(slot) = self.slots.get(salt) {
            return Ok(*slot);
        }
        let slot = u16::try_from(self.slots.len()).map_err(Error::malformed)?;
        self.slots.insert(*salt, slot);
        self.append(&RecordHeader::salt(slot, salt), salt)?;
        Ok(slot)
    }

    fn append(&mut self, header: &RecordHeader, stored: &[u8]) -> Result<(), Error> {
        let outcome = self.draft.append(self.inner, header, stored);
        if let Err(error) = &outcome {
            self.inner.note_failure(error);
        }
        outcome
    }

    fn finish(mut self, copied: &mut Copied) -> Result<(), Error> {
        let outcome = self.try_finish(copied);
        if let Err(error) = &outcome {
            self.inner.note_failure(error);
        }
        outcome
    }

    fn try_finish(&mut self, copied: &mut Copied) -> Result<(), Error> {
        let (inner, pack) = (self.inner, self.draft.header().pack);
        let (entries, length) = self.draft.sync(inner)?;
        durable::reveal(&*inner.vfs, self.draft.tmp(), &layout::pack(pack))?;
        self.draft.revealed();
        let facts = PackFacts::of(self.draft.header(), &entries, length, true);
        inner.packs.note(facts.clone());
        inner.index.add(&facts, &entries)?;
        copied.packs.push(pack);
        copied.record_count += self.seen.len() as u64;
        copied.bytes += self.record_bytes;
        let salts = self.slots.len();
        tracing::info!(%pack, records = self.seen.len(), salts, bytes = length, "copied records");
        Ok(())
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        self.draft.abandon(&*self.inner.vfs);
    }
}
