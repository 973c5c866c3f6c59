//! What the journal holds and the guest had not put in place yet (Linux's `fs/jbd2/recovery.c`).
//!
//! Blocks stay where they are: a patch says where in the journal the newer one stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::{Content, Mapped};
use crate::source::{Patch, Patched};
use crate::view::View;
use crate::{Error, Result};

use super::Ext4;

const MAGIC: u32 = 0xc03b_3998;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;

const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_CSUM_V2: u32 = 0x8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = 0x1 | INCOMPAT_64BIT | 0x4 | INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_DELETED: u32 = 4;
const TAG_LAST: u32 = 8;

/// The file system's disk with its journal played back.
pub(super) fn replay(system: &Ext4) -> Result<Patched> {
    let inode = system.inode(system.superblock.journal_inode)?;
    let mut journal = Journal::open(system, system.mapped(&inode)?)?;
    journal.scan()?;
    let patches = journal.patches(system.superblock.blocks);
    Ok(Patched::new(
        Arc::clone(&system.disk),
        system.superblock.block_bytes,
        patches,
    ))
}

/// A block of a transaction.
struct Change {
    transaction: u32,
    block: u64,
    patch: Patch,
}

struct Journal {
    content: Mapped,
    block_bytes: u64,
    first: u64,
    /// One behind the last block of the ring.
    end: u64,
    start: u64,
    sequence: u32,
    features: u32,
    checksum_seed: u32,
    limit: u64,
    changes: Vec<Change>,
    /// The newest transaction that a block was revoked in.
    revoked: BTreeMap<u64, u32>,
}

impl Journal {
    fn open(system: &Ext4, content: Mapped) -> Result<Self> {
        let block_bytes = system.superblock.block_bytes;
        let mut raw = vec![0; block_bytes as usize];
        content.read_at(0, &mut raw)?;
        let view = View::new(&raw, "ext4 journal superblock", 0);
        view.check(view.be32(0)? == MAGIC, "its magic number is another")?;
        let newer = view.be32(4)? == 4;
        let features = if newer { view.be32(0x28)? } else { 0 };
        if features & INCOMPAT_FAST_COMMIT != 0 {
            return Err(Error::Unsupported("a dirty ext4 journal with fast commits"));
        }
        if features & !INCOMPAT_KNOWN != 0 {
            return Err(Error::Unsupported(
                "a dirty ext4 journal with unknown features",
            ));
        }
        view.check(
            u64::from(view.be32(0xc)?) == block_bytes,
            "its block size is not the file system's",
        )?;
        let (first, end) = (u64::from(view.be32(0x14)?), u64::from(view.be32(0x10)?));
        let holds = first > 0 && first < end && end <= content.length().div_ceil(block_bytes);
        view.check(holds, "its ring is not inside it")?;
        let start = u64::from(view.be32(0x1c)?);
        view.check(start < end, "it begins beyond its end")?;
        Ok(Self {
            block_bytes,
            first,
            end,
            start,
            sequence: view.be32(0x18)?,
            features,
            checksum_seed: checksum(u32::MAX, view.bytes(0x30, 16)?),
            limit: system.limits.metadata_bytes / size_of::<Change>() as u64,
            content,
            changes: Vec::new(),
            revoked: BTreeMap::new(),
        })
    }

    const fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    const fn within(&self, count: usize) -> Result<()> {
        if (count as u64) < self.limit {
            return Ok(());
        }
        Err(Error::Limit {
            what: "blocks of a journal",
            limit: self.limit,
        })
    }

    const fn next(&self, block: u64) -> u64 {
        if block + 1 >= self.end {
            self.first
        } else {
            block + 1
        }
    }

    fn block(&self, number: u64) -> Result<Vec<u8>> {
        let mut raw = vec![0; self.block_bytes as usize];
        self.content.read_at(number * self.block_bytes, &mut raw)?;
        Ok(raw)
    }

