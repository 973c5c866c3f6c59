//! Images of disks: what hypervisors and `qemu-img` read.

use std::fs::File;
use std::io;

use crate::Error;
use crate::output::Draft;

mod raw;
mod vmdk;

pub(crate) use raw::Raw;
pub(crate) use vmdk::Vmdk;

/// The form of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// The disk's bytes, sparse.
    Raw,
    /// A VMDK that grows (`monolithicSparse`).
    Vmdk,
}

impl ImageFormat {
    /// The suffix of its files.
    pub const fn suffix(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Vmdk => "vmdk",
        }
    }

    pub(crate) fn begin(self, draft: &Draft, length: u64) -> Result<Box<dyn Image + '_>, Error> {
        let name = draft
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let file = draft.file();
        let image: io::Result<Box<dyn Image>> = match self {
            ImageFormat::Raw => Raw::begin(file, length).map(|image| Box::new(image) as _),
            ImageFormat::Vmdk => {
                vmdk::check(length)?;
                Vmdk::begin(file, length, &name).map(|image| Box::new(image) as _)
            }
        };
        image.map_err(Error::io("write", draft.path()))
    }
}

/// A disk that is written. What is not written is zeros.
pub(crate) trait Image {
    /// Writes some bytes of the disk.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes what the image needs beside the bytes.
    fn finish(&mut self) -> io::Result<()>;
}

fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}
