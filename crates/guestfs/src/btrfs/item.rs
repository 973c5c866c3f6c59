//! Items of inodes and of names.

use crate::file_system::{Kind, Metadata, Time};
use crate::view::View;
use crate::{Error, Result};

use super::tree::Key;

pub(super) struct Inode {
    number: u64,
    mode: u32,
    pub size: u64,
    metadata: Metadata,
}

impl Inode {
    pub fn parse(number: u64, item: &View<'_>) -> Result<Self> {
        let mode = item.le32(52)?;
        let size = item.le64(16)?;
        let device = item.le64(56)?;
        let time = |at: usize| -> Result<Option<Time>> {
            Ok(Some(Time {
                seconds: item.le64(at)?.cast_signed(),
                nanoseconds: item.le32(at + 8)?.min(999_999_999),
            }))
        };
        let kind = Kind::of_mode(mode).unwrap_or(Kind::File);
        let is_device = matches!(kind, Kind::BlockDevice | Kind::CharacterDevice);
        let metadata = Metadata {
            kind,
            size,
            mode: Some(mode & 0o7777),
            owner: Some(item.le32(44)?),
            group: Some(item.le32(48)?),
            links: item.le32(40)?.into(),
            inode: number,
            accessed: time(112)?,
            changed: time(124)?,
            modified: time(136)?,
            created: time(148)?,
            dos_attributes: None,
            device: is_device.then_some(((device >> 20) as u32, (device & 0xf_ffff) as u32)),
            losses: Vec::new(),
        };
        Ok(Self {
            number,
            mode,
            size,
            metadata,
        })
    }

    pub const fn kind(&self) -> Result<Kind> {
        match Kind::of_mode(self.mode) {
            Some(kind) => Ok(kind),
            None => Err(Error::Damaged {
                structure: "btrfs inode",
                at: self.number,
                what: "it is of no kind",
            }),
        }
    }

    pub fn metadata(self) -> Result<Metadata> {
        self.kind()?;
        Ok(self.metadata)
    }
}

/// A name, and what it stands for: a node, or an attribute's value.
pub(super) struct DirectoryItem<'a> {
    pub location: Key,
    pub kind: u8,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> DirectoryItem<'a> {
    /// The first of an item, and what follows it there.
    pub fn parse(item: &View<'a>) -> Result<(Self, View<'a>)> {
        let (value, name) = (usize::from(item.le16(25)?), usize::from(item.le16(27)?));
        let this = Self {
            location: Key::parse(item)?,
            kind: item.u8(29)?,
            name: item.bytes(30, name)?,
            value: item.bytes(30 + name, value)?,
        };
        Ok((this, item.rest(30 + name + value)?))
    }
}
