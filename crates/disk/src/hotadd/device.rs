//! One attached disk.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, major, minor, openat};
use rustix::io::Errno;
use stillwater_types::Extent;

use super::HotAddError;
use super::guest::{Expected, Guest};
use super::sysfs::{Address, Found};
use crate::block::{
    Access, BlockFile, BlockReader, BlockRewriter, BlockWriter, LocalBlocks, Unwritten,
};
use crate::{DiskReader, DiskRewriter, DiskWriter, Error, Result};

/// An attached disk that only this process uses on this machine.
///
/// It is to be [released](Device::release) before vSphere detaches it; dropping it leaves it to
/// [`Guest::vacate`].
#[derive(Debug)]
pub struct Device {
    guest: Guest,
    found: Found,
    node: PathBuf,
    identified: bool,
    /// While this is open, nothing else on this machine can mount the disk or take it into a
    /// volume group or an array.
    claim: File,
}

/// Takes a disk for this process alone. None while its node is not made yet.
pub(super) fn claim(
    guest: Guest,
    found: Found,
    expected: Expected,
) -> Result<Option<Device>, HotAddError> {
    let node = guest.dev.join(&found.name);
    let claim = match open(&node, OFlags::RDONLY | OFlags::EXCL) {
        Ok(claim) => claim,
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(Errno::BUSY) => return Err(HotAddError::InUse { device: node }),
        Err(errno) => return Err(kernel(&node, errno)),
    };
    check_node(&claim, &node, &found)?;
    Ok(Some(Device {
        identified: expected.uuid.is_some_and(|uuid| found.ids.contains(&uuid)),
        guest,
        found,
        node,
        claim,
    }))
}

/// The address of a disk that nothing on this machine uses.
pub(super) fn unused(guest: &Guest, found: &Found) -> Result<Address, HotAddError> {
    let node = guest.dev.join(&found.name);
    match open(&node, OFlags::RDONLY | OFlags::EXCL) {
        // A device that answers no more can still be let go.
        Ok(_) | Err(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::IO) => Ok(found.address),
        Err(Errno::BUSY) => Err(HotAddError::InUse { device: node }),
        Err(errno) => Err(kernel(&node, errno)),
    }
}

impl Device {
    /// Its size.
    pub fn length(&self) -> u64 {
        self.found.length
    }

    /// Its node, such as `/dev/sdc`; another disk may have it next.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Whether the device itself said that it is the expected disk. Else only place and size
    /// speak for it.
    pub fn is_identified(&self) -> bool {
        self.identified
    }

    /// A reader of the disk, past the kernel's cache.
    pub async fn reader(&self) -> Result<HotAddReader> {
        let file = self.open(OFlags::RDONLY).await?;
        let blocks = BlockReader::new(file, self.guest.pool.clone());
        Ok(HotAddReader { blocks })
    }

    /// A writer of the disk, past the kernel's cache.
    pub async fn writer(&self, unwritten: Unwritten) -> Result<HotAddWriter> {
        let file = self.open_to_write().await?;
        let blocks = BlockWriter::new(LocalBlocks::new(file, self.guest.pool.clone()), unwritten);
        Ok(HotAddWriter { blocks })
    }

    /// Reads and writes parts of the disk, past the kernel's cache.
    pub async fn rewriter(&self) -> Result<HotAddRewriter> {
        let file = self.open_to_write().await?;
        let blocks = BlockRewriter::new(file, self.guest.pool.clone());
        Ok(HotAddRewriter { blocks })
    }

    /// Has the kernel let the disk go and waits until it has: only then may it be detached.
    /// Readers and writers that still exist fail from then on.
    pub async fn release(self) -> Result<()> {
        let Self {
            guest,
            found,
            claim,
            ..
        } = self;
        drop(claim);
        guest.let_go(found.address).await
    }

    async fn open_to_write(&self) -> Result<BlockFile> {
        if self.found.read_only {
            return Err(Error::HotAdd(HotAddError::ReadOnly {
                device: self.node.clone(),
            }));
        }
        self.open(OFlags::RDWR).await
    }

    async fn open(&self, flags: OFlags) -> Result<BlockFile> {
        let (node, found) = (self.node.clone(), self.found.clone());
        let work = move || {
            let opened = open(&node, flags | OFlags::DIRECT);
            let file = opened.map_err(|errno| kernel(&node, errno))?;
            check_node(&file, &node, &found)?;
            Ok(BlockFile::new(
                file,
                node.display().to_string(),
                found.length,
                Access::Direct,
            ))
        };
        self.guest.blocking(work).await
    }
}

fn open(node: &Path, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened: OwnedFd = openat(CWD, node, flags, Mode::empty())?;
    Ok(opened.into())
}

fn kernel(path: &Path, source: impl Into<io::Error>) -> HotAddError {
    HotAddError::Kernel {
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A node can be any file and belong to any device: it must be the one that was found.
fn check_node(mut file: &File, node: &Path, found: &Found) -> Result<(), HotAddError> {
    let another = |problem| HotAddError::AnotherDisk {
        address: found.address.to_string(),
        problem,
    };
    let stat = fstat(file).map_err(|errno| kernel(node, errno))?;
    let number = (major(stat.st_rdev), minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice || number != found.number {
        return Err(another(format!("{} is no node of it", node.display())));
    }
    let length = file
        .seek(SeekFrom::End(0))
        .map_err(|source| kernel(node, source))?;
    match length == found.length {
        true => Ok(()),
        false => Err(another(format!("its node has {length} bytes"))),
    }
}

/// Reads an attached disk.
///
/// As many requests are under way as the caller makes at once; eight of 1 MiB keep a disk busy.
#[derive(Debug)]
pub struct HotAddReader {
    blocks: BlockReader,
}

#[async_trait]
impl DiskReader for HotAddReader {
    fn length(&self) -> u64 {
        self.blocks.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.blocks.read(extent, |_| Ok(())).await
    }
}

/// Writes an attached disk.
#[derive(Debug)]
pub struct HotAddWriter {
    blocks: BlockWriter<LocalBlocks>,
}

#[async_trait]
impl DiskWriter for HotAddWriter {
    fn length(&self) -> u64 {
        self.blocks.length()
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.blocks.write(offset, bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Box::new(self.blocks).finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Box::new(self.blocks).abort().await
    }
}

/// Reads and writes parts of an attached disk.
#[derive(Debug)]
pub struct HotAddRewriter {
    blocks: BlockRewriter,
}

#[async_trait]
impl DiskRewriter for HotAddRewriter {
    fn length(&self) -> u64 {
        self.blocks.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.blocks.read(extent).await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.blocks.write(offset, bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.blocks.sync().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
