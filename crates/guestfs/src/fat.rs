//! FAT12, FAT16 and FAT32 (Microsoft's "FAT: General Overview of On-Disk Format", ECMA-107).

mod boot;
mod directory;
mod name;

use std::sync::Arc;

use crate::content::{Content, Mapped, Piece, Pieces};
use crate::file_system::{Attribute, Cursor, Description, FileSystem, Kind, Metadata, Node, Page};
use crate::source::{Disk, bytes};
use crate::{Error, Limits, Loss, Result};

use boot::Boot;
pub(crate) use boot::is_here;
use directory::Slot;

/// The root has no entry of its own; no other entry is at the very beginning of the disk.
const ROOT: u64 = 0;
/// No directory of FAT has more than 65536 entries of 32 bytes.
const DIRECTORY_BYTES_MAX: u64 = 2 << 20;

/// A FAT file system.
pub(crate) struct Fat {
    disk: Disk,
    boot: Boot,
    limits: Limits,
}

impl Fat {
    pub fn open(disk: Disk, limits: &Limits) -> Result<Self> {
        Ok(Self {
            boot: Boot::read(&*disk)?,
            disk,
            limits: limits.clone(),
        })
    }

    /// The entry of a node; the root has none.
    fn slot(&self, node: Node) -> Result<Option<Slot>> {
        if node.id == ROOT {
            return Ok(None);
        }
        Slot::parse(&bytes(&*self.disk, node.id, 32)?, node.id).map(Some)
    }

    /// What a directory's entries stand in.
    fn directory(&self, node: Node) -> Result<Mapped> {
        let first = match self.slot(node)? {
            Some(slot) if slot.is_directory() => slot.cluster,
            Some(_) => return Err(Error::NotADirectory),
            None => match self.boot.root {
                boot::Root::Fixed { offset, length } => return self.fixed(offset, length),
                boot::Root::Chain(cluster) => cluster,
            },
        };
        let mut mapped = self.chain(first, DIRECTORY_BYTES_MAX)?;
        mapped.length = mapped.valid;
        Ok(mapped)
    }

    fn fixed(&self, offset: u64, length: u64) -> Result<Mapped> {
        let mut pieces = Pieces::default();
        let place = Some(offset);
        pieces.push(
            Piece {
                at: 0,
                length,
                place,
            },
            &self.limits,
        )?;
        Ok(Mapped {
            disk: Arc::clone(&self.disk),
            pieces,
            length,
            valid: length,
        })
    }

    /// Clusters from `first` on, until the chain ends or `enough` bytes are there. It is no longer than the
    /// file system, so that a chain which leads back to itself ends too.
    fn chain(&self, first: u64, enough: u64) -> Result<Mapped> {
        let mut pieces = Pieces::default();
        let cluster_bytes = self.boot.cluster_bytes;
        let (mut next, mut at) = (Some(first), 0);
        while let Some(cluster) = next.filter(|_| at < enough) {
            let piece = Piece {
                at,
                length: cluster_bytes,
                place: Some(self.boot.offset(cluster)?),
            };
            pieces.push(piece, &self.limits)?;
            at += cluster_bytes;
            next = self.boot.next(&*self.disk, cluster)?;
            if at / cluster_bytes > self.boot.clusters {
                return Err(directory::damaged(
                    cluster,
                    "its chain of clusters has no end",
                ));
            }
        }
        Ok(Mapped {
            disk: Arc::clone(&self.disk),
            pieces,
            length: enough,
            valid: at,
        })
    }
}

impl FileSystem for Fat {
    fn describe(&self) -> Description {
        let mut description = self.boot.describe();
        description.losses = vec![
            Loss::Mode,
            Loss::Owner,
            Loss::TimesWithoutZone,
            Loss::CodePage,
        ];
        description
    }

    fn root(&self) -> Node {
        Node::new(ROOT)
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        Ok(match self.slot(node)? {
            Some(slot) => slot.metadata(),
            None => directory::metadata_of_root(),
        })
    }

    fn read_dir(&self, node: Node, from: Cursor) -> Result<Page> {
        directory::page(&self.directory(node)?, from, &self.limits)
    }

    fn open(&self, node: Node) -> Result<Box<dyn Content>> {
        let slot = self.slot(node)?.ok_or(Error::NoContent)?;
        if slot.kind() != Kind::File {
            return Err(Error::NoContent);
        }
        let size = u64::from(slot.size);
        if size == 0 {
            return Ok(Box::new(crate::content::Inline(Vec::new())));
        }
        let mapped = self.chain(slot.cluster, size)?;
        if mapped.valid < size {
            return Err(directory::damaged(
                node.id,
                "its chain of clusters ends too early",
            ));
        }
        Ok(Box::new(mapped))
    }

    fn read_link(&self, _node: Node) -> Result<Vec<u8>> {
        Err(Error::NotALink)
    }

    fn attributes(&self, _node: Node) -> Result<Vec<Attribute>> {
        Ok(Vec::new())
    }

    fn same_name(&self, ours: &[u8], theirs: &[u8]) -> bool {
        let folded = |name: &[u8]| String::from_utf8_lossy(name).to_uppercase();
        folded(ours) == folded(theirs)
    }
}
