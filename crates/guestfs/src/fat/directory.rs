//! Directories: entries of 32 bytes, with longer names in entries before them.

use crate::content::{Content, Mapped};
use crate::file_system::{Cursor, Entry, Kind, Metadata, Node, Page, Time};
use crate::view::View;
use crate::{Error, Limits, Result};

use super::name::Long;

const SLOT: u64 = 32;
const END: u8 = 0;
const FREE: u8 = 0xe5;

const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG: u8 = 0x0f;
const LONG_MASK: u8 = 0x3f;

pub(super) const fn damaged(at: u64, what: &'static str) -> Error {
    Error::Damaged {
        structure: "FAT directory entry",
        at,
        what,
    }
}

/// An entry with a short name.
pub(super) struct Slot {
    pub short: [u8; 11],
    attributes: u8,
    /// Which parts of the short name were in small letters.
    pub case: u8,
    pub cluster: u64,
    pub size: u32,
    at: u64,
    created: Option<Time>,
    modified: Option<Time>,
    accessed: Option<Time>,
}

impl Slot {
    pub fn parse(raw: &[u8], at: u64) -> Result<Self> {
        let view = View::new(raw, "FAT directory entry", at);
        let tenths = u32::from(view.u8(0xd)?);
        let created = time(view.le16(0x10)?, view.le16(0xe)?).map(|time| Time {
            seconds: time.seconds + i64::from(tenths / 100),
            nanoseconds: tenths % 100 * 10_000_000,
        });
        Ok(Self {
            short: view.array(0)?,
            attributes: view.u8(0xb)?,
            case: view.u8(0xc)?,
            cluster: u64::from(view.le16(0x14)?) << 16 | u64::from(view.le16(0x1a)?),
            size: view.le32(0x1c)?,
            at,
            created,
            modified: time(view.le16(0x18)?, view.le16(0x16)?),
            accessed: time(view.le16(0x12)?, 0),
        })
    }

    pub const fn is_directory(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    pub const fn kind(&self) -> Kind {
        if self.is_directory() {
            Kind::Directory
        } else {
            Kind::File
        }
    }

    pub fn metadata(&self) -> Metadata {
        Metadata {
            kind: self.kind(),
            size: if self.is_directory() {
                0
            } else {
                self.size.into()
            },
            inode: self.at,
            accessed: self.accessed,
            modified: self.modified,
            created: self.created,
            dos_attributes: Some(self.attributes.into()),
            ..metadata_of_root()
        }
    }
}

pub(super) const fn metadata_of_root() -> Metadata {
    Metadata {
        kind: Kind::Directory,
        size: 0,
        mode: None,
        owner: None,
        group: None,
        links: 1,
        inode: 0,
        accessed: None,
        modified: None,
        changed: None,
        created: None,
        dos_attributes: Some(DIRECTORY as u32),
        device: None,
        losses: Vec::new(),
    }
}

/// Ends only behind a short name, so that no long one is cut.
pub(super) fn page(content: &Mapped, from: Cursor, limits: &Limits) -> Result<Page> {
    let mut page = Page::default();
    let mut long = Long::default();
    let mut at = from.0;
    let mut raw = [0; SLOT as usize];
    while content.read_at(at, &mut raw)? == raw.len() {
        let (_, place) = content.pieces.stretch(at);
        let place = place.ok_or_else(|| damaged(at, "it is nowhere"))?;
        at += SLOT;
        let view = View::new(&raw, "FAT directory entry", place);
        let (first, attributes) = (view.u8(0)?, view.u8(0xb)?);
        match first {
            END => return Ok(page),
            FREE => long = Long::default(),
            _ if attributes & LONG_MASK == LONG => long.add(&raw)?,
            _ => {
                let slot = Slot::parse(&raw, place)?;
                page.entries
                    .extend(entry(&slot, std::mem::take(&mut long), place)?);
                if page.entries.len() >= limits.page_entries {
                    page.next = Some(Cursor(at));
                    return Ok(page);
                }
            }
        }
    }
    Ok(page)
}

fn entry(slot: &Slot, long: Long, place: u64) -> Result<Option<Entry>> {
    if slot.attributes & VOLUME != 0 {
        return Ok(None);
    }
    let name = long
        .name(&slot.short)
        .unwrap_or_else(|| super::name::short(slot));
    if matches!(name.as_slice(), b"." | b"..") {
        return Ok(None);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(damaged(place, "its name is none"));
    }
    Ok(Some(Entry {
        name,
        node: Node::new(place),
        kind: Some(slot.kind()),
    }))
}

/// From the guest's clock, as if it were UTC; none where the date is none.
fn time(date: u16, clock: u16) -> Option<Time> {
    let (year, month, day) = (
        i64::from(date >> 9) + 1980,
        i64::from(date >> 5 & 15),
        i64::from(date & 31),
    );
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (hours, minutes) = (i64::from(clock >> 11), i64::from(clock >> 5 & 63));
    let seconds = i64::from(clock & 31) * 2;
    Some(Time {
        seconds: days(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds,
        nanoseconds: 0,
    })
}

/// Days since 1970: years begin in March, so that a leap day is a year's last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970_over_leap_years() {
        let check = |year: i64, month, day, expected| assert_eq!(days(year, month, day), expected);
        check(1970, 1, 1, 0);
        check(1980, 1, 1, 3652);
        check(2000, 2, 29, 11_016);
        check(2000, 3, 1, 11_017);
        check(2107, 12, 31, 50_402);
    }
}
