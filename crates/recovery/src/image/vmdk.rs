//! VMDK with one sparse extent, as VMware's "Virtual Disk Format 5.0" describes it.
//!
//! ```text
//! header (512) · descriptor (20 sectors) · redundant tables · tables · grains of 64 KiB
//! ```
//!
//! The tables are as long as the disk makes them and stand in front; a grain gets its place at the end of
//! the file when something in it is not zero, so that pieces may come in any order.

use std::fs::File;
use std::io;

use super::{Image, write_at};
use crate::Error;

const SECTOR: u64 = 512;
const GRAIN: u64 = 64 << 10;
const GRAIN_SECTORS: u64 = GRAIN / SECTOR;
/// Entries of one grain table.
const TABLE_ENTRIES: u64 = 512;
const TABLE_SECTORS: u64 = TABLE_ENTRIES * 4 / SECTOR;
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
const TABLES_AT: u64 = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;
/// What sector numbers of 32 bits can reach, less what the tables of such a disk take.
pub(crate) const LENGTH_MAX: u64 = (2 << 40) - (1 << 30);
/// Line ends can be checked, and there is a second set of tables.
const FLAGS: u32 = 3;

/// Refuses a disk that sector numbers of 32 bits may not reach.
pub(super) const fn check(length: u64) -> Result<(), Error> {
    if length <= LENGTH_MAX {
        return Ok(());
    }
    let limit = LENGTH_MAX;
    Err(Error::ImageTooLong { length, limit })
}

/// A VMDK in the making.
pub(crate) struct Vmdk<'a> {
    file: &'a File,
    shape: Shape,
    /// The sector of each grain; zero if it is zeros.
    grains: Vec<u32>,
    next: u64,
}

/// Where things are, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    capacity: u64,
    tables: u64,
    directory_len: u64,
}

impl Shape {
    fn of(length: u64) -> Self {
        let capacity = length.div_ceil(SECTOR);
        let tables = capacity.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES);
        let directory_len = (tables * 4).div_ceil(SECTOR);
        Self {
            capacity,
            tables,
            directory_len,
        }
    }

    /// Where the directory of one of the two sets is.
    const fn directory(&self, set: u64) -> u64 {
        TABLES_AT + set * (self.directory_len + self.tables * TABLE_SECTORS)
    }

    const fn grains_at(&self) -> u64 {
        self.directory(2).next_multiple_of(GRAIN_SECTORS)
    }
}

impl<'a> Vmdk<'a> {
    pub(crate) fn begin(file: &'a File, length: u64, name: &str) -> io::Result<Self> {
        let shape = Shape::of(length);
        let count = usize::try_from(length.div_ceil(GRAIN)).map_err(io::Error::other)?;
        write_at(file, &header(&shape), 0)?;
        write_at(
            file,
            descriptor(&shape, name).as_bytes(),
            DESCRIPTOR_AT * SECTOR,
        )?;
        let next = shape.grains_at();
        file.set_len(next * SECTOR)?;
        Ok(Self {
            file,
            shape,
            grains: vec![0; count],
            next,
        })
    }

    /// Writes bytes that lie in one grain.
    fn write_part(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let beyond = || io::Error::from(io::ErrorKind::InvalidInput);
        let index = usize::try_from(offset / GRAIN).map_err(io::Error::other)?;
        let place = self.grains.get_mut(index).ok_or_else(beyond)?;
        if *place == 0 {
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            *place = u32::try_from(self.next).map_err(io::Error::other)?;
            self.next += GRAIN_SECTORS;
        }
        write_at(
            self.file,
            bytes,
            u64::from(*place) * SECTOR + offset % GRAIN,
        )
    }

    fn write_tables(&self, set: u64) -> io::Result<()> {
        let directory = self.shape.directory(set);
        let first = directory + self.shape.directory_len;
        let tables = (0..self.shape.tables).map(|table| (first + table * TABLE_SECTORS) as u32);
        write_at(self.file, &words(tables), directory * SECTOR)?;
        let mut at = first * SECTOR;
        for part in self.grains.chunks(1 << 16) {
            write_at(self.file, &words(part.iter().copied()), at)?;
            at += part.len() as u64 * 4;
        }
        Ok(())
    }
}

impl Image for Vmdk<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let room = usize::try_from(GRAIN - at % GRAIN).map_err(io::Error::other)?;
            let (part, behind) = rest.split_at(room.min(rest.len()));
            self.write_part(at, part)?;
            at += part.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_tables(0)?;
        self.write_tables(1)?;
        // The last grain may have been written in part.
        self.file.set_len(self.next * SECTOR)
    }
}

fn words(words: impl Iterator<Item = u32>) -> Vec<u8> {
    words.flat_map(u32::to_le_bytes).collect()
}

fn header(shape: &Shape) -> Vec<u8> {
    let mut out = Vec::with_capacity(SECTOR as usize);
    out.extend_from_slice(b"KDMV");
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&FLAGS.to_le_bytes());
    for sectors in [
        shape.capacity,
        GRAIN_SECTORS,
        DESCRIPTOR_AT,
        DESCRIPTOR_SECTORS,
    ] {
        out.extend_from_slice(&sectors.to_le_bytes());
    }
    out.extend_from_slice(&(TABLE_ENTRIES as u32).to_le_bytes());
    for sectors in [shape.directory(0), shape.directory(1), shape.grains_at()] {
        out.extend_from_slice(&sectors.to_le_bytes());
    }
    // Shut down in order, then the bytes by which a transfer as text is noticed.
    out.extend_from_slice(b"\0\n \r\n");
    out.resize(SECTOR as usize, 0);
    out
}

fn descriptor(shape: &Shape, name: &str) -> String {
    let capacity = shape.capacity;
    let cylinders = (capacity / (255 * 63)).min(65_535);
    // A quote or a line end would end the name early.
    let name: String = name
        .chars()
        .map(|c| if c == '"' || c.is_control() { '_' } else { c })
        .collect();
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"monolithicSparse\"\n\n# Extent description\n\
         RW {capacity} SPARSE \"{name}\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
}
