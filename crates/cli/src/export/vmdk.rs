//! VMware's sparse disk in one file (`monolithicSparse`), written front to back.
//!
//! ```text
//! sector 0        header, little-endian, 512 bytes
//! 1..21           descriptor, text
//! 21..            redundant grain directory, its tables; grain directory, its tables
//! overhead..      grains of 64 KiB in the order in which they were written
//! ```
//! A directory entry is the sector of a table of 512 entries; a table entry is the sector of a
//! grain, zero when the grain is zeros. Only the current grain and the current table are in memory,
//! whatever the size of the disk: the data comes in ascending order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) const SECTOR: u64 = 512;
pub(super) const GRAIN_SECTORS: u64 = 128;
pub(super) const GRAIN: usize = 64 * 1024;
pub(super) const TABLE_ENTRIES: usize = 512;
const TABLE_SECTORS: u64 = 4;
pub(super) const DESCRIPTOR_SECTOR: u64 = 1;
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
const REDUNDANT_SECTOR: u64 = DESCRIPTOR_SECTOR + DESCRIPTOR_SECTORS;

/// Sectors are numbered by 32 bits, so that tables and grains end at 2 TiB.
const SECTORS_MAX: u64 = u32::MAX as u64;

/// A sparse disk that is being written.
pub(super) struct Vmdk {
    layout: Layout,
    next_sector: u64,
    grain: Grain,
    table: Table,
}

/// Where things lie; follows from the disk's length alone.
#[derive(Debug, Clone, Copy)]
struct Layout {
    capacity_sectors: u64,
    tables: u64,
    directory_sector: u64,
    overhead_sectors: u64,
}

struct Grain {
    index: u64,
    bytes: Vec<u8>,
}

struct Table {
    index: u64,
    entries: [u32; TABLE_ENTRIES],
}

impl Vmdk {
    /// Whether the descriptor can carry a file's name.
    pub fn check_name(name: &str) -> Result<(), &'static str> {
        let plain = |c: char| !c.is_control() && c != '"' && c != '\u{fffd}';
        match name.len() <= 255 && name.chars().all(plain) {
            true => Ok(()),
            false => Err("a VMDK cannot carry this name, use letters and digits"),
        }
    }

    /// Writes header, descriptor and directories of a disk of `length` bytes.
    pub fn begin(file: &File, length: u64, name: &str) -> io::Result<Self> {
        let layout = Layout::of(length)?;
        file.write_all_at(&layout.header(), 0)?;
        let descriptor = descriptor(layout.capacity_sectors, "monolithicSparse", name);
        file.write_all_at(descriptor.as_bytes(), DESCRIPTOR_SECTOR * SECTOR)?;
        for directory in [REDUNDANT_SECTOR, layout.directory_sector] {
            file.write_all_at(&layout.directory(directory)?, directory * SECTOR)?;
        }
        file.set_len(layout.overhead_sectors * SECTOR)?;
        Ok(Self {
            layout,
            next_sector: layout.overhead_sectors,
            grain: Grain {
                index: 0,
                bytes: vec![0; GRAIN],
            },
            table: Table {
                index: 0,
                entries: [0; TABLE_ENTRIES],
            },
        })
    }

    /// Writes bytes of the disk; offsets ascend.
    pub fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut offset, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            self.turn_to(file, offset / GRAIN as u64)?;
            let within = (offset % GRAIN as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(GRAIN - within));
            let Some(place) = self.grain.bytes.get_mut(within..within + now.len()) else {
                return Err(io::Error::other("a grain is shorter than its bytes"));
            };
            place.copy_from_slice(now);
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Writes what is still in memory.
    pub fn finish(mut self, file: &File) -> io::Result<()> {
        self.put_grain(file)?;
        self.put_table(file)
    }

    fn turn_to(&mut self, file: &File, index: u64) -> io::Result<()> {
        if index == self.grain.index {
            return Ok(());
        }
        if index < self.grain.index {
            return Err(io::Error::other(
                "a sparse disk is written in ascending order only",
            ));
        }
        self.put_grain(file)?;
        self.grain.index = index;
        let table = index / TABLE_ENTRIES as u64;
        if table != self.table.index {
            self.put_table(file)?;
            self.table.index = table;
        }
        Ok(())
    }

    fn put_grain(&mut self, file: &File) -> io::Result<()> {
        if self.grain.bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let sector = self.next_sector;
        file.write_all_at(&self.grain.bytes, sector * SECTOR)?;
        let entry = (self.grain.index % TABLE_ENTRIES as u64) as usize;
        if let Some(entry) = self.table.entries.get_mut(entry) {
            *entry = sector_number(sector)?;
        }
        self.next_sector += GRAIN_SECTORS;
        self.grain.bytes.fill(0);
        Ok(())
    }

    fn put_table(&mut self, file: &File) -> io::Result<()> {
        if self.table.entries.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let bytes: Vec<u8> = self
            .table
            .entries
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        for directory in [REDUNDANT_SECTOR, self.layout.directory_sector] {
            let sector = self.layout.table_sector(directory, self.table.index);
            file.write_all_at(&bytes, sector * SECTOR)?;
        }
        self.table.entries.fill(0);
        Ok(())
    }
}

