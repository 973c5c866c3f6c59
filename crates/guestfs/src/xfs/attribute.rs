//! Extended attributes: in the inode, or in leaves whose large values have blocks of their own.

use crate::content::{Content, Mapped};
use crate::file_system::Attribute;
use crate::view::View;
use crate::{Error, Result};

use super::Xfs;
use super::inode::{Format, Inode};

const LOCAL: u8 = 0x1;
const ROOT: u8 = 0x2;
const SECURE: u8 = 0x4;
const PARENT: u8 = 0x8;
const INCOMPLETE: u8 = 0x80;

const LEAF: [u16; 2] = [0xfbee, 0x3bee];
const NODE: [u16; 2] = [0xfebe, 0x3ebe];
const LEVEL_MAX: usize = 8;

/// Lists of access are attributes of a name that Irix gave them.
const LISTS: [(&[u8], &[u8]); 2] = [
    (b"SGI_ACL_FILE", b"system.posix_acl_access"),
    (b"SGI_ACL_DEFAULT", b"system.posix_acl_default"),
];

pub(super) fn all(system: &Xfs, inode: &Inode) -> Result<Vec<Attribute>> {
    let Some(fork) = inode.attributes()? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    match fork.format {
        Format::Local => short(&fork.bytes, &mut all)?,
        Format::Extents if fork.extents == 0 => {}
        Format::Extents | Format::Tree => {
            let blocks = Blocks {
                system,
                number: inode.number,
                mapped: system.mapped(inode, &fork, u64::MAX)?,
            };
            blocks.all(&mut all)?;
        }
        Format::Device => return Err(inode.damaged("its attributes are a device")),
    }
    Ok(all)
}

fn short(view: &View<'_>, to: &mut Vec<Attribute>) -> Result<()> {
    let mut at = 4;
    for _ in 0..view.u8(2)? {
        let (name, value) = (usize::from(view.u8(at)?), usize::from(view.u8(at + 1)?));
        let flags = view.u8(at + 2)?;
        let text = view.bytes(at + 3, name)?;
        add(text, view.bytes(at + 3 + name, value)?.to_vec(), flags, to)?;
        at += 3 + name + value;
    }
    Ok(())
}

fn add(name: &[u8], value: Vec<u8>, flags: u8, to: &mut Vec<Attribute>) -> Result<()> {
    if flags & (PARENT | INCOMPLETE) != 0 {
        return Ok(());
    }
    let prefix: &[u8] = match flags & (ROOT | SECURE) {
        0 => b"user.",
        ROOT => b"trusted.",
        _ => b"security.",
    };
    let list = LISTS
        .iter()
        .find(|(stored, _)| prefix == b"trusted." && *stored == name);
    if let Some((_, shown)) = list {
        to.push(Attribute {
            name: shown.to_vec(),
            value: list_of_access(&value)?,
        });
    }
    to.push(Attribute {
        name: [prefix, name].concat(),
        value,
    });
    Ok(())
}

/// From the form of the disk to the one that programs see.
fn list_of_access(stored: &[u8]) -> Result<Vec<u8>> {
    const NAMED: [u32; 2] = [0x2, 0x8];
    let view = View::new(stored, "XFS access control list", 0);
    let mut list = 2u32.to_le_bytes().to_vec();
    for index in 0..view.be32(0)? as usize {
        let entry = view.part(4 + index * 12, 12)?;
        let tag = entry.be32(0)?;
        let id = if NAMED.contains(&tag) {
            entry.be32(4)?
        } else {
            u32::MAX
        };
        list.extend_from_slice(&(tag as u16).to_le_bytes());
        list.extend_from_slice(&entry.be16(8)?.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    Ok(list)
}

/// The blocks of an attribute fork.
struct Blocks<'a> {
    system: &'a Xfs,
    number: u64,
    mapped: Mapped,
}

impl Blocks<'_> {
    fn read(&self, block: u64) -> Result<Vec<u8>> {
        let block_bytes = self.system.superblock.block_bytes;
        let mut raw = vec![0; block_bytes as usize];
        self.mapped
            .read_at(block.saturating_mul(block_bytes), &mut raw)?;
        Ok(raw)
    }

    const fn view<'a>(&self, raw: &'a [u8]) -> View<'a> {
        View::new(raw, "XFS attribute block", self.number)
    }

    /// Down to the first leaf, then along the leaves.
    fn all(&self, to: &mut Vec<Attribute>) -> Result<()> {
        let modern = self.system.superblock.is_modern();
        let (counts, children) = if modern { (56, 64) } else { (12, 16) };
        let mut raw = self.read(0)?;
        for _ in 0..LEVEL_MAX {
            let view = self.view(&raw);
            if !NODE.contains(&view.be16(8)?) {
                break;
            }
            view.check(view.be16(counts)? > 0, "a node is empty")?;
            raw = self.read(view.be32(children + 4)?.into())?;
        }
        let mut taken = 0;
        loop {
            let view = self.view(&raw);
            view.check(LEAF.contains(&view.be16(8)?), "a leaf is none")?;
            self.leaf(&view, to)?;
            let next = view.be32(0)?;
            taken += raw.len() as u64;
            if next == 0 {
                return Ok(());
            }
            self.within(taken)?;
            raw = self.read(next.into())?;
        }
    }

    fn leaf(&self, view: &View<'_>, to: &mut Vec<Attribute>) -> Result<()> {
        let (counts, entries) = if self.system.superblock.is_modern() {
            (56, 80)
        } else {
            (12, 32)
        };
        for index in 0..usize::from(view.be16(counts)?) {
            let entry = view.part(entries + index * 8, 8)?;
            let (place, flags) = (usize::from(entry.be16(4)?), entry.u8(6)?);
            if flags & LOCAL != 0 {
                let (value, name) = (view.be16(place)?.into(), view.u8(place + 2)?.into());
                let value = view.bytes(place + 3 + name, value)?.to_vec();
                add(view.bytes(place + 3, name)?, value, flags, to)?;
            } else if flags & INCOMPLETE == 0 {
                let name = view.bytes(place + 9, view.u8(place + 8)?.into())?;
                let value = self.value(view.be32(place)?.into(), view.be32(place + 4)?.into())?;
                add(name, value, flags, to)?;
            }
        }
        Ok(())
    }

    /// A value in blocks of its own, which in newer ones begin with a header each.
    fn value(&self, first: u64, length: u64) -> Result<Vec<u8>> {
        self.within(length)?;
        let header = if self.system.superblock.is_modern() {
            56
        } else {
            0
        };
        let mut value = Vec::with_capacity(length as usize);
        let mut block = first;
        while (value.len() as u64) < length {
            let raw = self.read(block)?;
            let view = self.view(&raw);
            let magic = header == 0 || view.bytes(0, 4)? == b"XARM";
            view.check(magic, "the block of a value is none")?;
            value.extend_from_slice(view.rest(header)?.all());
            block += 1;
        }
        value.truncate(length as usize);
        Ok(value)
    }

    const fn within(&self, bytes: u64) -> Result<()> {
        let limit = self.system.limits.value_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::Limit {
            what: "bytes of extended attributes",
            limit,
        })
    }
}
