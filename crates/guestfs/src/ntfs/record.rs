//! Records of the file table, and the marks that tell whether their sectors were written together.

use crate::view::View;
use crate::{Error, Result};

const SECTOR: usize = 512;
const IN_USE: u16 = 0x1;
const DIRECTORY: u16 = 0x2;

/// Names a file: the number of its record, and how often that was given to another file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference(pub u64);

impl Reference {
    /// A record whoever has it.
    pub const fn any(number: u64) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }

    /// Zero stands for any.
    pub const fn sequence(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// Puts the ends of sectors back that marks stand in place of.
pub(super) fn mend(raw: &mut [u8], at: u64) -> Result<()> {
    let view = View::new(raw, "NTFS record", at);
    let (offset, count) = (usize::from(view.le16(4)?), usize::from(view.le16(6)?));
    view.check(
        count == raw.len() / SECTOR + 1,
        "it has too few or too many marks",
    )?;
    let marks = view.bytes(offset, count * 2)?.to_vec();
    let (marks, _) = marks.as_chunks::<2>();
    let Some((mark, ends)) = marks.split_first() else {
        return Ok(());
    };
    for (sector, end) in raw.chunks_exact_mut(SECTOR).zip(ends) {
        let place = sector.last_chunk_mut::<2>();
        match place {
            Some(place) if place == mark => *place = *end,
            _ => {
                return Err(Error::Damaged {
                    structure: "NTFS record",
                    at,
                    what: "its sectors were not written together",
                });
            }
        }
    }
    Ok(())
}

/// What a record's header says.
pub(super) struct Header {
    pub sequence: u16,
    pub is_directory: bool,
    pub attributes: usize,
    pub used: usize,
    pub base: Reference,
}

impl Header {
    /// Of a record that is in use and whose marks were taken out.
    pub fn parse(view: &View<'_>) -> Result<Self> {
        let flags = view.le16(0x16)?;
        if flags & IN_USE == 0 {
            return Err(Error::NotFound);
        }
        Ok(Self {
            sequence: view.le16(0x10)?,
            is_directory: flags & DIRECTORY != 0,
            attributes: view.le16(0x14)?.into(),
            used: view.le32(0x18)? as usize,
            base: Reference(view.le64(0x20)?),
        })
    }
}