    /// Goes through the transactions in order. What belongs to one without a commit is left out.
    fn scan(&mut self) -> Result<()> {
        if self.start == 0 {
            return Ok(());
        }
        let mut at = self.start;
        let mut left = self.end - self.first;
        let mut whole = 0;
        let mut revoked = Vec::new();
        while left > 0 {
            let raw = self.block(at)?;
            let view = View::new(&raw, "ext4 journal block", at);
            if view.be32(0)? != MAGIC || view.be32(8)? != self.sequence {
                break;
            }
            let mut used = 1;
            match view.be32(4)? {
                DESCRIPTOR => used += self.descriptor(&view, at)?,
                REVOKE => self.revocations(&view, &mut revoked)?,
                COMMIT if self.commit_holds(&view)? => {
                    whole = self.changes.len();
                    for block in revoked.drain(..) {
                        self.revoked.insert(block, self.sequence);
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                }
                _ => break,
            }
            for _ in 0..used {
                at = self.next(at);
            }
            left = u64::saturating_sub(left, used);
        }
        self.changes.truncate(whole);
        Ok(())
    }

    /// The blocks that a descriptor names follow it in the ring. Says how many there are.
    fn descriptor(&mut self, view: &View<'_>, at: u64) -> Result<u64> {
        let tail = if self.has(INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) {
            4
        } else {
            0
        };
        let tag_bytes = self.tag_bytes();
        let mut offset = 12;
        let mut journal_block = at;
        let mut count = 0;
        while offset + tag_bytes + tail <= view.length() {
            let (block, flags) = self.tag(&view.part(offset, tag_bytes)?)?;
            offset += tag_bytes;
            if flags & TAG_SAME_UUID == 0 {
                offset += 16;
            }
            journal_block = self.next(journal_block);
            count += 1;
            if flags & TAG_DELETED == 0 {
                self.change(block, journal_block, flags)?;
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(count)
    }

    fn change(&mut self, block: u64, journal_block: u64, flags: u32) -> Result<()> {
        self.within(self.changes.len())?;
        let (_, place) = self
            .content
            .pieces
            .stretch(journal_block * self.block_bytes);
        let offset = place.ok_or(Error::Damaged {
            structure: "ext4 journal",
            at: journal_block,
            what: "it has a hole",
        })?;
        // A block that begins like one of the journal's own is stored with zeros there.
        let begins = (flags & TAG_ESCAPED != 0).then_some(MAGIC.to_be_bytes());
        self.changes.push(Change {
            transaction: self.sequence,
            block,
            patch: Patch::Moved { offset, begins },
        });
        Ok(())
    }

    const fn tag_bytes(&self) -> usize {
        if self.has(INCOMPAT_CSUM_V3) {
            return 16;
        }
        let wide = if self.has(INCOMPAT_64BIT) { 12 } else { 8 };
        if self.has(INCOMPAT_CSUM_V2) {
            wide + 2
        } else {
            wide
        }
    }

    fn tag(&self, tag: &View<'_>) -> Result<(u64, u32)> {
        let newest = self.has(INCOMPAT_CSUM_V3);
        let flags = if newest {
            tag.be32(4)?
        } else {
            tag.be16(6)?.into()
        };
        let mut block = u64::from(tag.be32(0)?);
        if self.has(INCOMPAT_64BIT) {
            block |= u64::from(tag.be32(8)?) << 32;
        }
        Ok((block, flags))
    }

    fn revocations(&self, view: &View<'_>, to: &mut Vec<u64>) -> Result<()> {
        let end = view.be32(12)? as usize;
        view.check(end <= view.length(), "its revocations go beyond it")?;
        let wide = self.has(INCOMPAT_64BIT);
        let mut at = 16;
        while at + if wide { 8 } else { 4 } <= end {
            self.within(to.len())?;
            to.push(if wide {
                view.be64(at)?
            } else {
                view.be32(at)?.into()
            });
            at += if wide { 8 } else { 4 };
        }
        Ok(())
    }

    /// A commit that was not written whole is none.
    fn commit_holds(&self, view: &View<'_>) -> Result<bool> {
        if !self.has(INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) {
            return Ok(true);
        }
        let mut sum = checksum(self.checksum_seed, view.bytes(0, 16)?);
        sum = checksum(sum, &[0; 4]);
        sum = checksum(sum, view.rest(20)?.all());
        Ok(sum == view.be32(16)?)
    }

    fn patches(&self, blocks: u64) -> BTreeMap<u64, Patch> {
        let mut patches = BTreeMap::new();
        for change in &self.changes {
            let revoked = self.revoked.get(&change.block);
            let newer =
                |&revoked: &u32| revoked.wrapping_sub(change.transaction).cast_signed() >= 0;
            if change.block < blocks && !revoked.is_some_and(newer) {
                patches.insert(change.block, change.patch.clone());
            }
        }
        patches
    }
}

/// CRC-32C as the kernel chains it, without the inversions at both ends.
fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}
