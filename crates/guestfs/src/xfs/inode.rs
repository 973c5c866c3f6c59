//! Inodes and their forks.

use crate::file_system::{Kind, Metadata, Time};
use crate::view::View;
use crate::{Error, Loss, Result};

const MAGIC: &[u8] = b"IN";
const FLAG_REALTIME: u16 = 0x1;
pub(super) const FLAG2_BIG_TIMES: u64 = 0x8;
pub(super) const FLAG2_MANY_EXTENTS: u64 = 0x10;
/// Times of 64 bits count nanoseconds from the oldest moment that the 32 bits had.
const BIG_EPOCH: i64 = 1 << 31;
const NANOS: u64 = 1_000_000_000;

/// How a fork holds what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Device,
    Local,
    Extents,
    Tree,
}

/// One of the two things that an inode has beside its fields: its content, its attributes.
#[derive(Clone, Copy)]
pub(super) struct Fork<'a> {
    pub format: Format,
    pub bytes: View<'a>,
    /// How many extents there are, when they stand here.
    pub extents: u64,
}

pub(super) struct Inode {
    pub number: u64,
    pub mode: u32,
    pub size: u64,
    flags: u16,
    metadata: Fields,
    raw: Vec<u8>,
}

struct Fields {
    owner: u32,
    group: u32,
    links: u64,
    accessed: Time,
    modified: Time,
    changed: Time,
    created: Option<Time>,
}

/// Where the fields end and the forks begin.
pub(super) const fn core_bytes(version: u8) -> usize {
    if version >= 3 { 176 } else { 100 }
}

impl Inode {
    pub fn parse(number: u64, raw: Vec<u8>) -> Result<Self> {
        let view = View::new(&raw, "XFS inode", number);
        view.check(view.bytes(0, 2)? == MAGIC, "its magic number is another")?;
        Ok(Self {
            number,
            mode: view.be16(2)?.into(),
            size: view.be64(56)?,
            flags: view.be16(90)?,
            metadata: Fields::parse(&view)?,
            raw,
        })
    }

    fn view(&self) -> View<'_> {
        View::new(&self.raw, "XFS inode", self.number)
    }

    pub const fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            structure: "XFS inode",
            at: self.number,
            what,
        }
    }

    pub fn kind(&self) -> Result<Kind> {
        Kind::of_mode(self.mode).ok_or_else(|| self.damaged("it is of no kind"))
    }

    pub const fn is_realtime(&self) -> bool {
        self.flags & FLAG_REALTIME != 0
    }

    /// Where the forks are: the end of the fields, and the attribute fork's distance from it if there is one.
    fn forks(&self) -> Result<(usize, usize)> {
        let view = self.view();
        let core = core_bytes(view.u8(4)?);
        let distance = usize::from(view.u8(82)?) * 8;
        view.check(core + distance <= self.raw.len(), "its forks go beyond it")?;
        Ok((core, distance))
    }

    /// Numbers of extents, which newer inodes have elsewhere.
    fn extents(&self) -> Result<(u64, u64)> {
        let view = self.view();
        if view.u8(4)? >= 3 && view.be64(120)? & FLAG2_MANY_EXTENTS != 0 {
            return Ok((view.be64(24)?, view.be32(76)?.into()));
        }
        Ok((view.be32(76)?.into(), view.be16(80)?.into()))
    }

    pub fn data(&self) -> Result<Fork<'_>> {
        let (core, distance) = self.forks()?;
        let length = if distance == 0 {
            self.raw.len() - core
        } else {
            distance
        };
        let view = self.view();
        Ok(Fork {
            format: self.format(view.u8(5)?)?,
            bytes: view.part(core, length)?,
            extents: self.extents()?.0,
        })
    }

    pub fn attributes(&self) -> Result<Option<Fork<'_>>> {
        let (core, distance) = self.forks()?;
        if distance == 0 {
            return Ok(None);
        }
        let view = self.view();
        Ok(Some(Fork {
            format: self.format(view.u8(83)?)?,
            bytes: view.rest(core + distance)?,
            extents: self.extents()?.1,
        }))
    }

    fn format(&self, number: u8) -> Result<Format> {
        Ok(match number {
            0 => Format::Device,
            1 => Format::Local,
            2 => Format::Extents,
            3 => Format::Tree,
            _ => return Err(self.damaged("a fork is of no format")),
        })
    }

    pub fn metadata(&self) -> Result<Metadata> {
        let kind = self.kind()?;
        let device = matches!(kind, Kind::BlockDevice | Kind::CharacterDevice);
        let realtime = self.is_realtime() && kind == Kind::File;
        let realtime = realtime.then_some(Loss::Elsewhere("a realtime device of XFS"));
        Ok(Metadata {
            kind,
            size: self.size,
            mode: Some(self.mode & 0o7777),
            owner: Some(self.metadata.owner),
            group: Some(self.metadata.group),
            links: self.metadata.links,
            inode: self.number,
            accessed: Some(self.metadata.accessed),
            modified: Some(self.metadata.modified),
            changed: Some(self.metadata.changed),
            created: self.metadata.created,
            dos_attributes: None,
            device: if device { Some(self.device()?) } else { None },
            losses: realtime.into_iter().collect(),
        })
    }

    /// Fourteen bits of major, eighteen of minor number.
    fn device(&self) -> Result<(u32, u32)> {
        let number = self.data()?.bytes.be32(0)?;
        Ok((number >> 18, number & 0x3_ffff))
    }
}

impl Fields {
    fn parse(view: &View<'_>) -> Result<Self> {
        let version = view.u8(4)?;
        let modern = version >= 3;
        let big = modern && view.be64(120)? & FLAG2_BIG_TIMES != 0;
        let time = |at| time(view, at, big);
        Ok(Self {
            owner: view.be32(8)?,
            group: view.be32(12)?,
            links: if version == 1 {
                view.be16(6)?.into()
            } else {
                view.be32(16)?.into()
            },
            accessed: time(32)?,
            modified: time(40)?,
            changed: time(48)?,
            created: if modern { Some(time(144)?) } else { None },
        })
    }
}

fn time(view: &View<'_>, at: usize, big: bool) -> Result<Time> {
    if big {
        let nanos = view.be64(at)?;
        return Ok(Time {
            seconds: (nanos / NANOS).cast_signed() - BIG_EPOCH,
            nanoseconds: (nanos % NANOS) as u32,
        });
    }
    Ok(Time {
        seconds: view.be32(at)?.cast_signed().into(),
        nanoseconds: view.be32(at + 4)?.min(999_999_999),
    })
}
