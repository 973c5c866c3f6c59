//! The disk's bytes as they are.

use std::fs::File;
use std::io;

use super::{Image, write_at};

/// A sparse file of the disk's length.
pub(crate) struct Raw<'a> {
    file: &'a File,
}

impl<'a> Raw<'a> {
    pub(crate) fn begin(file: &'a File, length: u64) -> io::Result<Self> {
        file.set_len(length)?;
        Ok(Self { file })
    }
}

impl Image for Raw<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_at(self.file, bytes, offset)
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
