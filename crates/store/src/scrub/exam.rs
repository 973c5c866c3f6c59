//! What is sound in the bytes of a pack. They are read in order, and a record is held in memory at a time.

use std::collections::{HashMap, HashSet};
use std::io;

use stillwater_format::pack::{
    Entry, FOOTER_LEN, Footer, HEADER_LEN, Header, RECORD_HEADER_LEN, RecordHeader, RecordId,
    RecordKind, SALT_LEN, Trailer,
};
use stillwater_types::PackId;

use super::load::Bytes;
use crate::pack::StoredRecord;

/// The first bytes of a record's header: spares the checksum where there is none.
const RECORD_MAGIC: &[u8; 4] = b"SWRC";

/// The first thing that is wrong with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its header is damaged or another pack's.
    Header,
    /// Its footer or trailer is damaged.
    Trailer,
    /// A record is damaged.
    Record,
    /// Its records are not those of its table.
    Table,
}

impl Flaw {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Flaw::Header => "header",
            Flaw::Trailer => "trailer",
            Flaw::Record => "record",
            Flaw::Table => "table",
        }
    }
}

/// What was found in the bytes of a pack.
pub(super) struct Exam {
    bytes: Bytes,
    /// The header, should it be another pack's as well.
    pub(super) header: Option<Header>,
    /// Chunks and nodes that are sound, in the order of offsets.
    good: Vec<Entry>,
    /// Chunks and nodes of which something is left, but not all.
    pub(super) bad: Vec<RecordId>,
    salts: HashMap<u16, [u8; SALT_LEN]>,
    /// None if the pack is sound.
    pub(super) flaw: Option<Flaw>,
    /// Whether it is of a newer release, and so nothing for this one to judge.
    pub(super) is_newer: bool,
}

impl Exam {
    /// Examines all bytes of a pack. The salts that the index knew serve where the pack's are damaged.
    ///
    /// # Errors
    /// When reading fails, and not for the medium's fault.
    pub(super) fn of(
        id: PackId,
        mut bytes: Bytes,
        known_salts: &[(u16, [u8; SALT_LEN])],
    ) -> io::Result<Self> {
        let trailer = trailer(&mut bytes)?;
        // It may be much longer than a record.
        bytes.rest();
        let header = bytes.get(0, HEADER_LEN)?.and_then(|b| b.first_chunk());
        let header = header.map(Header::decode);
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
        match trailer {
            Some((footer, trailer)) => exam.by_table(&footer, trailer)?,
            None => exam.by_scan()?,
        }
        exam.without_unsalted();
        exam.bytes.rest();
        Ok(exam)
    }

