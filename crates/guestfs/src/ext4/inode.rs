//! Inodes.

use crate::file_system::{Kind, Metadata, Time};
use crate::view::View;
use crate::{Error, Loss, Result};

const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;
/// Fields up to here are in every inode.
pub(super) const GOOD_OLD: usize = 128;

pub(super) struct Inode {
    pub number: u64,
    pub mode: u32,
    pub size: u64,
    pub links: u64,
    flags: u32,
    /// The root of the map, a short link's target, or inline data.
    pub map: [u8; 60],
    pub attribute_block: u64,
    owner: u32,
    group: u32,
    times: Times,
    /// All of it.
    pub raw: Vec<u8>,
    /// Where fields end and attributes begin.
    pub fields_end: usize,
}

struct Times {
    accessed: Time,
    modified: Time,
    changed: Time,
    created: Option<Time>,
}

impl Inode {
    pub fn parse(number: u64, raw: Vec<u8>) -> Result<Self> {
        let view = View::new(&raw, "ext4 inode", number);
        let mode = u32::from(view.le16(0)?);
        let mut size = u64::from(view.le32(0x4)?);
        // In directories of old file systems the upper half was an attribute block.
        size |= u64::from(view.le32(0x6c)?) << 32;
        let extra = if raw.len() > GOOD_OLD {
            view.le16(0x80)?
        } else {
            0
        };
        let fields_end = GOOD_OLD + usize::from(extra);
        view.check(fields_end <= raw.len(), "its extra fields go beyond it")?;
        let times = Times::parse(&view.part(0, fields_end)?)?;
        let high = u64::from(view.le16(0x76)?);
        Ok(Self {
            number,
            mode,
            size,
            links: view.le16(0x1a)?.into(),
            flags: view.le32(0x20)?,
            map: view.array(0x28)?,
            attribute_block: u64::from(view.le32(0x68)?) | high << 32,
            owner: u32::from(view.le16(0x2)?) | u32::from(view.le16(0x78)?) << 16,
            group: u32::from(view.le16(0x18)?) | u32::from(view.le16(0x7a)?) << 16,
            times,
            fields_end,
            raw,
        })
    }

    pub const fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            structure: "ext4 inode",
            at: self.number,
            what,
        }
    }

    pub fn kind(&self) -> Result<Kind> {
        Kind::of_mode(self.mode).ok_or_else(|| self.damaged("it is of no kind"))
    }

    pub const fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    pub const fn has_extents(&self) -> bool {
        self.flags & EXTENTS != 0
    }

    pub const fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// The target of a link that stands in the inode.
    pub fn fast_link(&self) -> Option<&[u8]> {
        let short = self.size < 60 && !self.has_extents() && !self.is_inline();
        self.map.get(..self.size as usize).filter(|_| short)
    }

    pub fn metadata(&self) -> Result<Metadata> {
        let kind = self.kind()?;
        let device = matches!(kind, Kind::BlockDevice | Kind::CharacterDevice);
        Ok(Metadata {
            kind,
            size: self.size,
            mode: Some(self.mode & 0o7777),
            owner: Some(self.owner),
            group: Some(self.group),
            links: self.links,
            inode: self.number,
            accessed: Some(self.times.accessed),
            modified: Some(self.times.modified),
            changed: Some(self.times.changed),
            created: self.times.created,
            dos_attributes: None,
            device: if device { Some(self.device()?) } else { None },
            losses: self
                .is_encrypted()
                .then_some(Loss::Encrypted)
                .into_iter()
                .collect(),
        })
    }

    /// The old encoding stands first, the new one behind it where the old is zero.
    fn device(&self) -> Result<(u32, u32)> {
        let view = View::new(&self.map, "ext4 device number", self.number);
        let old = view.le32(0)?;
        if old != 0 {
            return Ok((old >> 8 & 0xff, old & 0xff));
        }
        let new = view.le32(4)?;
        Ok((new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00))
    }
}

impl Times {
    fn parse(view: &View<'_>) -> Result<Self> {
        let time = |at: usize, extra: usize| -> Result<Time> {
            let seconds = i64::from(view.le32(at)?.cast_signed());
            // The field is not there in small inodes.
            let more = view.le32(extra).unwrap_or(0);
            Ok(Time {
                seconds: seconds + (i64::from(more & 3) << 32),
                nanoseconds: (more >> 2).min(999_999_999),
            })
        };
        Ok(Self {
            accessed: time(0x8, 0x8c)?,
            changed: time(0xc, 0x84)?,
            modified: time(0x10, 0x88)?,
            created: view.le32(0x90).ok().map(|_| time(0x90, 0x94)).transpose()?,
        })
    }
}