impl Layout {
    fn of(length: u64) -> io::Result<Self> {
        let capacity_sectors = length.div_ceil(SECTOR);
        let tables = capacity_sectors.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES as u64);
        let directory_sectors = (tables * 4).div_ceil(SECTOR);
        let directory_sector = REDUNDANT_SECTOR + directory_sectors + tables * TABLE_SECTORS;
        let end = directory_sector + directory_sectors + tables * TABLE_SECTORS;
        let overhead_sectors = end.next_multiple_of(GRAIN_SECTORS);
        sector_number(overhead_sectors)?;
        Ok(Self {
            capacity_sectors,
            tables,
            directory_sector,
            overhead_sectors,
        })
    }

    /// Where a table lies: tables follow their directory.
    fn table_sector(&self, directory: u64, table: u64) -> u64 {
        directory + (self.tables * 4).div_ceil(SECTOR) + table * TABLE_SECTORS
    }

    fn directory(&self, directory: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for table in 0..self.tables {
            let sector = sector_number(self.table_sector(directory, table))?;
            bytes.extend_from_slice(&sector.to_le_bytes());
        }
        Ok(bytes)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(SECTOR as usize);
        header.extend_from_slice(b"KDMV");
        header.extend_from_slice(&1u32.to_le_bytes());
        // Bit 0: the line ends below are true. Bit 1: the redundant directory is used.
        header.extend_from_slice(&3u32.to_le_bytes());
        let before = [
            self.capacity_sectors,
            GRAIN_SECTORS,
            DESCRIPTOR_SECTOR,
            DESCRIPTOR_SECTORS,
        ];
        before
            .iter()
            .for_each(|field| header.extend_from_slice(&field.to_le_bytes()));
        header.extend_from_slice(&(TABLE_ENTRIES as u32).to_le_bytes());
        let after = [
            REDUNDANT_SECTOR,
            self.directory_sector,
            self.overhead_sectors,
        ];
        after
            .iter()
            .for_each(|field| header.extend_from_slice(&field.to_le_bytes()));
        // Shut down cleanly; bytes that a transfer in text mode would change; not compressed.
        header.push(0);
        header.extend_from_slice(b"\n \r\n");
        header.extend_from_slice(&0u16.to_le_bytes());
        header.resize(SECTOR as usize, 0);
        header
    }
}

/// The text that tells readers what the file is.
pub(super) fn descriptor(capacity_sectors: u64, create_type: &str, name: &str) -> String {
    // Geometry is only told to guests of another age; it ends at what CHS can say.
    let cylinders = (capacity_sectors / (255 * 63)).min(65_535);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=5717a7e5\nparentCID=ffffffff\n\
         createType=\"{create_type}\"\n\n# Extent description\n\
         RW {capacity_sectors} SPARSE \"{name}\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"13\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
}

pub(super) fn sector_number(sector: u64) -> io::Result<u32> {
    u32::try_from(sector).map_err(|_| {
        debug_assert!(sector > SECTORS_MAX);
        io::Error::other("a sparse VMDK holds 2 TiB at most, use --format raw")
    })
}
