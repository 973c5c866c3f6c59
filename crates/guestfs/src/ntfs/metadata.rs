//! What NTFS knows of a file.

use crate::file_system::{Kind, Metadata, Time};
use crate::view::View;
use crate::{Loss, Result};

use super::attribute::{DATA, EXTENDED, FILE_NAME, File, STANDARD_INFORMATION};
use super::{Ntfs, reparse};

/// From 1601, where Windows begins, to 1970.
const EPOCH_SECONDS: i64 = 11_644_473_600;
const TICKS: u64 = 10_000_000;

/// Only DOS sees this name: another one of the same file stands beside it.
const DOS: u8 = 2;

pub(super) fn kind(file: &File) -> Result<Kind> {
    Ok(match file.reparse_tag {
        Some(tag) => reparse::kind(tag, file.is_directory),
        None if file.is_directory => Kind::Directory,
        None => Kind::File,
    })
}

pub(super) fn of(system: &Ntfs, file: &File) -> Result<Metadata> {
    let linux = Linux::read(system, file)?;
    let raw = file.resident(STANDARD_INFORMATION).unwrap_or_default();
    let view = View::new(raw, "NTFS standard information", file.number);
    let kind = kind(file)?;
    let content = file.all_of(DATA, b"");
    let content = content.first();
    let mut losses = Vec::new();
    if content.is_some_and(|content| content.is_encrypted()) {
        losses.push(Loss::Encrypted);
    }
    let tag = file.reparse_tag.unwrap_or(0);
    if reparse::hides_content(tag) && kind != Kind::Link {
        losses.push(Loss::Reparse(tag));
    }
    Ok(Metadata {
        kind,
        size: content.map_or(0, |content| content.size()),
        mode: linux.mode.map(|mode| mode & 0o7777),
        owner: linux.owner,
        group: linux.group,
        links: names(file),
        inode: file.number,
        created: Some(time(view.le64(0)?)),
        modified: Some(time(view.le64(8)?)),
        changed: Some(time(view.le64(0x10)?)),
        accessed: Some(time(view.le64(0x18)?)),
        dos_attributes: Some(view.le32(0x20)?),
        device: linux.device,
        losses,
    })
}

/// What the Linux of Windows keeps in extended attributes.
#[derive(Default)]
struct Linux {
    mode: Option<u32>,
    owner: Option<u32>,
    group: Option<u32>,
    device: Option<(u32, u32)>,
}

impl Linux {
    fn read(system: &Ntfs, file: &File) -> Result<Self> {
        let mut this = Self::default();
        let raw = system.value(file, EXTENDED)?.unwrap_or_default();
        let view = View::new(&raw, "NTFS extended attributes", file.number);
        let mut at = 0;
        while at + 8 <= view.length() {
            let name_length = usize::from(view.u8(at + 5)?);
            let name = view.bytes(at + 8, name_length)?;
            let value = view.part(at + 8 + name_length + 1, view.le16(at + 6)?.into())?;
            match name {
                b"$LXMOD" => this.mode = Some(value.le32(0)?),
                b"$LXUID" => this.owner = Some(value.le32(0)?),
                b"$LXGID" => this.group = Some(value.le32(0)?),
                b"$LXDEV" => this.device = Some((value.le32(0)?, value.le32(4)?)),
                _ => {}
            }
            let next = view.le32(at)? as usize;
            if next == 0 {
                break;
            }
            at += next;
        }
        Ok(this)
    }
}

/// The record's own count has the names of DOS in it too.
fn names(file: &File) -> u64 {
    let names = file.all_of(FILE_NAME, b"");
    let long = names.iter().filter(|name| match &name.body {
        super::Body::Resident(value) => value.get(0x41) != Some(&DOS),
        super::Body::Outside(_) => false,
    });
    long.count() as u64
}

const fn time(ticks: u64) -> Time {
    Time {
        seconds: (ticks / TICKS).cast_signed() - EPOCH_SECONDS,
        nanoseconds: (ticks % TICKS) as u32 * 100,
    }
}
