//! What a volume holds, by the marks of its first bytes.

use crate::source::{BlockSource, bytes};
use crate::{Result, btrfs, ext4, fat, lvm, ntfs, xfs};

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// A file system that can be opened.
    FileSystem(FileSystemKind),
    /// A part of a volume group of LVM2: what is in it are other volumes.
    PhysicalVolume,
    /// Something that is known and cannot be read: what it is.
    Unreadable(&'static str),
    /// Space for swapping.
    Swap,
    /// Nothing that is known here.
    Unknown,
}

/// A family of file systems that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// ext2, ext3, ext4.
    Ext4,
    /// NTFS.
    Ntfs,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT12, FAT16, FAT32.
    Fat,
}

/// Marks of what cannot be read: offset, bytes, what it is.
const UNREADABLE: &[(u64, &[u8], &str)] = &[
    (3, b"-FVE-FS-", "a volume encrypted by BitLocker"),
    (0, b"LUKS\xba\xbe", "a volume encrypted by LUKS"),
    (3, b"ReFS\0\0\0\0", "a ReFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (32, b"NXSB", "an APFS container"),
    (1024, b"H+", "an HFS+ file system"),
    (1024, b"HX", "an HFS+ file system"),
    (
        4096,
        b"\xfc\x4e\x2b\xa9",
        "a member of a Linux software RAID",
    ),
    (0, b"\xfc\x4e\x2b\xa9", "a member of a Linux software RAID"),
    (32769, b"CD001", "a CD image"),
    (0, b"hsqs", "a squashfs file system"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (512, b"PRIVHEAD", "a dynamic disk of Windows (LDM)"),
    (3072, b"PRIVHEAD", "a dynamic disk of Windows (LDM)"),
    (4096, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"),
    (
        0,
        b"\xeb\x48\x90VeraCrypt",
        "a volume encrypted by VeraCrypt",
    ),
];

/// Marks of swap space stand at the end of its first page.
const SWAP_PAGES: [u64; 3] = [4096, 16384, 65536];

/// Whether `mark` stands at `offset`.
pub(crate) fn has(disk: &dyn BlockSource, offset: u64, mark: &[u8]) -> Result<bool> {
    let end = offset + mark.len() as u64;
    Ok(!mark.is_empty() && end <= disk.length() && bytes(disk, offset, mark.len())? == mark)
}

/// Looks at what a volume begins with.
pub(crate) fn contents(disk: &dyn BlockSource) -> Result<Contents> {
    for (offset, mark, what) in UNREADABLE {
        if has(disk, *offset, mark)? {
            return Ok(Contents::Unreadable(what));
        }
    }
    if lvm::is_here(disk)? {
        return Ok(Contents::PhysicalVolume);
    }
    for page in SWAP_PAGES {
        if has(disk, page - 10, b"SWAPSPACE2")? {
            return Ok(Contents::Swap);
        }
    }
    if let Some(kind) = file_system(disk)? {
        return Ok(Contents::FileSystem(kind));
    }
    Ok(Contents::Unknown)
}

fn file_system(disk: &dyn BlockSource) -> Result<Option<FileSystemKind>> {
    if ext4::is_here(disk) {
        return Ok(Some(FileSystemKind::Ext4));
    }
    if xfs::is_here(disk) {
        return Ok(Some(FileSystemKind::Xfs));
    }
    if btrfs::is_here(disk) {
        return Ok(Some(FileSystemKind::Btrfs));
    }
    if ntfs::is_here(disk) {
        return Ok(Some(FileSystemKind::Ntfs));
    }
    if fat::is_here(disk) {
        return Ok(Some(FileSystemKind::Fat));
    }
    Ok(None)
}
