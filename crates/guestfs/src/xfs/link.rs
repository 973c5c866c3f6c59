//! Where symbolic links lead.

use crate::source::bytes;
use crate::view::View;
use crate::{Error, Result};

use super::Xfs;
use super::inode::{Format, Inode};

/// XFS takes no longer ones.
const TARGET_MAX: u64 = 1024;
const MAGIC: &[u8] = b"XSLM";
const HEADER: usize = 56;

pub(super) fn target(system: &Xfs, inode: &Inode) -> Result<Vec<u8>> {
    if inode.size > TARGET_MAX {
        return Err(Error::Limit {
            what: "bytes of a link",
            limit: TARGET_MAX,
        });
    }
    let size = inode.size as usize;
    let fork = inode.data()?;
    if fork.format == Format::Local {
        return Ok(fork.bytes.bytes(0, size)?.to_vec());
    }
    let mapped = system.mapped(inode, &fork, u64::MAX)?;
    let mut target = Vec::with_capacity(size);
    let mut at = 0;
    while target.len() < size {
        let (length, Some(place)) = mapped.pieces.stretch(at) else {
            return Err(inode.damaged("its target ends too early"));
        };
        let length = length.min(TARGET_MAX + HEADER as u64);
        let raw = bytes(&*system.disk, place, length as usize)?;
        let text = text(system, &View::new(&raw, "XFS link", inode.number))?;
        target.extend_from_slice(text);
        at += length;
    }
    target.truncate(size);
    Ok(target)
}

/// Newer ones have a header in front of each piece.
fn text<'a>(system: &Xfs, view: &View<'a>) -> Result<&'a [u8]> {
    if !system.superblock.is_modern() {
        return Ok(view.all());
    }
    view.check(view.bytes(0, 4)? == MAGIC, "its magic number is another")?;
    let count = view.be32(8)? as usize;
    view.check(count > 0, "a piece of it is empty")?;
    view.bytes(HEADER, count)
}
