//! QEMU's own format (`qcow2`, version 3), written front to back but for its header.
//!
//! ```text
//! cluster 0       header, big-endian, 104 bytes
//! 1..             the table of tables (L1)
//! then            data clusters, each run of 8192 followed by its table (L2)
//! at the end      refcount blocks, refcount table
//! ```
//! Only the current cluster, the current table and L1 are in memory: eight bytes for 512 MiB. The
//! header comes last, so that a file that was not finished is no qcow2 at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::blocks::Blocks;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of eight bytes in one table.
const TABLE_ENTRIES: u64 = CLUSTER / 8;
/// Refcounts of two bytes in one block.
const BLOCK_ENTRIES: u64 = CLUSTER / 2;
/// What QEMU takes for the table of tables: it bounds a disk to 2 PiB.
const L1_BYTES_MAX: u64 = 32 << 20;
/// The cluster's refcount is one: it may be written in place.
const COPIED: u64 = 1 << 63;

/// A disk that is being written.
pub(super) struct Qcow2 {
    length: u64,
    blocks: Blocks,
    clusters: Clusters,
}

/// What is in the file.
struct Clusters {
    next: u64,
    l1: Vec<u64>,
    table: u64,
    entries: Vec<u64>,
}

impl Qcow2 {
    /// Begins a disk of `length` bytes.
    pub fn begin(length: u64) -> io::Result<Self> {
        let tables = length.div_ceil(CLUSTER * TABLE_ENTRIES);
        if tables * 8 > L1_BYTES_MAX {
            let text = "a qcow2 holds 2 PiB at most, use --format raw";
            return Err(io::Error::other(text));
        }
        Ok(Self {
            length,
            blocks: Blocks::new(CLUSTER as usize),
            clusters: Clusters {
                next: 1 + (tables * 8).div_ceil(CLUSTER),
                l1: vec![0; tables as usize],
                table: 0,
                entries: vec![0; TABLE_ENTRIES as usize],
            },
        })
    }

    /// Writes bytes of the disk; offsets ascend.
    pub fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Self {
            blocks, clusters, ..
        } = self;
        blocks.write(offset, bytes, |index, block| {
            clusters.put(file, index, block)
        })
    }

    /// Writes what is still in memory, and at last what makes the file a disk.
    pub fn finish(mut self, file: &File) -> io::Result<()> {
        let clusters = &mut self.clusters;
        self.blocks
            .flush(&mut |index, block| clusters.put(file, index, block))?;
        clusters.put_table(file)?;
        put_numbers(file, CLUSTER, &self.clusters.l1)?;
        let counts = Refcounts::of(self.clusters.next);
        counts.write(file)?;
        // A file that ends in the middle of a cluster would have a cluster beyond its end.
        file.set_len(counts.end() * CLUSTER)?;
        file.write_all_at(&self.header(&counts), 0)
    }

    fn header(&self, counts: &Refcounts) -> Vec<u8> {
        let mut header = Vec::with_capacity(104);
        let narrow = |header: &mut Vec<u8>, field: u32| header.extend(field.to_be_bytes());
        let wide = |header: &mut Vec<u8>, field: u64| header.extend(field.to_be_bytes());
        header.extend_from_slice(b"QFI\xfb");
        narrow(&mut header, 3);
        // No backing file.
        wide(&mut header, 0);
        narrow(&mut header, 0);
        narrow(&mut header, CLUSTER_BITS);
        wide(&mut header, self.length);
        // Not encrypted.
        narrow(&mut header, 0);
        narrow(&mut header, self.clusters.l1.len() as u32);
        wide(&mut header, CLUSTER);
        wide(&mut header, counts.table * CLUSTER);
        narrow(&mut header, counts.table_clusters as u32);
        // No snapshots.
        narrow(&mut header, 0);
        wide(&mut header, 0);
        // Features: incompatible, compatible, to be cleared.
        [0, 0, 0]
            .into_iter()
            .for_each(|none| wide(&mut header, none));
        // Refcounts of 2^4 bits; length of this header.
        narrow(&mut header, 4);
        narrow(&mut header, 104);
        header
    }
}

impl Clusters {
    fn put(&mut self, file: &File, index: u64, block: &[u8]) -> io::Result<()> {
        let table = index / TABLE_ENTRIES;
        if table != self.table {
            self.put_table(file)?;
            self.table = table;
        }
        let at = self.next * CLUSTER;
        file.write_all_at(block, at)?;
        if let Some(entry) = self.entries.get_mut((index % TABLE_ENTRIES) as usize) {
            *entry = at | COPIED;
        }
        self.next += 1;
        Ok(())
    }

    fn put_table(&mut self, file: &File) -> io::Result<()> {
        if self.entries.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let at = self.next * CLUSTER;
        put_numbers(file, at, &self.entries)?;
        if let Some(entry) = self.l1.get_mut(self.table as usize) {
            *entry = at | COPIED;
        }
        self.next += 1;
        self.entries.fill(0);
        Ok(())
    }
}

/// How often each cluster is used: once, all of them.
struct Refcounts {
    /// The first of the blocks that count.
    first: u64,
    blocks: u64,
    table: u64,
    table_clusters: u64,
}

impl Refcounts {
    /// Counts for a file of `used` clusters and for themselves.
    fn of(used: u64) -> Self {
        let mut blocks: u64 = 1;
        loop {
            let table_clusters = (blocks * 8).div_ceil(CLUSTER);
            let needed = (used + blocks + table_clusters).div_ceil(BLOCK_ENTRIES);
            if needed <= blocks {
                return Self {
                    first: used,
                    blocks,
                    table: used + blocks,
                    table_clusters,
                };
            }
            blocks = needed;
        }
    }

    fn end(&self) -> u64 {
        self.table + self.table_clusters
    }

    fn write(&self, file: &File) -> io::Result<()> {
        for block in 0..self.blocks {
            let counted = self.end().saturating_sub(block * BLOCK_ENTRIES);
            let mut bytes = 1u16
                .to_be_bytes()
                .repeat(counted.min(BLOCK_ENTRIES) as usize);
            bytes.resize(CLUSTER as usize, 0);
            file.write_all_at(&bytes, (self.first + block) * CLUSTER)?;
        }
        let places: Vec<u64> = (0..self.blocks)
            .map(|block| (self.first + block) * CLUSTER)
            .collect();
        put_numbers(file, self.table * CLUSTER, &places)
    }
}

fn put_numbers(file: &File, at: u64, numbers: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    file.write_all_at(&bytes, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_count_themselves_also_where_they_just_fit() {
        for used in (1..70_000).chain([1 << 30, (1 << 30) + 1]) {
            let counts = Refcounts::of(used);
            assert!(counts.end() <= counts.blocks * BLOCK_ENTRIES, "{used}");
            assert!(
                counts.blocks == 1 || counts.end() > (counts.blocks - 2) * BLOCK_ENTRIES,
                "{used}"
            );
        }
    }
}
