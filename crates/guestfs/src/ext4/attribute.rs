//! Extended attributes: in the inode, in a block of their own, large values in inodes of their own.

use crate::content::whole;
use crate::file_system::Attribute;
use crate::source::bytes;
use crate::view::View;
use crate::{Error, Result};

use super::Ext4;
use super::inode::{GOOD_OLD, Inode};

const MAGIC: u32 = 0xea02_0000;
/// Value of the attribute that holds inline data: it is content.
const INLINE_DATA: &[u8] = b"system.data";

pub(super) fn all(system: &Ext4, inode: &Inode) -> Result<Vec<Attribute>> {
    let mut all = in_inode(system, inode)?;
    if inode.attribute_block != 0 {
        let offset = system.superblock.offset(inode.attribute_block)?;
        let raw = bytes(
            &*system.disk,
            offset,
            system.superblock.block_bytes as usize,
        )?;
        let view = View::new(&raw, "ext4 attribute block", inode.attribute_block);
        view.check(view.le32(0)? == MAGIC, "its magic number is another")?;
        list(system, &view.rest(32)?, &view, &mut all)?;
    }
    all.retain(|attribute| attribute.name != INLINE_DATA);
    Ok(all)
}

/// Those that stand behind the inode's fields.
pub(super) fn in_inode(system: &Ext4, inode: &Inode) -> Result<Vec<Attribute>> {
    let mut all = Vec::new();
    let view = View::new(&inode.raw, "ext4 inode", inode.number);
    let room = inode.fields_end > GOOD_OLD && inode.fields_end + 4 <= inode.raw.len();
    if room && view.le32(inode.fields_end)? == MAGIC {
        let entries = view.rest(inode.fields_end + 4)?;
        list(system, &entries, &entries, &mut all)?;
    }
    Ok(all)
}

/// Entries until four zero bytes; offsets of values count from the beginning of `values`.
fn list(
    system: &Ext4,
    entries: &View<'_>,
    values: &View<'_>,
    to: &mut Vec<Attribute>,
) -> Result<()> {
    let mut at = 0;
    let mut taken = 0;
    while at + 16 <= entries.length() && entries.le32(at)? != 0 {
        let name_length = usize::from(entries.u8(at)?);
        let prefix = prefix(entries.u8(at + 1)?);
        let name = [prefix, entries.bytes(at + 16, name_length)?].concat();
        let size = entries.le32(at + 8)?;
        taken += u64::from(size);
        let limit = system.limits.value_bytes;
        if taken > limit {
            return Err(Error::Limit {
                what: "bytes of extended attributes",
                limit,
            });
        }
        let inode = entries.le32(at + 4)?;
        let value = if inode != 0 {
            elsewhere(system, inode.into(), size)?
        } else {
            let offset = usize::from(entries.le16(at + 2)?);
            values.bytes(offset, size as usize)?.to_vec()
        };
        let value = match prefix {
            b"system.posix_acl_access" | b"system.posix_acl_default" => list_of_access(&value)?,
            _ => value,
        };
        to.push(Attribute { name, value });
        at += (16 + name_length).next_multiple_of(4);
    }
    Ok(())
}

fn elsewhere(system: &Ext4, inode: u64, size: u32) -> Result<Vec<u8>> {
    let inode = system.inode(inode)?;
    if inode.size != u64::from(size) || inode.is_inline() {
        return Err(inode.damaged("it is not the value that an attribute says"));
    }
    whole(
        &system.mapped(&inode)?,
        system.limits.value_bytes,
        "bytes of an extended attribute",
    )
}

const fn prefix(index: u8) -> &'static [u8] {
    match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        8 => b"system.richacl",
        _ => b"",
    }
}

/// From the short form of the disk to the one that programs see.
fn list_of_access(stored: &[u8]) -> Result<Vec<u8>> {
    const NAMED: [u16; 2] = [0x2, 0x8];
    let view = View::new(stored, "ext4 access control list", 0);
    view.check(view.le32(0)? == 1, "it is of another version")?;
    let mut list = 2u32.to_le_bytes().to_vec();
    let mut at = 4;
    while at < view.length() {
        let tag = view.le16(at)?;
        list.extend_from_slice(view.bytes(at, 4)?);
        at += 4;
        let id = if NAMED.contains(&tag) {
            at += 4;
            view.le32(at - 4)?
        } else {
            u32::MAX
        };
        list.extend_from_slice(&id.to_le_bytes());
    }
    Ok(list)
}
