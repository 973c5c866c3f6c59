//! Barriers of the write path, and a file system that leaves some of them out.
//!
//! The product has no such switch: the role's library is run on this file system instead.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_store::vfs::{Access, File, Medium, Name, Room, Vfs};

/// A call that makes something durable, by what it makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Barrier {
    /// The sync of a pack before it gets its name.
    PackData,
    /// The sync of the directory that a pack is named in.
    PackName,
    /// The same of a manifest's first copy.
    ManifestData,
    /// Its directory.
    ManifestName,
    /// The same of its second copy.
    ManifestCopyData,
    /// Its directory.
    ManifestCopyName,
    /// The sync after an append to the commit log's first copy, and while it is mended.
    Log,
    /// The same of its second copy.
    LogCopy,
    /// The sync of the log's first copy when it is made.
    LogData,
    /// The same of its second copy.
    LogCopyData,
    /// The sync of a superblock that is made.
    SuperblockData,
    /// The sync of a superblock that is written in place.
    Superblock,
    /// The sync of the repository's own directory.
    RootNames,
    /// The sync of the directory of the second copies.
    CopyNames,
    /// The sync of the directories that hold fan-out directories.
    FanNames,
    /// The sync of the quarantine's directory.
    QuarantineNames,
}

impl Barrier {
    /// Every barrier.
    pub const ALL: [Self; 16] = [
        Self::PackData,
        Self::PackName,
        Self::ManifestData,
        Self::ManifestName,
        Self::ManifestCopyData,
        Self::ManifestCopyName,
        Self::Log,
        Self::LogCopy,
        Self::LogData,
        Self::LogCopyData,
        Self::SuperblockData,
        Self::Superblock,
        Self::RootNames,
        Self::CopyNames,
        Self::FanNames,
        Self::QuarantineNames,
    ];

    /// Its word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PackData => "pack-data",
            Self::PackName => "pack-name",
            Self::ManifestData => "manifest-data",
            Self::ManifestName => "manifest-name",
            Self::ManifestCopyData => "manifest-copy-data",
            Self::ManifestCopyName => "manifest-copy-name",
            Self::Log => "log",
            Self::LogCopy => "log-copy",
            Self::LogData => "log-data",
            Self::LogCopyData => "log-copy-data",
            Self::SuperblockData => "superblock-data",
            Self::Superblock => "superblock",
            Self::RootNames => "root-names",
            Self::CopyNames => "copy-names",
            Self::FanNames => "fan-names",
            Self::QuarantineNames => "quarantine-names",
        }
    }

    /// The one that makes the content of the file at `path` durable.
    fn of_file(path: &Path, in_place: bool) -> Option<Self> {
        let text = path.to_str()?;
        Some(match (text, in_place) {
            ("commit.log", true) => Self::Log,
            ("copy/commit.log", true) => Self::LogCopy,
            ("commit.log", false) => Self::LogData,
            ("copy/commit.log", false) => Self::LogCopyData,
            ("super.a" | "super.b", true) => Self::Superblock,
            ("super.a" | "super.b", false) => Self::SuperblockData,
            _ if text.starts_with("packs/") => Self::PackData,
            _ if text.starts_with("manifests/") => Self::ManifestData,
            _ if text.starts_with("copy/manifests/") => Self::ManifestCopyData,
            _ => return None,
        })
    }

    /// The one that makes the names in `dir` durable.
    fn of_dir(dir: &Path) -> Option<Self> {
        let text = dir.to_str()?;
        Some(match text {
            "." => Self::RootNames,
            "copy" => Self::CopyNames,
            "packs" | "manifests" | "copy/manifests" => Self::FanNames,
            "quarantine" => Self::QuarantineNames,
            _ if text.starts_with("packs/") => Self::PackName,
            _ if text.starts_with("manifests/") => Self::ManifestName,
            _ if text.starts_with("copy/manifests/") => Self::ManifestCopyName,
            _ => return None,
        })
    }
}

