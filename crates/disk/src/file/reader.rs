//! Reading a flat file on a mounted datastore.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::OFlags;
use stillwater_types::Extent;

use super::beneath::Directory;
use crate::block::{Access, BlockFile, BlockPool, BlockReader, probe_direct};
use crate::folder::descriptor::{DESCRIPTOR_BYTES_MAX, flat_extent};
use crate::path::DatastorePath;
use crate::{DiskReader, Error, Result};

/// Reads a flat disk on a datastore that is mounted here.
///
/// Errors that say the disk is not one flat file, or is not there, leave the other ways to it: the
/// hosts read what this cannot. A file that is written while it is read is an error, since then it
/// is not what a snapshot froze.
#[derive(Debug)]
pub struct FileReader {
    blocks: BlockReader,
    access: Access,
    opened: Stamp,
}

/// What a write changes about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

impl FileReader {
    /// Opens the disk whose descriptor is `path`, such as `[ds] web/web.vmdk`, in the directory
    /// where its datastore is mounted, and checks that it is one flat file of `length` bytes.
    pub async fn open(mount: &Path, path: &str, length: u64, pool: &BlockPool) -> Result<Self> {
        let path = DatastorePath::parse(path)?;
        let name = path.to_string();
        let (mount, inside) = (PathBuf::from(mount), pool.clone());
        let work = move || Self::open_blocking(&mount, &path, length, inside);
        let opened = pool.run(work).await;
        opened.unwrap_or(Err(Error::Stopped { path: name }))
    }

    /// Whether the kernel's cache is passed by.
    pub fn is_direct(&self) -> bool {
        self.access == Access::Direct
    }

    fn open_blocking(
        mount: &Path,
        path: &DatastorePath,
        length: u64,
        pool: BlockPool,
    ) -> Result<Self> {
        let directory = Directory::open(mount)?;
        let flat = flat_file(&directory, path, length)?;
        let (file, access) = open_flat(&directory, &flat)?;
        let opened = stamp(&file, &flat)?;
        expect_length(&flat, length, opened.bytes)?;
        let file = BlockFile::new(file, flat.to_string(), length, access);
        if access == Access::Cached {
            // What was cached in an earlier run may be older than the snapshot.
            file.forget(0, length);
        }
        Ok(Self {
            blocks: BlockReader::new(file, pool),
            access,
            opened,
        })
    }
}

/// The file that has the disk's bytes, as its descriptor says.
fn flat_file(directory: &Directory, path: &DatastorePath, length: u64) -> Result<DatastorePath> {
    let not_flat = |problem| Error::NotFlat {
        path: path.to_string(),
        problem,
    };
    let file = directory.file(path, OFlags::empty())?;
    let mut text = Vec::new();
    let mut head = file.take(DESCRIPTOR_BYTES_MAX as u64 + 1);
    head.read_to_end(&mut text)
        .map_err(|source| open_failed(path, source))?;
    if text.len() > DESCRIPTOR_BYTES_MAX {
        return Err(not_flat("it is larger than any descriptor".into()));
    }
    let text = String::from_utf8_lossy(&text);
    let extent = flat_extent(&text).map_err(not_flat)?;
    let flat = path.beside(&extent.name);
    expect_length(&flat, length, extent.bytes)?;
    Ok(flat)
}

/// Past the cache where the file system can.
fn open_flat(directory: &Directory, flat: &DatastorePath) -> Result<(File, Access)> {
    match directory.file(flat, OFlags::DIRECT) {
        // Some take the flag and refuse each read.
        Ok(file) if probe_direct(&file) => return Ok((file, Access::Direct)),
        Ok(_) => {}
        Err(Error::OpenFailed { source, .. }) if source.kind() == io::ErrorKind::InvalidInput => {}
        Err(error) => return Err(error),
    }
    tracing::debug!(file = %flat, "its file system has no direct reads, so they go through the cache");
    Ok((directory.file(flat, OFlags::empty())?, Access::Cached))
}

fn stamp(file: &File, path: &DatastorePath) -> Result<Stamp> {
    let metadata = file
        .metadata()
        .map_err(|source| open_failed(path, source))?;
    Ok(Stamp::of(&metadata))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn open_failed(path: &DatastorePath, source: io::Error) -> Error {
    Error::OpenFailed {
        path: path.to_string(),
        source,
    }
}

fn expect_length(path: &DatastorePath, expected: u64, found: u64) -> Result<()> {
    match expected == found {
        true => Ok(()),
        false => Err(Error::WrongLength {
            path: path.to_string(),
            expected,
            found,
        }),
    }
}

#[async_trait]
impl DiskReader for FileReader {
    fn length(&self) -> u64 {
        self.blocks.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        let opened = self.opened;
        let unchanged = move |file: &BlockFile| {
            let now = file.file().metadata().map_err(|source| Error::ReadFailed {
                path: file.name().to_owned(),
                extent,
                source,
            })?;
            match Stamp::of(&now) == opened {
                true => Ok(()),
                false => Err(Error::Changed {
                    path: file.name().to_owned(),
                }),
            }
        };
        self.blocks.read(extent, unchanged).await
    }
}
