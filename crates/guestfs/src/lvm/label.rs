//! What a physical volume begins with: its label, and the areas that describe its group.

use crate::source::{BlockSource, bytes};
use crate::view::View;
use crate::{Error, Limits, Result};

use super::SECTOR;
use super::text::{Section, parse};

const LABEL: &[u8] = b"LABELONE";
const KIND: &[u8] = b"LVM2 001";
const AREA: &[u8] = b" LVM2 x[5A%r0N*>";
/// The label is in one of these sectors.
const LABEL_SECTORS: u64 = 4;
/// Header of an area of metadata; the text goes round behind it.
const AREA_HEADER: u64 = 512;
/// A description that was taken out of use.
const IGNORED: u32 = 1;
/// No more areas fit in a label's sector.
const AREAS_MAX: usize = 32;

pub(super) struct Label {
    pub id: String,
    areas: Vec<(u64, u64)>,
}

fn sector_of_label(disk: &dyn BlockSource) -> Result<Option<u64>> {
    for sector in 0..LABEL_SECTORS {
        let offset = sector * SECTOR;
        if offset + SECTOR > disk.length() {
            break;
        }
        let raw = bytes(disk, offset, 32)?;
        if raw.starts_with(LABEL) && raw.ends_with(KIND) {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

/// Whether there is the label of a physical volume.
pub(crate) fn is_here(disk: &dyn BlockSource) -> Result<bool> {
    sector_of_label(disk).map(|sector| sector.is_some())
}

impl Label {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let offset =
            sector_of_label(disk)?.ok_or(Error::Unsupported("what has no label of LVM2"))?;
        let raw = bytes(disk, offset, SECTOR as usize)?;
        let view = View::new(&raw, "LVM2 label", offset);
        view.check(
            checksum(view.rest(20)?.all()) == view.le32(16)?,
            "its checksum is another",
        )?;
        let header = view.rest(view.le32(20)? as usize)?;
        let id = String::from_utf8_lossy(header.bytes(0, 32)?).into_owned();
        // Areas of data come first, then those of metadata; zeros end each list.
        let (_, at) = areas(&header, 40)?;
        let (areas, _) = areas(&header, at)?;
        Ok(Self { id, areas })
    }

    /// The name and description of the group, from the first area that holds.
    pub fn group(
        &self,
        disk: &dyn BlockSource,
        limits: &Limits,
    ) -> Result<Option<(String, Section)>> {
        for &(offset, length) in &self.areas {
            if let Some(text) = text_of_area(disk, offset, length, limits)? {
                return parse(&text, limits).map(Some);
            }
        }
        Ok(None)
    }
}

fn areas(view: &View<'_>, mut at: usize) -> Result<(Vec<(u64, u64)>, usize)> {
    let mut all = Vec::new();
    while all.len() < AREAS_MAX {
        let (offset, length) = (view.le64(at)?, view.le64(at + 8)?);
        at += 16;
        if offset == 0 {
            break;
        }
        all.push((offset, length));
    }
    Ok((all, at))
}

/// The text of an area; none if there is none or it does not hold.
fn text_of_area(
    disk: &dyn BlockSource,
    offset: u64,
    length: u64,
    limits: &Limits,
) -> Result<Option<Vec<u8>>> {
    let end = offset.checked_add(length);
    if length <= AREA_HEADER || end.is_none_or(|end| end > disk.length()) {
        return Ok(None);
    }
    let raw = bytes(disk, offset, AREA_HEADER as usize)?;
    let view = View::new(&raw, "LVM2 metadata area", offset);
    if view.bytes(4, 16)? != AREA || checksum(view.rest(4)?.all()) != view.le32(0)? {
        return Ok(None);
    }
    let (at, size) = (view.le64(40)?, view.le64(48)?);
    let (sum, flags) = (view.le32(56)?, view.le32(60)?);
    let inside = (AREA_HEADER..length).contains(&at) && size <= length - AREA_HEADER;
    if at == 0 || flags & IGNORED != 0 || !inside {
        return Ok(None);
    }
    if size > limits.metadata_bytes {
        return Err(Error::Limit {
            what: "bytes of a volume group's description",
            limit: limits.metadata_bytes,
        });
    }
    let straight = size.min(length - at);
    let mut text = bytes(disk, offset + at, straight as usize)?;
    // It goes on behind the header.
    text.extend(bytes(
        disk,
        offset + AREA_HEADER,
        (size - straight) as usize,
    )?);
    Ok((checksum(&text) == sum).then_some(text))
}

/// CRC-32 of IEEE 802.3 with a beginning of LVM's own and no inversion.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
