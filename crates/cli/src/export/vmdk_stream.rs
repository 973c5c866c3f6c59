//! VMware's sparse disk for transport (`streamOptimized`), written front to back and never again.
//!
//! ```text
//! sector 0        header; it says that the directory is told at the end
//! 1..21           descriptor, text
//! 128..           grains of 64 KiB, deflated, each behind a marker with its place
//!                 after each 512 grains their table, behind a marker
//! at the end      directory, footer (a header that knows the directory), end-of-stream marker
//! ```
//! A file without its last marker is no disk to any reader.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::blocks::Blocks;
use super::vmdk::{
    DESCRIPTOR_SECTOR, DESCRIPTOR_SECTORS, GRAIN, GRAIN_SECTORS, SECTOR, TABLE_ENTRIES, descriptor,
    sector_number,
};

/// The directory's place is told by the footer.
const AT_END: u64 = u64::MAX;
const OVERHEAD_SECTORS: u64 = 128;

const END_OF_STREAM: u32 = 0;
const GRAIN_TABLE: u32 = 1;
const GRAIN_DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

/// A disk that is being written.
pub(super) struct VmdkStream {
    capacity_sectors: u64,
    blocks: Blocks,
    grains: Grains,
}

struct Grains {
    next_sector: u64,
    directory: Vec<u32>,
    table: u64,
    entries: Vec<u32>,
}

impl VmdkStream {
    /// Writes header and descriptor of a disk of `length` bytes.
    pub fn begin(out: &mut dyn Write, length: u64, name: &str) -> io::Result<Self> {
        let capacity_sectors = length.div_ceil(SECTOR);
        let tables = capacity_sectors.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES as u64);
        // Places are numbered by 32 bits, whatever compression makes of the grains.
        sector_number(capacity_sectors)?;
        let mut head = header(capacity_sectors, AT_END);
        let text = descriptor(capacity_sectors, "streamOptimized", name);
        head.extend_from_slice(text.as_bytes());
        head.resize((OVERHEAD_SECTORS * SECTOR) as usize, 0);
        out.write_all(&head)?;
        Ok(Self {
            capacity_sectors,
            blocks: Blocks::new(GRAIN),
            grains: Grains {
                next_sector: OVERHEAD_SECTORS,
                directory: vec![0; tables as usize],
                table: 0,
                entries: vec![0; TABLE_ENTRIES],
            },
        })
    }

    /// Writes bytes of the disk; offsets ascend.
    pub fn write(&mut self, out: &mut dyn Write, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Self { blocks, grains, .. } = self;
        blocks.write(offset, bytes, |index, grain| grains.put(out, index, grain))
    }

    /// Writes what is still in memory, and at last what makes the stream a disk.
    pub fn finish(mut self, out: &mut dyn Write) -> io::Result<()> {
        let grains = &mut self.grains;
        self.blocks
            .flush(&mut |index, grain| grains.put(out, index, grain))?;
        grains.put_table(out)?;
        let directory: Vec<u8> = numbers(&grains.directory);
        let at = grains.put_marked(out, GRAIN_DIRECTORY, &directory)?;
        let footer = header(self.capacity_sectors, at);
        grains.put_marked(out, FOOTER, &footer)?;
        grains.put_marked(out, END_OF_STREAM, &[])?;
        out.flush()
    }
}

impl Grains {
    fn put(&mut self, out: &mut dyn Write, index: u64, grain: &[u8]) -> io::Result<()> {
        let table = index / TABLE_ENTRIES as u64;
        if table != self.table {
            self.put_table(out)?;
            self.table = table;
        }
        let mut deflate = ZlibEncoder::new(Vec::with_capacity(GRAIN), Compression::fast());
        deflate.write_all(grain)?;
        let deflated = deflate.finish()?;
        let mut bytes = Vec::with_capacity(deflated.len() + 2 * SECTOR as usize);
        bytes.extend_from_slice(&(index * GRAIN_SECTORS).to_le_bytes());
        bytes.extend_from_slice(&(deflated.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&deflated);
        if let Some(entry) = self
            .entries
            .get_mut((index % TABLE_ENTRIES as u64) as usize)
        {
            *entry = sector_number(self.next_sector)?;
        }
        self.put_padded(out, bytes)
    }

    fn put_table(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.entries.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let table: Vec<u8> = numbers(&self.entries);
        let at = self.put_marked(out, GRAIN_TABLE, &table)?;
        if let Some(entry) = self.directory.get_mut(self.table as usize) {
            *entry = sector_number(at)?;
        }
        self.entries.fill(0);
        Ok(())
    }

    /// Writes what is no grain, and answers the sector where it begins behind its marker.
    fn put_marked(&mut self, out: &mut dyn Write, kind: u32, bytes: &[u8]) -> io::Result<u64> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        let mut marked = sectors.to_le_bytes().to_vec();
        // A size of zero tells that it is no grain.
        marked.extend_from_slice(&0u32.to_le_bytes());
        marked.extend_from_slice(&kind.to_le_bytes());
        marked.resize(SECTOR as usize, 0);
        marked.extend_from_slice(bytes);
        let at = self.next_sector + 1;
        self.put_padded(out, marked)?;
        Ok(at)
    }

    fn put_padded(&mut self, out: &mut dyn Write, mut bytes: Vec<u8>) -> io::Result<()> {
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        out.write_all(&bytes)?;
        self.next_sector += bytes.len() as u64 / SECTOR;
        Ok(())
    }
}

fn numbers(entries: &[u32]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

fn header(capacity_sectors: u64, directory: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity((OVERHEAD_SECTORS * SECTOR) as usize);
    header.extend_from_slice(b"KDMV");
    header.extend_from_slice(&3u32.to_le_bytes());
    // Bit 0: the line ends below are true. Bits 16 and 17: deflated, and with markers.
    header.extend_from_slice(&0x0003_0001u32.to_le_bytes());
    let before = [
        capacity_sectors,
        GRAIN_SECTORS,
        DESCRIPTOR_SECTOR,
        DESCRIPTOR_SECTORS,
    ];
    before
        .iter()
        .for_each(|field| header.extend_from_slice(&field.to_le_bytes()));
    header.extend_from_slice(&(TABLE_ENTRIES as u32).to_le_bytes());
    [0, directory, OVERHEAD_SECTORS]
        .iter()
        .for_each(|field| header.extend_from_slice(&field.to_le_bytes()));
    // Shut down cleanly; bytes that a transfer in text mode would change; deflated.
    header.push(0);
    header.extend_from_slice(b"\n \r\n");
    header.extend_from_slice(&1u16.to_le_bytes());
    header.resize(SECTOR as usize, 0);
    header
}
