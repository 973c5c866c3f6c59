//! A repository that is read without any service.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use stillwater_chunking::Decompressor;
use stillwater_format::manifest::{Disk, MANIFEST_BYTES_MAX, Manifest, manifest_hash};
use stillwater_format::node::{Branch, Entries, Leaf};
use stillwater_format::pack::RecordId;
use stillwater_seal::{RecoveryKey, SealError, WrappedDatasetKey};
use stillwater_types::{DatasetId, Extent, PointId, TreeId};

use crate::directory::Directory;
use crate::history::History;
use crate::ledger::{self, Point};
use crate::packs::Packs;
use crate::records::{self, Vault};
use crate::tree::{Piece, Walk, add};
use crate::{Draft, Error, ImageFormat, Notes, Section};

/// What goes on, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The tables of packs are read.
    Packs {
        /// So many.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// A disk is written.
    Disk {
        /// The device key.
        key: i32,
        /// Bytes of the disk.
        done: u64,
        /// Its length.
        total: u64,
    },
}

/// Hears what goes on.
pub type Listener<'a> = &'a mut dyn FnMut(Progress);

/// A disk that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The device key.
    pub key: i32,
    /// Its length.
    pub length: u64,
    /// Where zeros stand for what is lost, ascending; empty if every byte was proved.
    pub zero_filled: Vec<Extent>,
}

type WholeTrees = HashSet<(TreeId, u8, u64)>;

/// An open repository.
pub struct Recovery {
    directory: Directory,
    points: Vec<Point>,
    vaults: HashMap<DatasetId, Vault>,
    packs: Packs,
    /// Trees of which all is there, with the level and span under which they were looked for.
    whole: WholeTrees,
    notes: Notes,
}

impl Recovery {
    /// Reads what a directory holds, and opens it with the recovery key.
    ///
    /// # Errors
    /// When there is no repository, one of a newer release, or the key opens none of its datasets.
    pub fn open(root: &Path, key: &RecoveryKey, listener: Listener<'_>) -> Result<Self, Error> {
        let directory = Directory::new(root);
        let mut notes = Notes::default();
        let entries = ledger::read(&directory, &mut notes)?;
        let History {
            datasets, points, ..
        } = History::of(entries);
        let mut vaults = HashMap::new();
        let mut refused = None;
        for dataset in &datasets {
            let opened = WrappedDatasetKey::from_slice(&dataset.wrapped_key)
                .and_then(|wrapped| key.unwrap(dataset.id, &wrapped))
                .and_then(|key| Vault::new(dataset.id, key));
            match opened {
                Ok(vault) => drop(vaults.insert(dataset.id, vault)),
                Err(error) => {
                    notes.add(format!("cannot open dataset {}: {error}", dataset.id));
                    refused = Some(error);
                }
            }
        }
        if vaults.is_empty() {
            return Err(refused.map_or(Error::NoDataset, Error::Key));
        }
        let mut told = |done, total| listener(Progress::Packs { done, total });
        let packs = Packs::load(&directory, &mut notes, &mut told)?;
        let whole = HashSet::new();
        Ok(Self {
            directory,
            points,
            vaults,
            packs,
            whole,
            notes,
        })
    }

    /// What was found out of order so far.
    pub const fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Every point that was ever committed, in the order of the log, deleted ones too.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// How many chunks and nodes were found.
    pub fn record_count(&self) -> usize {
        self.packs.record_count()
    }

    /// A point's manifest, from whichever copy fits its commit record.
    ///
    /// # Errors
    /// When there is no such point, it was deleted and `deleted` is not set, or no copy fits.
    pub fn manifest(&mut self, point: PointId, deleted: bool) -> Result<Manifest, Error> {
        let hash = ledger::find(&self.points, point, deleted)?
            .commit
            .manifest_hash;
        for path in self.directory.manifests(point) {
            let limit = MANIFEST_BYTES_MAX as u64 + 1;
            let Some(bytes) = self.directory.load(&path, limit, &mut self.notes) else {
                continue;
            };
            if manifest_hash(&bytes) != hash {
                let path = path.display();
                self.notes
                    .add(format!("{path} is damaged; another copy is looked for"));
                continue;
            }
            match Manifest::decode(&bytes) {
                Ok(manifest) => return Ok(manifest),
                Err(error @ stillwater_format::Error::TooNew { .. }) => {
                    return Err(Error::TooNew(error));
                }
                Err(error) => self
                    .notes
                    .add(format!("{} is malformed: {error}", path.display())),
            }
        }
        Err(Error::ManifestUnreadable(point))
    }

    /// What is sealed in a manifest.
    ///
    /// # Errors
    /// When the key of its dataset is not at hand. A section that is damaged is noted and is none.
    pub fn section(&mut self, manifest: &Manifest) -> Result<Option<Section>, Error> {
        let point = manifest.point;
        let vault = self
            .vaults
            .get(&manifest.dataset)
            .ok_or(Error::Locked(point))?;
        let opened: Result<_, SealError> =
            vault
                .key()
                .open_manifest(vault.dataset(), point.as_bytes(), &manifest.sealed);
        let section = match opened {
            Ok(plain) => Section::decode(&plain),
            Err(error) => Err(error.to_string()),
        };
        match section {
            Ok(section) => Ok(Some(section)),
            Err(error) => {
                self.notes.add(format!(
                    "cannot read the configuration in point {point}: {error}"
                ));
                Ok(None)
            }
        }
    }

