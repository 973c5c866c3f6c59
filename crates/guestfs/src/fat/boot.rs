//! The boot sector, and the table that it leads to.

use crate::file_system::Description;
use crate::source::{BlockSource, bytes};
use crate::view::{View, text};
use crate::{Error, Result};

const CLUSTERS_MAX_12: u64 = 4084;
const FIRST_CLUSTER: u64 = 2;

/// Where the root directory is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Root {
    Fixed { offset: u64, length: u64 },
    Chain(u64),
}

/// How long the numbers of the table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

#[derive(Debug)]
pub(super) struct Boot {
    width: Width,
    table: u64,
    data: u64,
    pub cluster_bytes: u64,
    pub clusters: u64,
    pub root: Root,
    bytes: u64,
    label: Option<String>,
    serial: u32,
}

/// Whether there is a boot sector of FAT. It has no mark that is only its own: all of it has to make sense.
pub(crate) fn is_here(disk: &dyn BlockSource) -> bool {
    let Ok(raw) = bytes(disk, 0, 512) else {
        return false;
    };
    let jump = matches!(raw.as_slice(), [0xeb, _, 0x90, ..] | [0xe9, ..]);
    jump && raw.ends_with(&[0x55, 0xaa]) && Boot::read(disk).is_ok()
}

impl Boot {
    pub fn read(disk: &dyn BlockSource) -> Result<Self> {
        let raw = bytes(disk, 0, 512)?;
        let view = View::new(&raw, "FAT boot sector", 0);
        let sector = u64::from(view.le16(0xb)?);
        let per_cluster = u64::from(view.u8(0xd)?);
        let known = sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && per_cluster.is_power_of_two();
        view.check(
            known,
            "its sectors or clusters are of no length that exists",
        )?;
        let (reserved, tables) = (u64::from(view.le16(0xe)?), u64::from(view.u8(0x10)?));
        view.check(
            reserved > 0 && (1..=2).contains(&tables) && view.u8(0x15)? >= 0xf0,
            "its tables are nowhere",
        )?;
        let short = u64::from(view.le16(0x16)?);
        let table_sectors = if short == 0 {
            view.le32(0x24)?.into()
        } else {
            short
        };
        let root_entries = u64::from(view.le16(0x11)?);
        view.check(
            table_sectors > 0 && (short == 0) == (root_entries == 0),
            "it is of no kind",
        )?;
        let sectors = match view.le16(0x13)? {
            0 => u64::from(view.le32(0x20)?),
            few => few.into(),
        };
        let root_at = reserved + tables * table_sectors;
        let data = root_at + (root_entries * 32).div_ceil(sector);
        let clusters = sectors.saturating_sub(data) / per_cluster;
        view.check(
            clusters > 0 && sectors.saturating_mul(sector) <= disk.length(),
            "it is longer than its disk, or empty",
        )?;
        let width = match clusters {
            _ if short == 0 => Width::ThirtyTwo,
            0..=CLUSTERS_MAX_12 => Width::Twelve,
            _ => Width::Sixteen,
        };
        let names = if short == 0 { 0x43 } else { 0x27 };
        let label = text(view.bytes(names + 4, 11)?);
        Ok(Self {
            width,
            table: reserved * sector,
            data: data * sector,
            cluster_bytes: per_cluster * sector,
            // The table may be shorter than the disk.
            clusters: clusters.min(width.entries(table_sectors * sector)),
            root: if short == 0 {
                Root::Chain(view.le32(0x2c)?.into())
            } else {
                let length = root_entries * 32;
                let offset = root_at * sector;
                Root::Fixed { offset, length }
            },
            bytes: sectors * sector,
            label: label.filter(|label| label != "NO NAME"),
            serial: view.le32(names)?,
        })
    }

    /// Where a cluster begins.
    pub fn offset(&self, cluster: u64) -> Result<u64> {
        let index = cluster.checked_sub(FIRST_CLUSTER);
        let inside = index.filter(|&index| index < self.clusters);
        let index = inside.ok_or(Error::Damaged {
            structure: "FAT cluster number",
            at: cluster,
            what: "it is beyond the file system",
        })?;
        Ok(self.data + index * self.cluster_bytes)
    }

    /// The cluster after `cluster`; none at the end.
    pub fn next(&self, disk: &dyn BlockSource, cluster: u64) -> Result<Option<u64>> {
        let at = match self.width {
            Width::Twelve => cluster + cluster / 2,
            Width::Sixteen => cluster * 2,
            Width::ThirtyTwo => cluster * 4,
        };
        let width = if self.width == Width::ThirtyTwo { 4 } else { 2 };
        let raw = bytes(disk, self.table + at, width)?;
        let view = View::new(&raw, "FAT table", cluster);
        let (next, last) = match self.width {
            Width::Twelve if cluster % 2 == 1 => (u32::from(view.le16(0)? >> 4), 0xff7),
            Width::Twelve => (u32::from(view.le16(0)? & 0xfff), 0xff7),
            Width::Sixteen => (view.le16(0)?.into(), 0xfff7),
            Width::ThirtyTwo => (view.le32(0)? & 0x0fff_ffff, 0x0fff_fff7),
        };
        Ok((next <= last).then_some(next.into()))
    }

    pub fn describe(&self) -> Description {
        Description {
            kind: match self.width {
                Width::Twelve => "fat12",
                Width::Sixteen => "fat16",
                Width::ThirtyTwo => "fat32",
            },
            label: self.label.clone(),
            uuid: Some(format!(
                "{:04X}-{:04X}",
                self.serial >> 16,
                self.serial & 0xffff
            )),
            bytes: self.bytes,
            losses: Vec::new(),
        }
    }
}

impl Width {
    /// How many clusters a table of so many bytes is for.
    const fn entries(self, bytes: u64) -> u64 {
        let all = match self {
            Self::Twelve => bytes * 2 / 3,
            Self::Sixteen => bytes / 2,
            Self::ThirtyTwo => bytes / 4,
        };
        all.saturating_sub(FIRST_CLUSTER)
    }
}
