//! The same judgement with all bytes in memory, to be compared with.

use std::collections::{HashMap, HashSet};

use stillwater_format::pack::{
    Entry, FOOTER_LEN, Footer, HEADER_LEN, Header, RECORD_HEADER_LEN, RecordHeader, RecordId,
    RecordKind, SALT_LEN, Trailer, scan,
};
use stillwater_types::PackId;

use super::super::Flaw;
use crate::pack::StoredRecord;

/// The first bytes of a record's header: spares the checksum where there is none.
const RECORD_MAGIC: &[u8; 4] = b"SWRC";

/// What was found in the bytes of a pack.
pub(super) struct Exam<'a> {
    bytes: &'a [u8],
    /// The header, should it be another pack's as well.
    pub(super) header: Option<Header>,
    /// Chunks and nodes that are sound, in the order of offsets.
    pub(super) good: Vec<Entry>,
    /// Chunks and nodes of which something is left, but not all.
    pub(super) bad: Vec<RecordId>,
    pub(super) salts: HashMap<u16, [u8; SALT_LEN]>,
    /// None if the pack is sound.
    pub(super) flaw: Option<Flaw>,
    /// Whether it is of a newer release, and so nothing for this one to judge.
    pub(super) is_newer: bool,
}

impl<'a> Exam<'a> {
    /// Examines all bytes of a pack. The salts that the index knew serve where the pack's are damaged.
    pub(super) fn of(id: PackId, bytes: &'a [u8], known_salts: &[(u16, [u8; SALT_LEN])]) -> Self {
        let header = bytes.first_chunk::<HEADER_LEN>().map(Header::decode);
        let is_newer = matches!(header, Some(Err(stillwater_format::Error::TooNew { .. })));
        let header = header.and_then(Result::ok);
        let mut exam = Self {
            bytes,
            header,
            good: Vec::new(),
            bad: Vec::new(),
            salts: known_salts.iter().copied().collect(),
            flaw: None,
            is_newer,
        };
        if header.is_none_or(|header| header.pack != id) {
            exam.note(Flaw::Header);
        }
        match trailer(bytes) {
            Some((footer, trailer)) => exam.by_table(&footer, trailer),
            None => exam.by_scan(),
        }
        exam.without_unsalted();
        exam
    }

    fn note(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// The trailer fits its hash, so it says what was written, and where.
    fn by_table(&mut self, footer: &Footer, trailer: Trailer) {
        let mut entries = trailer.entries;
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut end = HEADER_LEN as u64;
        for entry in entries {
            if entry.offset != end {
                self.note(Flaw::Table);
            }
            end = entry.offset + RECORD_HEADER_LEN as u64 + u64::from(entry.stored_len);
            if entry.kind == RecordKind::Salt {
                self.salts.insert(entry.slot, entry.id);
            }
            if self.record_at(&entry).is_none() {
                self.note(Flaw::Record);
                self.bad.push(record_id(&entry));
            } else {
                self.good.push(entry);
            }
        }
        if end != footer.trailer_offset {
            self.note(Flaw::Table);
        }
        let content = usize::try_from(footer.trailer_offset).ok();
        let content = content.and_then(|end| self.bytes.get(..end));
        let fits = content.is_some_and(|b| *blake3::hash(b).as_bytes() == trailer.content_hash);
        if !fits {
            self.note(Flaw::Table);
        }
    }

    /// What the records themselves tell.
    fn by_scan(&mut self) {
        self.note(Flaw::Trailer);
        let mut seen = HashSet::new();
        for (entry, _) in scan(self.bytes) {
            if entry.kind == RecordKind::Salt {
                self.salts.insert(entry.slot, entry.id);
            }
            if seen.insert(record_id(&entry)) {
                self.good.push(entry);
            }
        }
        let heads = heads(self.bytes).map(|head| RecordId {
            kind: head.kind,
            id: head.id,
        });
        self.bad = heads.filter(|record| seen.insert(*record)).collect();
    }

    /// A chunk whose salt nobody knows cannot be opened. Salts themselves are no records of their own.
    fn without_unsalted(&mut self) {
        let Self {
            good, bad, salts, ..
        } = self;
        good.retain(|entry| {
            let is_open = entry.kind != RecordKind::Chunk || salts.contains_key(&entry.slot);
            if !is_open {
                bad.push(record_id(entry));
            }
            is_open && entry.kind != RecordKind::Salt
        });
        bad.retain(|record| record.kind != RecordKind::Salt);
    }

    fn record_at(&self, entry: &Entry) -> Option<(RecordHeader, &'a [u8])> {
        let start = usize::try_from(entry.offset).ok()?;
        let (header, rest) = self.bytes.get(start..)?.split_first_chunk()?;
        let header = RecordHeader::decode(header).ok()?;
        let stored = rest.get(..entry.stored_len as usize)?;
        let fits = Entry::of(&header, entry.offset) == *entry && header.check(stored).is_ok();
        fits.then_some((header, stored))
    }

    /// The chunks and nodes that are sound.
    pub(super) fn good(&self) -> impl Iterator<Item = (RecordId, StoredRecord)> {
        self.good.iter().filter_map(|entry| {
            let (header, stored) = self.record_at(entry)?;
            let salt = match entry.kind {
                RecordKind::Chunk => Some(*self.salts.get(&entry.slot)?),
                RecordKind::Node | RecordKind::Salt => None,
            };
            let stored = stored.to_vec();
            let found = StoredRecord {
                header,
                stored,
                salt,
            };
            Some((record_id(entry), found))
        })
    }
}

fn record_id(entry: &Entry) -> RecordId {
    RecordId {
        kind: entry.kind,
        id: entry.id,
    }
}

fn trailer(bytes: &[u8]) -> Option<(Footer, Trailer)> {
    let footer = bytes.last_chunk::<FOOTER_LEN>()?;
    let footer = Footer::decode(footer, bytes.len() as u64).ok()?;
    let start = usize::try_from(footer.trailer_offset).ok()?;
    let trailer = bytes.get(start..)?.get(..footer.trailer_len as usize)?;
    let trailer = Trailer::decode(trailer, &footer).ok()?;
    Some((footer, trailer))
}

/// Every header of a record, whatever became of the bytes behind it.
fn heads(bytes: &[u8]) -> impl Iterator<Item = RecordHeader> {
    let starts = bytes.windows(RECORD_HEADER_LEN);
    starts.filter_map(|window| {
        let header = window.first_chunk()?;
        header
            .starts_with(RECORD_MAGIC)
            .then(|| RecordHeader::decode(header).ok())?
    })
}