    /// Where parts of a disk are not to be found. Reads every node, and looks for every chunk in the tables
    /// of packs; what is there may still turn out damaged when it is read.
    pub fn survey(&mut self, disk: &Disk) -> Vec<Extent> {
        let mut survey = Survey {
            packs: &mut self.packs,
            whole: &mut self.whole,
            lost: Vec::new(),
        };
        let branch = Branch {
            span: disk.root.length,
            id: disk.root.top,
        };
        survey.visit(branch, disk.root.level, 0);
        survey.lost
    }

    /// Restores a disk into a draft beside `path`, which the caller publishes. Every byte of it is proved;
    /// with `fill_zeros`, zeros stand for what is lost.
    ///
    /// # Errors
    /// When parts are lost and must not be zeros, or the file cannot be written.
    pub fn restore(
        &mut self,
        manifest: &Manifest,
        disk: &Disk,
        target: (&Path, ImageFormat),
        fill_zeros: bool,
        listener: Listener<'_>,
    ) -> Result<(Draft, Restored), Error> {
        let (path, format) = target;
        let draft = Draft::begin(path)?;
        let (key, length) = (disk.key, disk.root.length);
        if !fill_zeros {
            refuse(key, self.survey(disk))?;
        }
        let zero_filled = self.copy(manifest, disk, &draft, format, listener)?;
        if !fill_zeros {
            refuse(key, zero_filled.clone())?;
        }
        Ok((
            draft,
            Restored {
                key,
                length,
                zero_filled,
            },
        ))
    }

    fn copy(
        &mut self,
        manifest: &Manifest,
        disk: &Disk,
        draft: &Draft,
        format: ImageFormat,
        listener: Listener<'_>,
    ) -> Result<Vec<Extent>, Error> {
        let (key, total) = (disk.key, disk.root.length);
        let Self { packs, vaults, .. } = self;
        let vault = vaults
            .get_mut(&manifest.dataset)
            .ok_or(Error::Locked(manifest.point))?;
        let mut image = format.begin(draft, total)?;
        let no_memory =
            |error| Error::io("decompress for", draft.path())(std::io::Error::other(error));
        let mut decompressor = Decompressor::new().map_err(no_memory)?;
        let mut lost = Vec::new();
        let mut walk = Walk::new(&disk.root);
        while let Some(piece) = walk.next(|id| records::node(packs, id)) {
            let done = match piece {
                Piece::Hole(extent) => extent.end(),
                Piece::Lost(extent) => {
                    add(&mut lost, extent);
                    extent.end()
                }
                Piece::Chunk { offset, length, id } => {
                    let extent = Extent::new(offset, u64::from(length));
                    match records::chunk(packs, vault, &mut decompressor, id, length) {
                        Some(plain) => image
                            .write(offset, &plain)
                            .map_err(Error::io("write", draft.path()))?,
                        None => add(&mut lost, extent),
                    }
                    extent.end()
                }
            };
            listener(Progress::Disk { key, done, total });
        }
        image.finish().map_err(Error::io("write", draft.path()))?;
        Ok(lost)
    }
}

/// Looks for all that a tree reaches, and remembers the subtrees that are whole: disks and points share
/// most of theirs.
struct Survey<'a> {
    packs: &'a mut Packs,
    whole: &'a mut WholeTrees,
    lost: Vec<Extent>,
}

impl Survey<'_> {
    /// Whether all is there. Levels sink with every step down, so no tree is deeper than the format allows.
    fn visit(&mut self, branch: Branch, level: u8, offset: u64) -> bool {
        let Branch { span, id } = branch;
        if self.whole.contains(&(id, level, span)) {
            return true;
        }
        let node = records::node(self.packs, id)
            .filter(|node| node.level() == level && node.span() == span);
        let Some(node) = node else {
            add(&mut self.lost, Extent::new(offset, span));
            return false;
        };
        let is_whole = match node.into_entries() {
            Entries::Leaves(leaves) => self.visit_leaves(&leaves, offset),
            Entries::Branches(branches) => self.visit_branches(&branches, level, offset),
        };
        if is_whole {
            self.whole.insert((id, level, span));
        }
        is_whole
    }

    fn visit_leaves(&mut self, leaves: &[Leaf], start: u64) -> bool {
        let (mut offset, mut is_whole) = (start, true);
        for leaf in leaves {
            if let Leaf::Chunk { id, .. } = leaf
                && self.packs.places(&RecordId::from(*id)).is_empty()
            {
                add(&mut self.lost, Extent::new(offset, leaf.span()));
                is_whole = false;
            }
            offset = offset.saturating_add(leaf.span());
        }
        is_whole
    }

    fn visit_branches(&mut self, branches: &[Branch], level: u8, start: u64) -> bool {
        let (mut offset, mut is_whole) = (start, true);
        for branch in branches {
            is_whole &= self.visit(*branch, level.saturating_sub(1), offset);
            offset = offset.saturating_add(branch.span);
        }
        is_whole
    }
}

fn refuse(key: i32, lost: Vec<Extent>) -> Result<(), Error> {
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::Damaged { key, lost })
}
