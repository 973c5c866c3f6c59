//! The boot sector.

use crate::content::{Piece, Pieces};
use crate::source::{BlockSource, bytes};
use crate::view::View;
use crate::{Limits, Result};

const CLUSTER_BYTES_MAX: u64 = 2 << 20;

#[derive(Debug)]
pub(super) struct Boot {
    pub cluster_bytes: u64,
    pub bytes: u64,
    table: u64,
    pub record_bytes: usize,
    pub serial: u64,
}

/// Whether a boot sector of NTFS is there.
pub(crate) fn is_here(disk: &dyn BlockSource) -> bool {
    disk.length() >= 512 && bytes(disk, 3, 8).is_ok_and(|mark| mark == b"NTFS    ")
}

impl Boot {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let raw = bytes(disk, 0, 512)?;
        let view = View::new(&raw, "NTFS boot sector", 0);
        let sector = u64::from(view.le16(0xb)?);
        let known = sector.is_power_of_two() && (256..=4096).contains(&sector);
        view.check(known, "its sectors are of no length that exists")?;
        // Above 128 it is the negative logarithm.
        let per_cluster = match view.u8(0xd)? {
            small @ 0..=128 => u64::from(small),
            large => 1u64.checked_shl(256 - u32::from(large)).unwrap_or(0),
        };
        let cluster_bytes = sector.saturating_mul(per_cluster);
        let known = cluster_bytes.is_power_of_two() && cluster_bytes <= CLUSTER_BYTES_MAX;
        view.check(known, "its clusters are of no length that exists")?;
        let record = match view.u8(0x40)?.cast_signed() {
            clusters @ 1.. => u64::from(clusters.cast_unsigned()) * cluster_bytes,
            logarithm => 1u64
                .checked_shl(u32::from(logarithm.unsigned_abs()))
                .unwrap_or(0),
        };
        let known = record.is_power_of_two() && (512..=65536).contains(&record);
        view.check(known, "its records are of no length that exists")?;
        Ok(Self {
            cluster_bytes,
            bytes: view.le64(0x28)?.saturating_mul(sector).min(disk.length()),
            table: view.le64(0x30)?,
            record_bytes: record as usize,
            serial: view.le64(0x48)?,
        })
    }

    /// Where the first record of the table is, before the table itself can say it.
    pub fn first_record(&self, limits: &Limits) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let piece = Piece {
            at: 0,
            length: self.record_bytes as u64,
            place: Some(self.table.saturating_mul(self.cluster_bytes)),
        };
        pieces.push(piece, limits)?;
        Ok(pieces)
    }
}
