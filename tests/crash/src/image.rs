//! The content of a disk, without what is zero.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// A disk's content.
#[derive(Debug, Clone)]
pub struct Image {
    length: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    identity: Identity,
}

/// Names a disk's content: equal for equal content, whatever was written to get there.
///
/// It is the sum over all sectors of a hash of place and content, so that a write changes it by what
/// it changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Identity(u128);

impl Identity {
    fn swap(&mut self, sector: u64, old: &[u8], new: &[u8]) {
        let gone = weight(sector, old);
        self.0 = self.0.wrapping_sub(gone).wrapping_add(weight(sector, new));
    }
}

fn weight(sector: u64, content: &[u8]) -> u128 {
    if content.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sector.to_le_bytes()).update(content);
    let mut half = [0; 16];
    hasher.finalize_xof().fill(&mut half);
    u128::from_le_bytes(half)
}

impl Image {
    /// How long the disk is.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Reads a disk.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata()?.len();
        ensure!(
            length.is_multiple_of(BLOCK as u64),
            "the disk has no whole number of blocks"
        );
        let mut image = Self {
            length,
            blocks: BTreeMap::new(),
            identity: Identity::default(),
        };
        let mut block = [0; BLOCK];
        for number in 0..length / BLOCK as u64 {
            file.read_exact_at(&mut block, number * BLOCK as u64)?;
            image.write(number * (BLOCK / SECTOR) as u64, &block);
        }
        Ok(image)
    }

    /// Writes the disk to a file, in place of whatever is there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        file.set_len(self.length)?;
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (number, block) in &self.blocks {
            match &mut run {
                Some((first, bytes)) if *first + (bytes.len() / BLOCK) as u64 == *number => {
                    bytes.extend_from_slice(&**block);
                }
                _ => {
                    let begun = (*number, block.to_vec());
                    if let Some((first, bytes)) = run.replace(begun) {
                        file.write_all_at(&bytes, first * BLOCK as u64)?;
                    }
                }
            }
        }
        if let Some((first, bytes)) = run {
            file.write_all_at(&bytes, first * BLOCK as u64)?;
        }
        Ok(())
    }

    /// Writes whole sectors.
    pub fn write(&mut self, first: u64, bytes: &[u8]) {
        for (sector, new) in (first..).zip(bytes.chunks_exact(SECTOR)) {
            let (number, within) = place(sector);
            if !self.blocks.contains_key(&number) && new.iter().all(|byte| *byte == 0) {
                continue;
            }
            let block = self
                .blocks
                .entry(number)
                .or_insert_with(|| Box::new([0; BLOCK]));
            let old = &mut block[within..within + SECTOR];
            self.identity.swap(sector, old, new);
            old.copy_from_slice(new);
        }
    }

    /// Names the content that the disk would have with these writes.
    pub fn identity_with<'a>(&self, writes: impl IntoIterator<Item = (u64, &'a [u8])>) -> Identity {
        let mut last = HashMap::new();
        for (first, bytes) in writes {
            last.extend((first..).zip(bytes.chunks_exact(SECTOR)));
        }
        let mut identity = self.identity;
        for (sector, new) in last {
            identity.swap(sector, self.sector(sector), new);
        }
        identity
    }

    fn sector(&self, sector: u64) -> &[u8] {
        const ZEROS: [u8; SECTOR] = [0; SECTOR];
        let (number, within) = place(sector);
        match self.blocks.get(&number) {
            Some(block) => &block[within..within + SECTOR],
            None => &ZEROS,
        }
    }
}

const fn place(sector: u64) -> (u64, usize) {
    let per_block = (BLOCK / SECTOR) as u64;
    (sector / per_block, (sector % per_block) as usize * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Image {
        Image {
            length: 8 * BLOCK as u64,
            blocks: BTreeMap::new(),
            identity: Identity::default(),
        }
    }

    #[test]
    fn content_alone_decides_the_identity() {
        let (mut one, mut other) = (empty(), empty());
        one.write(3, &[1; 2 * SECTOR]);
        other.write(4, &[1; SECTOR]);
        other.write(3, &[7; SECTOR]);
        assert_ne!(one.identity, other.identity);
        assert_eq!(other.identity_with([(3, &[1; SECTOR][..])]), one.identity);
        other.write(3, &[1; SECTOR]);
        assert_eq!(one.identity, other.identity);
        one.write(3, &[0; 2 * SECTOR]);
        assert_eq!(one.identity, empty().identity);
    }

    #[test]
    fn a_disk_comes_back_from_a_file() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut image = empty();
        image.write(0, &[1; SECTOR]);
        image.write(9, &[2; SECTOR]);
        image.write(40, &[3; SECTOR]);
        image.save(&path).unwrap();
        let back = Image::read(&path).unwrap();
        assert_eq!((back.identity, back.length), (image.identity, image.length));
    }
}
