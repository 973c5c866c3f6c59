//! The master boot record, and the chain of extended ones.

use std::collections::BTreeSet;

use crate::source::{BlockSource, bytes};
use crate::{Limits, Result};

use super::Partition;

/// Tables of this kind count in these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;
const FIRST_LOGICAL: u32 = 5;

#[derive(Debug, Clone, Copy)]
struct Slot {
    kind: u8,
    start: u64,
    sectors: u64,
}

impl Slot {
    /// None when this is no slot of a partition table.
    fn parse(raw: &[u8; 16]) -> Option<Self> {
        let [status, _, _, _, kind, _, _, _, start @ .., a, b, c, d] = *raw;
        matches!(status, 0 | 0x80).then_some(Self {
            kind,
            start: u32::from_le_bytes(start).into(),
            sectors: u32::from_le_bytes([a, b, c, d]).into(),
        })
    }

    const fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    const fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn partition(&self, number: u32, from: u64, signature: u32) -> Partition {
        Partition {
            number,
            offset: (from + self.start) * SECTOR,
            bytes: self.sectors * SECTOR,
            kind: format!("{:#04x}", self.kind),
            name: None,
            uuid: (signature != 0).then(|| format!("{signature:08x}-{number:02x}")),
            unreadable: (self.kind == 0x42).then_some("a dynamic disk of Windows (LDM)"),
        }
    }
}

pub(super) struct Table {
    slots: [Slot; 4],
    signature: u32,
}

impl Table {
    /// None when a sector is no table: without its mark, with a slot that cannot be one, or all empty.
    pub fn parse(sector: &[u8]) -> Option<Self> {
        let (_, end) = sector.split_last_chunk::<72>()?;
        let (signature, end) = end.split_first_chunk::<4>()?;
        let (slots, mark) = end.get(2..)?.as_chunks::<16>();
        if mark != [0x55, 0xaa] {
            return None;
        }
        let [a, b, c, d] = slots else { return None };
        let table = Self {
            slots: [
                Slot::parse(a)?,
                Slot::parse(b)?,
                Slot::parse(c)?,
                Slot::parse(d)?,
            ],
            signature: u32::from_le_bytes(*signature),
        };
        table.slots.iter().any(Slot::is_used).then_some(table)
    }

    pub fn is_protective(&self) -> bool {
        self.slots.iter().any(|slot| slot.kind == 0xee)
    }

    pub fn partitions(&self, disk: &dyn BlockSource, limits: &Limits) -> Result<Vec<Partition>> {
        let mut all = Vec::new();
        for (number, slot) in (1..).zip(&self.slots) {
            if slot.is_used() && !slot.is_extended() {
                all.push(slot.partition(number, 0, self.signature));
            }
        }
        let mut number = FIRST_LOGICAL;
        for extended in self.slots.iter().filter(|slot| slot.is_extended()) {
            for (slot, from) in chain(disk, extended.start, limits)? {
                all.push(slot.partition(number, from, self.signature));
                number += 1;
            }
        }
        Ok(all)
    }
}

/// Logical partitions: each has a table of its own, with itself and the way to the next. A chain that comes
/// back to where it was ends there.
fn chain(disk: &dyn BlockSource, extended: u64, limits: &Limits) -> Result<Vec<(Slot, u64)>> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(extended);
    while let Some(at) = next.take() {
        let inside = (at + 1) * SECTOR <= disk.length();
        if !inside || seen.len() >= limits.volumes || !seen.insert(at) {
            break;
        }
        let Some(table) = Table::parse(&bytes(disk, at * SECTOR, SECTOR as usize)?) else {
            break;
        };
        let [own, link, ..] = table.slots;
        if own.is_used() && !own.is_extended() {
            all.push((own, at));
        }
        if link.is_used() && link.is_extended() {
            next = Some(extended + link.start);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot as it stands in a sector.
    fn slot(kind: u8, start: u32, sectors: u32) -> [u8; 16] {
        let mut raw = [0; 16];
        raw[4] = kind;
        raw[8..12].copy_from_slice(&start.to_le_bytes());
        raw[12..].copy_from_slice(&sectors.to_le_bytes());
        raw
    }

    fn put(disk: &mut [u8], sector: usize, slots: &[[u8; 16]]) {
        let raw = &mut disk[sector * 512..][..512];
        for (place, slot) in raw[446..].chunks_mut(16).zip(slots) {
            place.copy_from_slice(slot);
        }
        raw[510..].copy_from_slice(&[0x55, 0xaa]);
    }

    fn read(disk: Vec<u8>) -> Vec<(u32, u64, u64)> {
        crate::partition::partitions(&disk, &Limits::default())
            .unwrap()
            .unwrap()
            .into_iter()
            .map(|part| (part.number, part.offset / SECTOR, part.bytes / SECTOR))
            .collect()
    }

    #[test]
    fn logical_partitions_count_from_their_own_tables_and_links_from_the_extended_one() {
        let mut disk = vec![0; 100 * 512];
        put(&mut disk, 0, &[slot(0x83, 2, 8), slot(0x0f, 10, 80)]);
        put(&mut disk, 10, &[slot(0x83, 1, 9), slot(0x05, 20, 30)]);
        put(&mut disk, 30, &[slot(0x07, 2, 18)]);
        assert_eq!(read(disk), [(1, 2, 8), (5, 11, 9), (6, 32, 18)]);
    }

    #[test]
    fn a_chain_that_leads_back_ends() {
        let mut disk = vec![0; 100 * 512];
        put(&mut disk, 0, &[slot(0x05, 10, 80)]);
        put(&mut disk, 10, &[slot(0x83, 1, 9), slot(0x05, 20, 30)]);
        put(&mut disk, 30, &[slot(0x83, 1, 9), slot(0x05, 20, 30)]);
        assert_eq!(read(disk), [(5, 11, 9), (6, 31, 9)]);
    }

    #[test]
    fn a_boot_sector_that_is_no_table_is_none() {
        let mut disk = vec![b'x'; 4096];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(
            crate::partition::partitions(&disk, &Limits::default()).unwrap(),
            None
        );
    }
}
