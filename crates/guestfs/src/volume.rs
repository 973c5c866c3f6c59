//! What is on a guest's disks: whole ones, partitions, logical volumes.

use std::fmt;
use std::sync::Arc;

use crate::btrfs::Btrfs;
use crate::detect::{Contents, FileSystemKind, contents};
use crate::ext4::Ext4;
use crate::fat::Fat;
use crate::file_system::FileSystem;
use crate::lvm;
use crate::ntfs::Ntfs;
use crate::partition::{Partition, partitions};
use crate::source::{Disk, Paged, Part};
use crate::xfs::Xfs;
use crate::{Error, Limits, Result};

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A whole disk without a partition table.
    Disk {
        /// The disk, by its place among those that were given.
        disk: usize,
    },
    /// A partition.
    Partition {
        /// The disk.
        disk: usize,
        /// Its number, as Linux counts.
        number: u32,
        /// Where it begins, in bytes.
        offset: u64,
    },
    /// A logical volume of LVM2.
    Logical {
        /// The volume group.
        group: String,
        /// The volume.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { disk } => write!(to, "disk{disk}"),
            Self::Partition { disk, number, .. } => write!(to, "disk{disk}p{number}"),
            Self::Logical { group, name } => write!(to, "{group}/{name}"),
        }
    }
}

/// Something on the disks that may hold a file system.
#[derive(Clone)]
pub struct Volume {
    /// Where it is; its words are its name.
    pub place: Place,
    /// Its length in bytes.
    pub bytes: u64,
    /// What the partition table says it is.
    pub table_kind: Option<String>,
    /// The name that the partition table gives it.
    pub table_name: Option<String>,
    /// Its identity in the partition table or volume group.
    pub uuid: Option<String>,
    /// What it holds.
    pub contents: Contents,
    disk: Disk,
    limits: Limits,
}

impl fmt::Debug for Volume {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Volume")
            .field("place", &self.place)
            .field("bytes", &self.bytes)
            .field("contents", &self.contents)
            .finish_non_exhaustive()
    }
}

impl Volume {
    /// Opens the file system in it.
    ///
    /// # Errors
    /// When it holds none that can be read, or a damaged one.
    pub fn open(&self) -> Result<Box<dyn FileSystem>> {
        let disk = Arc::clone(&self.disk);
        match self.contents {
            Contents::FileSystem(FileSystemKind::Ext4) => {
                Ok(Box::new(Ext4::open(disk, &self.limits)?))
            }
            Contents::FileSystem(FileSystemKind::Ntfs) => {
                Ok(Box::new(Ntfs::open(disk, &self.limits)?))
            }
            Contents::FileSystem(FileSystemKind::Xfs) => {
                Ok(Box::new(Xfs::open(disk, &self.limits)?))
            }
            Contents::FileSystem(FileSystemKind::Fat) => {
                Ok(Box::new(Fat::open(disk, &self.limits)?))
            }
            Contents::FileSystem(FileSystemKind::Btrfs) => {
                Ok(Box::new(Btrfs::open(disk, &self.limits)?))
            }
            Contents::PhysicalVolume => {
                Err(Error::Unsupported("a part of a volume group by itself"))
            }
            Contents::Unreadable(what) => Err(Error::Unsupported(what)),
            Contents::Swap => Err(Error::Unsupported("swap space")),
            Contents::Unknown => Err(Error::Unsupported("a volume that holds nothing known")),
        }
    }
}

/// All volumes on `disks`.
///
/// # Errors
/// When a disk cannot be read, or a partition table is damaged.
pub fn volumes(disks: &[Disk], limits: &Limits) -> Result<Vec<Volume>> {
    let mut all = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        let disk: Disk = Arc::new(Paged::new(Arc::clone(disk), limits));
        of_disk(index, &disk, limits, &mut all)?;
    }
    let physical: Vec<Disk> = all
        .iter()
        .filter(|volume| volume.contents == Contents::PhysicalVolume)
        .map(|volume| Arc::clone(&volume.disk))
        .collect();
    for found in lvm::assemble(&physical, limits)? {
        all.push(of_group(found, limits)?);
    }
    if all.len() > limits.volumes {
        return Err(Error::Limit {
            what: "volumes",
            limit: limits.volumes as u64,
        });
    }
    Ok(all)
}

fn of_disk(index: usize, disk: &Disk, limits: &Limits, to: &mut Vec<Volume>) -> Result<()> {
    let whole = Volume {
        place: Place::Disk { disk: index },
        bytes: disk.length(),
        table_kind: None,
        table_name: None,
        uuid: None,
        contents: contents(&**disk)?,
        disk: Arc::clone(disk),
        limits: limits.clone(),
    };
    // A file system's own boot sector ends like a partition table.
    if whole.contents != Contents::Unknown {
        to.push(whole);
        return Ok(());
    }
    match partitions(&**disk, limits)? {
        None => to.push(whole),
        Some(partitions) => {
            for partition in partitions {
                to.push(of_partition(index, disk, partition, limits)?);
            }
        }
    }
    Ok(())
}

fn of_group(found: lvm::Found, limits: &Limits) -> Result<Volume> {
    let (disk, contents) = match found.disk {
        Ok(disk) => {
            let contents = contents(&*disk)?;
            (disk, contents)
        }
        Err(why) => (Arc::new(Vec::new()) as Disk, Contents::Unreadable(why)),
    };
    Ok(Volume {
        place: Place::Logical {
            group: found.group,
            name: found.name,
        },
        bytes: found.bytes,
        table_kind: None,
        table_name: None,
        uuid: found.uuid,
        contents,
        disk,
        limits: limits.clone(),
    })
}

fn of_partition(
    index: usize,
    disk: &Disk,
    partition: Partition,
    limits: &Limits,
) -> Result<Volume> {
    let part: Disk = Arc::new(Part::new(
        Arc::clone(disk),
        partition.offset,
        partition.bytes,
    ));
    let contents = match partition.unreadable {
        Some(what) => Contents::Unreadable(what),
        None if part.length() < partition.bytes => {
            Contents::Unreadable("a partition that goes beyond the end of its disk")
        }
        None => contents(&*part)?,
    };
    Ok(Volume {
        place: Place::Partition {
            disk: index,
            number: partition.number,
            offset: partition.offset,
        },
        bytes: partition.bytes,
        table_kind: Some(partition.kind),
        table_name: partition.name,
        uuid: partition.uuid,
        contents,
        disk: part,
        limits: limits.clone(),
    })
}
