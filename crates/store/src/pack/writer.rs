//! Writing one pack.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use stillwater_format::node::Node;
use stillwater_format::pack::{
    Header, RecordHeader, RecordId, RecordKind, SALT_LEN, STORED_BYTES_MAX,
};
use stillwater_types::{DatasetId, PackId};

use super::{Draft, FinishedPack, PackHost};
use crate::{Error, SessionKey};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the pack.
    Stored,
    /// It was stored already, here or in another pack, and was left out.
    Known,
}

/// A pack of which every record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackReceipt {
    /// Names it.
    pub pack: PackId,
    /// Its length; zero if there was nothing new and therefore no pack.
    pub stored_bytes: u64,
    /// Records in it.
    pub stored_count: u32,
    /// Records that were stored already.
    pub known_count: u32,
}

/// Writes one pack. Nothing of it counts until [`PackWriter::finish`] returns.
///
/// It holds at most 1 MiB and one record of unwritten bytes, and about 150 bytes for each record. After
/// a failed write or sync it is dead: the kernel may have dropped what it could not write, so the
/// pack must be sent again to a new writer. Dropping it unfinished removes its file.
pub struct PackWriter {
    host: Arc<dyn PackHost>,
    key: SessionKey,
    draft: Draft,
    seen: HashSet<RecordId>,
    counters: HashSet<u32>,
    known_count: u32,
}

impl PackWriter {
    pub(crate) fn begin(
        host: Arc<dyn PackHost>,
        key: SessionKey,
        header: Header,
        tmp: PathBuf,
        salt: &[u8; SALT_LEN],
    ) -> Result<Self, Error> {
        let draft = Draft::begin(&*host, header, tmp)?;
        let mut writer = Self {
            host,
            key,
            draft,
            seen: HashSet::new(),
            counters: HashSet::new(),
            known_count: 0,
        };
        let first = RecordHeader::salt(0, salt);
        writer.draft.append(&*writer.host, &first, salt)?;
        Ok(writer)
    }

    /// Names the pack.
    pub const fn pack(&self) -> PackId {
        self.draft.header().pack
    }

    /// The dataset that its records belong to.
    pub const fn dataset(&self) -> DatasetId {
        self.draft.header().dataset
    }

    /// Checks a record against its hash and adds it, unless it is stored already.
    ///
    /// # Errors
    /// When the record is not what its header says, or cannot be written. The pack is dead then.
    pub fn append(&mut self, header: &RecordHeader, stored: &[u8]) -> Result<Appended, Error> {
        let outcome = self.try_append(header, stored);
        self.die_on_error(outcome)
    }

    /// Makes the pack durable and gives it its name; when it returns, every record is acknowledged.
    ///
    /// # Errors
    /// When that failed, or the session is over. Nothing is acknowledged then.
    pub fn finish(mut self) -> Result<PackReceipt, Error> {
        let outcome = self.try_finish();
        self.die_on_error(outcome)
    }

    fn try_append(&mut self, header: &RecordHeader, stored: &[u8]) -> Result<Appended, Error> {
        let record = RecordId {
            kind: header.kind,
            id: header.id,
        };
        check(header, record, stored)?;
        let fresh_counter =
            header.kind != RecordKind::Chunk || self.counters.insert(header.counter);
        if !fresh_counter {
            let counter = header.counter;
            return Err(Error::malformed(format!(
                "{record} repeats the counter {counter}"
            )));
        }
        let known = self.seen.contains(&record)
            || self.host.is_stored(self.key, self.dataset(), &record)?;
        if known {
            self.known_count = self.known_count.saturating_add(1);
            return Ok(Appended::Known);
        }
        self.draft.append(&*self.host, header, stored)?;
        self.seen.insert(record);
        Ok(Appended::Stored)
    }

    fn try_finish(&mut self) -> Result<PackReceipt, Error> {
        let stored_count = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        let (pack, known_count) = (self.pack(), self.known_count);
        if stored_count == 0 {
            self.abandon();
            return Ok(PackReceipt {
                pack,
                stored_bytes: 0,
                stored_count,
                known_count,
            });
        }
        let (entries, length) = self.draft.sync(&*self.host)?;
        let finished = FinishedPack {
            header: *self.draft.header(),
            key: self.key,
            tmp: self.draft.tmp(),
            entries: &entries,
            length,
        };
        self.host.publish(&finished)?;
        self.draft.revealed();
        Ok(PackReceipt {
            pack,
            stored_bytes: length,
            stored_count,
            known_count,
        })
    }

    fn die_on_error<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            self.host.note_failure(error);
            self.abandon();
        }
        outcome
    }

    /// Closes and removes the file, if the pack is not finished.
    fn abandon(&mut self) {
        self.draft.abandon(self.host.vfs());
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn check(header: &RecordHeader, record: RecordId, stored: &[u8]) -> Result<(), Error> {
    if stored.len() > STORED_BYTES_MAX as usize {
        return Err(Error::malformed(format!("{record} is too long")));
    }
    header.validate().map_err(Error::malformed)?;
    header
        .check(stored)
        .map_err(|_| Error::HashMismatch { record })?;
    match header.kind {
        RecordKind::Salt => Err(Error::malformed("a salt where a chunk or node is expected")),
        RecordKind::Chunk if header.slot != 0 => Err(Error::malformed(format!(
            "{record} names a salt that the pack does not have"
        ))),
        RecordKind::Chunk => Ok(()),
        // A malformed node would make every tree above it unreadable: better refused now.
        RecordKind::Node => Node::decode(stored).map(drop).map_err(Error::malformed),
    }
}
