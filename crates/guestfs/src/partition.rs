//! Partition tables.

mod gpt;
mod mbr;

use crate::source::{BlockSource, bytes};
use crate::{Error, Limits, Result};

/// A partition, as its table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Counted from 1, logical ones from 5, as Linux does.
    pub number: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    pub bytes: u64,
    /// What the table says it is.
    pub kind: String,
    pub name: Option<String>,
    pub uuid: Option<String>,
    /// That the type alone says that nobody but the guest can read it.
    pub unreadable: Option<&'static str>,
}

/// The partitions of a disk; none if it has no table.
pub(crate) fn partitions(
    disk: &dyn BlockSource,
    limits: &Limits,
) -> Result<Option<Vec<Partition>>> {
    if disk.length() < 1024 {
        return Ok(None);
    }
    let first = bytes(disk, 0, 512)?;
    let Some(table) = mbr::Table::parse(&first) else {
        return gpt::read(disk, limits);
    };
    if table.is_protective() {
        if let Some(partitions) = gpt::read(disk, limits)? {
            return Ok(Some(partitions));
        }
        return Err(Error::Damaged {
            structure: "partition table (GPT)",
            at: 0,
            what: "neither it nor its copy holds",
        });
    }
    table.partitions(disk, limits).map(Some)
}
