//! Directories, read from their beginning to their end: the hash tree of a large one looks like empty
//! entries to that.

use crate::content::Content;
use crate::file_system::{Cursor, Entry, Kind, Node, Page};
use crate::view::View;
use crate::{Error, Loss, Result};

use super::Ext4;
use super::inode::Inode;

/// An inline directory begins with its parent's number.
const INLINE_BEGIN: usize = 4;
/// Where what stands in the inode ends and what stands in its attribute begins.
const INLINE_EDGE: usize = 60;

pub(super) fn page(system: &Ext4, inode: &Inode, from: Cursor) -> Result<Page> {
    if inode.is_encrypted() {
        return Err(Error::Lost(Loss::Encrypted));
    }
    let limit = system.limits.directory_bytes;
    if inode.size > limit {
        return Err(Error::Limit {
            what: "bytes of a directory",
            limit,
        });
    }
    if inode.is_inline() {
        return inline(system, inode);
    }
    let content = system.mapped(inode)?;
    let block_bytes = system.superblock.block_bytes;
    let mut page = Page::default();
    let mut at = from.0;
    let mut block = vec![0; block_bytes as usize];
    while at < content.length() {
        let run = content.run_at(at);
        if run.data {
            content.read_at(at, &mut block)?;
            entries(system, inode, &block, &mut page.entries)?;
            at += block_bytes;
        } else {
            // Directories have no holes, but a hostile one may have long ones.
            at = at.saturating_add(run.length).next_multiple_of(block_bytes);
        }
        if page.entries.len() >= system.limits.page_entries && at < content.length() {
            page.next = Some(Cursor(at));
            break;
        }
    }
    Ok(page)
}

fn inline(system: &Ext4, inode: &Inode) -> Result<Page> {
    let data = system.inline(inode)?;
    let mut page = Page::default();
    let edge = data.len().min(INLINE_EDGE);
    for part in [data.get(INLINE_BEGIN..edge), data.get(INLINE_EDGE..)] {
        entries(system, inode, part.unwrap_or_default(), &mut page.entries)?;
    }
    Ok(page)
}

fn entries(system: &Ext4, inode: &Inode, block: &[u8], to: &mut Vec<Entry>) -> Result<()> {
    let view = View::new(block, "ext4 directory", inode.number);
    let mut at = 0;
    while at + 8 <= view.length() {
        let length = match usize::from(view.le16(at + 4)?) {
            // A block of 64 KiB does not fit in the field.
            0 | 0xffff if view.length() > 0xffff => view.length() - at,
            length => length,
        };
        view.check(length >= 8, "an entry is shorter than its header")?;
        let entry = view.part(at, length)?;
        let number = entry.le32(0)?;
        if number != 0 {
            to.extend(parse(system, &entry, number)?);
        }
        at += length;
    }
    Ok(())
}

fn parse(system: &Ext4, entry: &View<'_>, number: u32) -> Result<Option<Entry>> {
    let name = entry.bytes(8, entry.u8(6)?.into())?;
    if matches!(name, b"" | b"." | b"..") {
        return Ok(None);
    }
    entry.check(
        !name.contains(&b'/') && !name.contains(&0),
        "a name has a slash or a zero in it",
    )?;
    let kinds = system.superblock.entries_have_kinds();
    Ok(Some(Entry {
        name: name.to_vec(),
        node: Node::new(number.into()),
        kind: if kinds {
            Kind::of_entry(entry.u8(7)?)
        } else {
            None
        },
    }))
}
