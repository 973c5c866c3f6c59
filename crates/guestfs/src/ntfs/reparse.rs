//! Reparse points: links, and what stands for content that is elsewhere.

use crate::file_system::Kind;
use crate::view::{View, wide_bytes};
use crate::{Error, Loss, Result};

const MOUNT_POINT: u32 = 0xa000_0003;
const SYMBOLIC_LINK: u32 = 0xa000_000c;
const LINUX_LINK: u32 = 0xa000_001d;
const LINUX_SOCKET: u32 = 0x8000_0023;
const LINUX_PIPE: u32 = 0x8000_0024;
const LINUX_CHARACTER_DEVICE: u32 = 0x8000_0025;
const LINUX_BLOCK_DEVICE: u32 = 0x8000_0026;
/// Set where the point stands for another named thing.
const SURROGATE: u32 = 0x2000_0000;

/// The link's target is relative to where the link is.
const RELATIVE: u32 = 1;

pub(super) const fn kind(tag: u32, directory: bool) -> Kind {
    match tag {
        MOUNT_POINT | SYMBOLIC_LINK | LINUX_LINK => Kind::Link,
        LINUX_SOCKET => Kind::Socket,
        LINUX_PIPE => Kind::Pipe,
        LINUX_CHARACTER_DEVICE => Kind::CharacterDevice,
        LINUX_BLOCK_DEVICE => Kind::BlockDevice,
        _ if tag & SURROGATE != 0 => Kind::Reparse,
        _ if directory => Kind::Directory,
        _ => Kind::File,
    }
}

/// Whether a file's content is not what stands in it: compact OS, deduplication, a cloud.
pub(super) const fn hides_content(tag: u32) -> bool {
    tag != 0
}

/// Where a link leads.
pub(super) fn target(point: &[u8]) -> Result<Vec<u8>> {
    let view = View::new(point, "NTFS reparse point", 0);
    let tag = view.le32(0)?;
    match tag {
        LINUX_LINK => Ok(view.rest(12)?.all().to_vec()),
        SYMBOLIC_LINK => {
            let mut target = names(&view, 0x14)?;
            if view.le32(0x10)? & RELATIVE != 0 {
                for byte in target.iter_mut().filter(|byte| **byte == b'\\') {
                    *byte = b'/';
                }
            }
            Ok(target)
        }
        MOUNT_POINT => names(&view, 0x10),
        _ => Err(Error::Lost(Loss::Reparse(tag))),
    }
}

/// The name that is shown, or else the one that is used.
fn names(view: &View<'_>, text: usize) -> Result<Vec<u8>> {
    let name = |at: usize| -> Result<Vec<u8>> {
        let (offset, length) = (usize::from(view.le16(at)?), usize::from(view.le16(at + 2)?));
        Ok(wide_bytes(view.bytes(text + offset, length)?))
    };
    let shown = name(0xc)?;
    if !shown.is_empty() {
        return Ok(shown);
    }
    let used = name(0x8)?;
    Ok(used
        .strip_prefix(br"\??\")
        .map(<[u8]>::to_vec)
        .unwrap_or(used))
}
