//! GUID partition tables (UEFI specification, chapter 5).

use crate::source::{BlockSource, bytes};
use crate::view::{View, guid, text, wide_bytes};
use crate::{Limits, Result};

use super::Partition;

const SIGNATURE: &[u8] = b"EFI PART";
/// Disks with sectors of either length are about; nothing but trying tells which.
const SECTORS: [u64; 2] = [512, 4096];
/// No table that anybody writes is longer: 128 entries of 128 bytes is what all do.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Types that say by themselves that nobody else can read what is there.
const UNREADABLE: [(&str, &str); 3] = [
    (
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
        "a dynamic disk of Windows (LDM)",
    ),
    (
        "af9b60a0-1431-4f62-bc68-3311714a69ad",
        "a dynamic disk of Windows (LDM)",
    ),
    (
        "e75caf8f-f680-4cee-afa3-b001e56efc2d",
        "Windows storage spaces",
    ),
];

/// The partitions of the first table that holds: the one at the beginning or its copy at the end.
pub(super) fn read(disk: &dyn BlockSource, limits: &Limits) -> Result<Option<Vec<Partition>>> {
    for sector in SECTORS {
        let last = (disk.length() / sector).saturating_sub(1);
        for at in [1, last] {
            if let Some(header) = Header::read(disk, sector, at)? {
                return header.partitions(disk, sector, limits);
            }
        }
    }
    Ok(None)
}

struct Header {
    table: u64,
    count: u32,
    entry_bytes: u64,
    table_checksum: u32,
}

impl Header {
    /// None when there is no header, or one that does not hold.
    fn read(disk: &dyn BlockSource, sector: u64, at: u64) -> Result<Option<Self>> {
        if (at + 1) * sector > disk.length() {
            return Ok(None);
        }
        let raw = bytes(disk, at * sector, 512)?;
        let view = View::new(&raw, "partition table (GPT)", at);
        let length = view.le32(12)? as usize;
        if view.bytes(0, 8)? != SIGNATURE || !(92..=512).contains(&length) {
            return Ok(None);
        }
        let mut header = view.bytes(0, length)?.to_vec();
        if let Some(sum) = header.get_mut(16..20) {
            sum.fill(0);
        }
        if checksum(&header) != view.le32(16)? || view.le64(24)? != at {
            return Ok(None);
        }
        Ok(Some(Self {
            table: view.le64(72)?,
            count: view.le32(80)?,
            entry_bytes: view.le32(84)?.into(),
            table_checksum: view.le32(88)?,
        }))
    }

    fn partitions(
        &self,
        disk: &dyn BlockSource,
        sector: u64,
        limits: &Limits,
    ) -> Result<Option<Vec<Partition>>> {
        let length = self.entry_bytes.saturating_mul(self.count.into());
        let known = self.entry_bytes >= 128 && length <= TABLE_BYTES_MAX;
        let offset = self.table.checked_mul(sector);
        let Some(offset) = offset.filter(|_| known) else {
            return Ok(None);
        };
        let raw = bytes(disk, offset, length as usize)?;
        if checksum(&raw) != self.table_checksum {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (number, entry) in (1..).zip(raw.chunks_exact(self.entry_bytes as usize)) {
            let view = View::new(entry, "partition (GPT)", u64::from(number));
            all.extend(partition(&view, number, sector)?);
        }
        all.truncate(limits.volumes);
        Ok(Some(all))
    }
}

fn partition(entry: &View<'_>, number: u32, sector: u64) -> Result<Option<Partition>> {
    let Some(kind) = guid(entry.array(0)?) else {
        return Ok(None);
    };
    let (first, last) = (entry.le64(32)?, entry.le64(40)?);
    let sectors = last.checked_sub(first).and_then(|less| less.checked_add(1));
    let offset = first.checked_mul(sector);
    let length = sectors.and_then(|sectors| sectors.checked_mul(sector));
    let (Some(offset), Some(bytes)) = (offset, length) else {
        return Err(entry.damaged("it ends before it begins or beyond all numbers"));
    };
    let unreadable = UNREADABLE.iter().find(|(known, _)| *known == kind);
    Ok(Some(Partition {
        number,
        offset,
        bytes,
        name: text(&wide_bytes(entry.bytes(56, 72)?)),
        uuid: guid(entry.array(16)?),
        unreadable: unreadable.map(|(_, what)| *what),
        kind,
    }))
}

/// CRC-32 of IEEE 802.3. Tables are short, so it needs no table of its own.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_its_own_description() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }
}
