//! Directories: names in the inode, or in data blocks. The hash trees behind them are not needed to list.

use crate::content::Content;
use crate::file_system::{Cursor, Entry, Kind, Node, Page};
use crate::view::View;
use crate::{Error, Result};

use super::Xfs;
use super::inode::{Format, Inode};

/// Data blocks end here; hash trees and free lists follow.
const DATA_END: u64 = 32 << 30;
const FREE: u16 = 0xffff;

pub(super) fn page(system: &Xfs, inode: &Inode, from: Cursor) -> Result<Page> {
    let fork = inode.data()?;
    if fork.format == Format::Local {
        return short(system, &fork.bytes);
    }
    let limit = system.limits.directory_bytes.min(DATA_END);
    if inode.size > limit {
        return Err(Error::Limit {
            what: "bytes of a directory",
            limit,
        });
    }
    let content = system.mapped(inode, &fork, inode.size)?;
    let block_bytes = system.superblock.directory_bytes;
    let mut block = vec![0; block_bytes as usize];
    let mut page = Page::default();
    let mut at = from.0;
    while at < content.length() {
        let run = content.run_at(at);
        if run.data {
            let count = content.read_at(at, &mut block)?;
            let data = block.get(..count).unwrap_or_default();
            entries(
                system,
                &View::new(data, "XFS directory", inode.number),
                &mut page,
            )?;
            at += block_bytes;
        } else {
            at = at.saturating_add(run.length).next_multiple_of(block_bytes);
        }
        if page.entries.len() >= system.limits.page_entries && at < content.length() {
            page.next = Some(Cursor(at));
            break;
        }
    }
    Ok(page)
}

/// A directory in its inode. Numbers have eight bytes if one of them needs more than four.
fn short(system: &Xfs, view: &View<'_>) -> Result<Page> {
    let (count, wide) = (view.u8(0)?, view.u8(1)? > 0);
    let number_bytes = if wide { 8 } else { 4 };
    let kind_bytes = usize::from(system.superblock.entries_have_kinds);
    let mut at = 2 + number_bytes;
    let mut page = Page::default();
    // Where numbers are wide, the first count says how many entries there are all the same.
    for _ in 0..count {
        let length = usize::from(view.u8(at)?);
        let name = view.bytes(at + 3, length)?;
        let behind = at + 3 + length;
        let kind = if kind_bytes == 1 {
            Kind::of_entry(view.u8(behind)?)
        } else {
            None
        };
        let number = if wide {
            view.be64(behind + kind_bytes)?
        } else {
            view.be32(behind + kind_bytes)?.into()
        };
        page.entries.extend(entry(view, name, number, kind)?);
        at = behind + kind_bytes + number_bytes;
    }
    Ok(page)
}

/// The entries of one data block.
fn entries(system: &Xfs, view: &View<'_>, to: &mut Page) -> Result<()> {
    let (header, single) = match view.bytes(0, 4)? {
        b"XDB3" => (64, true),
        b"XDD3" => (64, false),
        b"XD2B" => (16, true),
        b"XD2D" => (16, false),
        _ => return Err(view.damaged("a data block is none")),
    };
    let end = if single {
        end_of_data(view)?
    } else {
        view.length()
    };
    let kind_bytes = usize::from(system.superblock.entries_have_kinds);
    let mut at = header;
    while at < end {
        if view.be16(at)? == FREE {
            let length = usize::from(view.be16(at + 2)?);
            view.check(length >= 8, "a gap is too short")?;
            at += length;
            continue;
        }
        let length = usize::from(view.u8(at + 8)?);
        let name = view.bytes(at + 9, length)?;
        let kind = if kind_bytes == 1 {
            Kind::of_entry(view.u8(at + 9 + length)?)
        } else {
            None
        };
        to.entries.extend(entry(view, name, view.be64(at)?, kind)?);
        at += (9 + length + kind_bytes + 2).next_multiple_of(8);
    }
    Ok(())
}

/// A directory of one block has its hash list at the end of that block.
fn end_of_data(view: &View<'_>) -> Result<usize> {
    let tail = view.length().saturating_sub(8);
    let hashes = view.be32(tail)? as usize;
    let end = hashes
        .checked_mul(8)
        .and_then(|bytes| tail.checked_sub(bytes));
    end.ok_or_else(|| view.damaged("its hash list is longer than it"))
}

fn entry(view: &View<'_>, name: &[u8], number: u64, kind: Option<Kind>) -> Result<Option<Entry>> {
    if matches!(name, b"." | b"..") {
        return Ok(None);
    }
    view.check(
        !name.is_empty() && !name.contains(&b'/') && !name.contains(&0),
        "a name is empty or has a slash or a zero in it",
    )?;
    Ok(Some(Entry {
        name: name.to_vec(),
        node: Node::new(number),
        kind,
    }))
}