    fn note(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// The trailer fits its hash, so it says what was written, and where.
    fn by_table(&mut self, footer: &Footer, trailer: Trailer) -> io::Result<()> {
        let mut entries = trailer.entries;
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut end = HEADER_LEN as u64;
        let mut content = blake3::Hasher::new();
        content.update(self.bytes.get(0, HEADER_LEN)?.unwrap_or_default());
        let mut is_gapless = true;
        for entry in entries {
            if entry.offset != end {
                self.note(Flaw::Table);
                is_gapless = false;
            }
            let length = record_len(&entry);
            end = entry.offset + length as u64;
            if entry.kind == RecordKind::Salt {
                self.salts.insert(entry.slot, entry.id);
            }
            let bytes = self.bytes.get(entry.offset, length)?.unwrap_or_default();
            content.update(bytes);
            if record(bytes, &entry).is_none() {
                self.note(Flaw::Record);
                self.bad.push(record_id(&entry));
            } else {
                self.good.push(entry);
            }
        }
        is_gapless &= end == footer.trailer_offset;
        if !is_gapless {
            // What lies between was not read.
            self.bytes.sweep()?;
        }
        if !is_gapless || *content.finalize().as_bytes() != trailer.content_hash {
            self.note(Flaw::Table);
        }
        Ok(())
    }

    /// What the records themselves tell.
    fn by_scan(&mut self) -> io::Result<()> {
        self.note(Flaw::Trailer);
        let mut seen = HashSet::new();
        let mut from = HEADER_LEN as u64;
        while let Some(at) = self.bytes.find(RECORD_MAGIC, from)? {
            let Some(entry) = self.sound_at(at)? else {
                from = at + 1;
                continue;
            };
            from = at + record_len(&entry) as u64;
            if entry.kind == RecordKind::Salt {
                self.salts.insert(entry.slot, entry.id);
            }
            if seen.insert(record_id(&entry)) {
                self.good.push(entry);
            }
        }
        // Every header of a record, whatever became of the bytes behind it.
        let mut from = 0;
        while let Some(at) = self.bytes.find(RECORD_MAGIC, from)? {
            from = at + 1;
            if let Some(RecordHeader { kind, id, .. }) = self.head_at(at)?
                && seen.insert(RecordId { kind, id })
            {
                self.bad.push(RecordId { kind, id });
            }
        }
        Ok(())
    }

    fn head_at(&mut self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let bytes = self.bytes.get(offset, RECORD_HEADER_LEN)?;
        let header = bytes.and_then(|bytes| bytes.first_chunk());
        Ok(header.and_then(|header| RecordHeader::decode(header).ok()))
    }

    /// The record that begins there, if it is whole.
    fn sound_at(&mut self, offset: u64) -> io::Result<Option<Entry>> {
        let Some(header) = self.head_at(offset)? else {
            return Ok(None);
        };
        let entry = Entry::of(&header, offset);
        let bytes = self.bytes.get(offset, record_len(&entry))?;
        let is_sound = bytes.is_some_and(|bytes| record(bytes, &entry).is_some());
        Ok(is_sound.then_some(entry))
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

    /// The chunks and nodes that are sound, by their numbers; each is read again, and none if that does
    /// not go well.
    pub(super) fn good(&mut self, number: usize) -> io::Result<Option<Good>> {
        let Some(entry) = self.good.get(number) else {
            return Ok(None);
        };
        let salt = self.salts.get(&entry.slot).copied();
        let salt = salt.filter(|_| entry.kind == RecordKind::Chunk);
        let bytes = self.bytes.get(entry.offset, record_len(entry))?;
        let found = bytes.and_then(|bytes| record(bytes, entry));
        let found = found.map(|(header, stored)| StoredRecord {
            header,
            stored: stored.to_vec(),
            salt,
        });
        Ok(Some((record_id(entry), found)))
    }

    /// How many chunks and nodes are sound.
    pub(super) const fn good_count(&self) -> usize {
        self.good.len()
    }

    /// How many bytes were read.
    pub(super) const fn length(&self) -> u64 {
        self.bytes.length()
    }

    /// Offsets of the blocks that the medium failed to read.
    pub(super) fn holes(&self) -> Vec<u64> {
        self.bytes.holes()
    }
}

/// A record that was sound, and its bytes unless it is not so any more.
pub(super) type Good = (RecordId, Option<StoredRecord>);

const fn record_len(entry: &Entry) -> usize {
    RECORD_HEADER_LEN + entry.stored_len as usize
}

/// A record in these bytes, if it is the one of the entry and sound.
fn record<'a>(bytes: &'a [u8], entry: &Entry) -> Option<(RecordHeader, &'a [u8])> {
    let (header, stored) = bytes.split_first_chunk()?;
    let header = RecordHeader::decode(header).ok()?;
    let fits = stored.len() == entry.stored_len as usize
        && Entry::of(&header, entry.offset) == *entry
        && header.check(stored).is_ok();
    fits.then_some((header, stored))
}

fn record_id(entry: &Entry) -> RecordId {
    RecordId {
        kind: entry.kind,
        id: entry.id,
    }
}

fn trailer(bytes: &mut Bytes) -> io::Result<Option<(Footer, Trailer)>> {
    let length = bytes.length();
    let Some(at) = length.checked_sub(FOOTER_LEN as u64) else {
        return Ok(None);
    };
    let footer = bytes.get(at, FOOTER_LEN)?.and_then(|b| b.first_chunk());
    let Some(footer) = footer.and_then(|footer| Footer::decode(footer, length).ok()) else {
        return Ok(None);
    };
    let trailer = bytes.get(footer.trailer_offset, footer.trailer_len as usize)?;
    let trailer = trailer.and_then(|bytes| Trailer::decode(bytes, &footer).ok());
    Ok(trailer.map(|trailer| (footer, trailer)))
}

#[cfg(test)]
mod tests;