impl FromStr for Barrier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|barrier| barrier.name() == text);
        found.ok_or_else(|| format!("{text} is no barrier"))
    }
}

/// Barriers that are left out.
pub type Without = BTreeSet<Barrier>;

/// A file system on which some barriers do nothing.
pub struct Knocked {
    below: Arc<dyn Vfs>,
    without: Without,
    /// Files in `tmp/`, which are synced before it shows what they become.
    unnamed: Mutex<HashMap<PathBuf, Arc<Unnamed>>>,
}

struct Unnamed {
    file: Box<dyn File>,
    /// Whether a sync was asked for and waits for the name. Nothing lies between the two.
    waits: Mutex<bool>,
}

impl Knocked {
    /// Leaves `without` out of what `below` is asked.
    pub fn new(below: Arc<dyn Vfs>, without: Without) -> Self {
        Self {
            below,
            without,
            unnamed: Mutex::default(),
        }
    }

    fn keeps(&self, barrier: Option<Barrier>) -> bool {
        barrier.is_none_or(|barrier| !self.without.contains(&barrier))
    }

    fn unnamed(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Unnamed>>> {
        held(&self.unnamed)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vfs for Knocked {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.below.create_new(path)?;
        if !path.starts_with("tmp") {
            return Ok(file);
        }
        let waits = Mutex::new(false);
        let unnamed = Arc::new(Unnamed { file, waits });
        self.unnamed().insert(path.to_owned(), Arc::clone(&unnamed));
        Ok(Box::new(Handle::Unnamed(unnamed)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.below.open(path, access)?;
        if self.keeps(Barrier::of_file(path, true)) {
            Ok(file)
        } else {
            Ok(Box::new(Handle::Loose(file)))
        }
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let unnamed = self.unnamed().remove(from);
        if let Some(unnamed) = unnamed
            && *held(&unnamed.waits)
            && self.keeps(Barrier::of_file(to, false))
        {
            unnamed.file.sync()?;
        }
        self.below.rename_noreplace(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.unnamed().remove(path);
        self.below.remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.below.make_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        self.below.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.keeps(Barrier::of_dir(dir)) {
            self.below.sync_dir(dir)
        } else {
            Ok(())
        }
    }

    fn room(&self) -> io::Result<Room> {
        self.below.room()
    }

    fn medium(&self) -> io::Result<Medium> {
        self.below.medium()
    }
}

enum Handle {
    Unnamed(Arc<Unnamed>),
    /// One whose sync is left out.
    Loose(Box<dyn File>),
}

impl Handle {
    fn file(&self) -> &dyn File {
        match self {
            Self::Unnamed(unnamed) => &*unnamed.file,
            Self::Loose(file) => &**file,
        }
    }
}

impl File for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file().read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file().len()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file().set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file().reserve(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        if let Self::Unnamed(unnamed) = self {
            *held(&unnamed.waits) = true;
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file().try_lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_barrier_is_called_by_its_name() {
        for barrier in Barrier::ALL {
            assert_eq!(barrier.name().parse(), Ok(barrier));
        }
    }

    #[test]
    fn what_a_call_makes_durable_is_told_from_its_path() {
        let file = |path: &str, in_place| Barrier::of_file(Path::new(path), in_place);
        assert_eq!(file("packs/0a/x.pack", false), Some(Barrier::PackData));
        assert_eq!(
            file("copy/manifests/0a/x.mf", false),
            Some(Barrier::ManifestCopyData)
        );
        assert_eq!(file("commit.log", true), Some(Barrier::Log));
        assert_eq!(file("super.b", false), Some(Barrier::SuperblockData));
        assert_eq!(file("tmp/x", false), None);
        let dir = |path: &str| Barrier::of_dir(Path::new(path));
        assert_eq!(dir("."), Some(Barrier::RootNames));
        assert_eq!(dir("packs"), Some(Barrier::FanNames));
        assert_eq!(dir("packs/0a"), Some(Barrier::PackName));
        assert_eq!(dir("tmp"), None);
    }
}
