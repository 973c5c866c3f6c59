//! What was decided about packs, and what was lost of them.

use stillwater_types::PackId;

use super::{WHAT, bounded};
use crate::bytes::Reader;
use crate::pack::{RecordId, RecordKind};
use crate::{Error, Time};

/// Most packs, or records, that one entry names; longer lists take several entries.
pub const NAMED_MAX: usize = 4096;

/// What becomes of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing reaches them. Sessions that open from here on do not see them; reads still do.
    Condemned,
    /// They were condemned, and are in use after all.
    Spared,
    /// They were condemned for long enough, and leave the index and `packs/`.
    Quarantined,
    /// They are damaged, and leave the index and `packs/`. They are never removed.
    Damaged,
    /// They were quarantined for long enough, and their files go.
    Removed,
}

impl Fate {
    const ALL: [Self; 5] = [
        Self::Condemned,
        Self::Spared,
        Self::Quarantined,
        Self::Damaged,
        Self::Removed,
    ];

    /// Its number in the format.
    pub const fn number(self) -> u8 {
        match self {
            Self::Condemned => 1,
            Self::Spared => 2,
            Self::Quarantined => 3,
            Self::Damaged => 4,
            Self::Removed => 5,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.number() == number)
    }
}

/// A decision about packs. It is on record before anything is done about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of them.
    pub fate: Fate,
    /// The trusted time.
    pub at: Time,
    /// At most [`NAMED_MAX`] packs.
    pub packs: Vec<PackId>,
}

impl Decision {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        bounded("packs of a decision", self.packs.len(), NAMED_MAX)?;
        out.push(self.fate.number());
        out.extend_from_slice(&self.at.millis().to_le_bytes());
        out.extend_from_slice(&count(self.packs.len()));
        for pack in &self.packs {
            out.extend_from_slice(pack.as_bytes());
        }
        Ok(())
    }

    pub(super) fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let fate = Fate::from_number(fields.u8()?).ok_or_else(|| fields.refuse("fate"))?;
        let at = Time::from_millis(fields.u64()?);
        let packs = named(fields, |fields| fields.array().map(PackId::from_bytes))?;
        Ok(Self { fate, at, packs })
    }
}

/// Records that could not be read any more when their pack was found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The damaged pack.
    pub pack: PackId,
    /// The trusted time.
    pub at: Time,
    /// At most [`NAMED_MAX`] chunks and nodes.
    pub records: Vec<RecordId>,
}

impl Loss {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        bounded("records of a loss", self.records.len(), NAMED_MAX)?;
        out.extend_from_slice(self.pack.as_bytes());
        out.extend_from_slice(&self.at.millis().to_le_bytes());
        out.extend_from_slice(&count(self.records.len()));
        for RecordId { kind, id } in &self.records {
            out.push(kind.number());
            out.extend_from_slice(id);
        }
        Ok(())
    }

    pub(super) fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let pack = PackId::from_bytes(fields.array()?);
        let at = Time::from_millis(fields.u64()?);
        let records = named(fields, |fields| {
            let kind = fields.u8()?;
            let id = fields.array()?;
            let kinds = [RecordKind::Chunk, RecordKind::Node];
            let kind = kinds.into_iter().find(|known| known.number() == kind);
            let kind = kind.ok_or_else(|| fields.refuse("record kind"))?;
            Ok(RecordId { kind, id })
        })?;
        Ok(Self { pack, at, records })
    }
}

fn count(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("bounded by the number of names in an entry")
        .to_le_bytes()
}

fn named<T>(
    fields: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = fields.u32()? as usize;
    bounded(WHAT, count, NAMED_MAX)?;
    (0..count).map(|_| one(fields)).collect()
}
