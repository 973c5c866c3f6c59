//! Bytes in ascending order, gathered into blocks of one size; blocks of zeros are left out.

use std::io;

/// Gathers one block at a time.
pub(super) struct Blocks {
    index: u64,
    bytes: Vec<u8>,
}

impl Blocks {
    /// Gathers blocks of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self {
            index: 0,
            bytes: vec![0; size],
        }
    }

    /// Takes bytes of the disk; offsets ascend. `put` gets the index and bytes of each block that is
    /// whole and not all zeros.
    pub fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut put: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let size = self.bytes.len() as u64;
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let index = offset / size;
            if index < self.index {
                let text = "a disk is written in ascending order only";
                return Err(io::Error::other(text));
            }
            if index > self.index {
                self.flush(&mut put)?;
                self.index = index;
            }
            let within = (offset % size) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(self.bytes.len() - within));
            if let Some(place) = self.bytes.get_mut(within..within + now.len()) {
                place.copy_from_slice(now);
            }
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Gives out the last block.
    pub fn flush(&mut self, put: &mut impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.bytes.iter().any(|byte| *byte != 0) {
            put(self.index, &self.bytes)?;
            self.bytes.fill(0);
        }
        Ok(())
    }
}
