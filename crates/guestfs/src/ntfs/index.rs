//! Directories: an index of names whose root is in the record and whose blocks are in clusters.
//!
//! The blocks are read in the order in which they lie, not as a tree: each name stands in exactly one entry
//! of one block in use, and a tree that loops has no meaning then.

use crate::content::Content;
use crate::file_system::{Cursor, Entry, Kind, Node, Page};
use crate::view::{View, wide_bytes};
use crate::{Error, Result};

use super::Ntfs;
use super::attribute::{self, BITMAP, File, INDEX_ALLOCATION, INDEX_ROOT};
use super::record::Reference;

/// Name of the index of names.
const NAMES: &[u8] = b"$I30";
const LAST: u16 = 0x2;
/// Names that only DOS sees: the same entry stands there with its long name too.
const DOS: u8 = 2;
/// Records below belong to the file system itself.
const FIRST_USER: u64 = 16;

const DIRECTORY: u32 = 0x1000_0000;
const REPARSE: u32 = 0x400;

/// A page: the root is its first block, the blocks in clusters follow.
pub(super) fn page(system: &Ntfs, file: &File, from: Cursor) -> Result<Page> {
    let root = file.all_of(INDEX_ROOT, NAMES);
    let root = match root.first().map(|root| &root.body) {
        Some(attribute::Body::Resident(root)) => root,
        _ => return Err(Error::NotADirectory),
    };
    let view = View::new(root, "NTFS directory", file.number);
    let mut page = Page::default();
    if from.0 == 0 {
        entries(&view.rest(0x10)?, &mut page)?;
    }
    let block_bytes = view.le32(8)? as usize;
    let known = block_bytes.is_power_of_two() && (512..=65536).contains(&block_bytes);
    view.check(known, "its blocks are of no length that exists")?;
    let parts = file.all_of(INDEX_ALLOCATION, NAMES);
    if parts.is_empty() {
        return Ok(page);
    }
    blocks(
        system,
        file,
        &parts,
        block_bytes,
        from.0.saturating_sub(1),
        &mut page,
    )?;
    Ok(page)
}

/// Adds the names of blocks from number `from` on.
fn blocks(
    system: &Ntfs,
    file: &File,
    parts: &[&attribute::Attribute],
    block_bytes: usize,
    from: u64,
    page: &mut Page,
) -> Result<()> {
    let content = attribute::mapped(system, file.number, parts)?;
    let limit = system.limits.directory_bytes;
    if content.length() > limit {
        return Err(Error::Limit {
            what: "bytes of a directory",
            limit,
        });
    }
    let used = attribute::small(system, file, BITMAP, NAMES)?.unwrap_or_default();
    let count = content.length() / block_bytes as u64;
    let mut block = vec![0; block_bytes];
    for number in from..count {
        if page.entries.len() >= system.limits.page_entries {
            page.next = Some(Cursor(number + 1));
            return Ok(());
        }
        let byte = used.get((number / 8) as usize).copied().unwrap_or(0);
        if byte >> (number % 8) & 1 == 0 {
            continue;
        }
        let offset = number * block_bytes as u64;
        if !system.sealed(&content, offset, &mut block, b"INDX")? {
            return Err(Error::Damaged {
                structure: "NTFS directory",
                at: file.number,
                what: "a block in use is none",
            });
        }
        let view = View::new(&block, "NTFS directory block", number);
        entries(&view.rest(0x18)?, page)?;
    }
    Ok(())
}

/// The entries behind an index header.
fn entries(index: &View<'_>, to: &mut Page) -> Result<()> {
    let mut at = index.le32(0)? as usize;
    loop {
        let (length, flags) = (usize::from(index.le16(at + 8)?), index.le16(at + 0xc)?);
        if flags & LAST != 0 {
            return Ok(());
        }
        index.check(length >= 0x10, "an entry is shorter than its header")?;
        let entry = index.part(at, length)?;
        to.entries.extend(parse(&entry)?);
        at += length;
    }
}

fn parse(entry: &View<'_>) -> Result<Option<Entry>> {
    let reference = Reference(entry.le64(0)?);
    let name = entry.rest(0x10)?;
    if name.u8(0x41)? == DOS || reference.number() < FIRST_USER {
        return Ok(None);
    }
    let length = usize::from(name.u8(0x40)?) * 2;
    let text = wide_bytes(name.bytes(0x42, length)?);
    name.check(
        !text.is_empty() && !text.contains(&b'/') && !text.contains(&0) && text != b"..",
        "a name is none",
    )?;
    let flags = name.le32(0x38)?;
    Ok(Some(Entry {
        name: text,
        node: Node::new(reference.0),
        // What the index notes of reparse points is not always so.
        kind: (flags & (DIRECTORY | REPARSE) == DIRECTORY).then_some(Kind::Directory),
    }))
}
