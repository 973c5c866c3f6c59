//! Barriers of the store, and a file system that leaves some of them out.
//!
//! The product has no such switch: the role's library is run on this file system instead. Which barrier a
//! call is follows from what it is called on and from what was done before it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use stillwater_format::commit::Entry;
use stillwater_format::log::Scanner;
use stillwater_format::pack::{HEADER_LEN, Header};
use stillwater_store::vfs::{Access, File, Medium, Name, Room, Vfs};

macro_rules! barriers {
    ($($(#[doc = $what:literal])+ $barrier:ident = $name:literal),+ $(,)?) => {
        /// A call that makes something durable, by what it makes durable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Barrier {
            $($(#[doc = $what])+ $barrier,)+
        }

        impl Barrier {
            /// Every barrier that the store has.
            pub const ALL: &'static [Self] = &[$(Self::$barrier),+];

            /// Its word on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$barrier => $name,)+
                }
            }
        }
    };
}

barriers! {
    /// A pack that a session sent, before it gets its name: `Draft::sync`.
    PackData = "pack-data",
    /// The directory that it is named in: `durable::reveal`.
    PackName = "pack-name",
    /// A pack that compaction or salvage copied, before it gets its name: `Draft::sync`.
    CopiedPackData = "copied-pack-data",
    /// Its directory: `durable::reveal`.
    CopiedPackName = "copied-pack-name",
    /// A manifest's first copy, when it is proposed or healed: `durable::publish`.
    ManifestData = "manifest-data",
    /// Its directory: `durable::reveal`.
    ManifestName = "manifest-name",
    /// Its second copy: `durable::publish`.
    ManifestCopyData = "manifest-copy-data",
    /// Its directory: `durable::reveal`.
    ManifestCopyName = "manifest-copy-name",
    /// The directory of a first copy that is there when it is proposed again: `keep_manifest`.
    ManifestAgain = "manifest-again",
    /// The same of its second copy.
    ManifestCopyAgain = "manifest-copy-again",
    /// An entry of the commit log's first copy: `CommitLog::append`.
    Log = "log",
    /// The same of its second copy.
    LogCopy = "log-copy",
    /// What the second copy had more, when a start mends the first: `commit_log::mend`.
    LogMend = "log-mend",
    /// The same of its second copy.
    LogCopyMend = "log-copy-mend",
    /// The log's first copy when it is made, or made anew from the other: `durable::publish`.
    LogData = "log-data",
    /// Its name: `durable::reveal`.
    LogName = "log-name",
    /// The log's second copy when it is made, or made anew from the other: `durable::publish`.
    LogCopyData = "log-copy-data",
    /// Its name: `durable::reveal`.
    LogCopyName = "log-copy-name",
    /// A superblock that is made: `durable::publish`.
    SuperblockData = "superblock-data",
    /// Its name: `durable::reveal`.
    SuperblockName = "superblock-name",
    /// A superblock that is written in place: `superblock::write`.
    Superblock = "superblock",
    /// The directories that packs are spread over: `make_directories`.
    PackFan = "pack-fan",
    /// The directories of first copies of manifests: `make_directories`.
    ManifestFan = "manifest-fan",
    /// The directories of second copies of manifests: `make_directories`.
    ManifestCopyFan = "manifest-copy-fan",
    /// What collection or scrub set aside, in quarantine: `Moves::finish`.
    SetAside = "set-aside",
    /// What is brought back from there because the log has it in use: `Moves::finish`.
    BroughtBack = "brought-back",
    /// The name that stays of a file that has two: `Moves::drop_double`.
    Double = "double",
    /// What was found damaged, in quarantine: `durable::quarantine`.
    DamagedAside = "damaged-aside",
    /// A segment of the chunk index: `Segment::finish`.
    IndexData = "index-data",
    /// The names of segments, and their directory: `durable::reveal`, `SegmentIndex`.
    IndexName = "index-name",
    /// Segments that are set aside, to be made anew: `SegmentIndex`.
    IndexAside = "index-aside",
    /// The times of verification: `durable::publish`.
    VerifiedData = "verified-data",
    /// Their names: `durable::reveal`.
    VerifiedName = "verified-name",
    /// The catalogue of points that redb keeps.
    CatalogueData = "catalogue-data",
    /// Its name.
    CatalogueName = "catalogue-name",
    /// What the self-test of a start tries, in `tmp/`: `fitness::self_test`.
    SelfTest = "self-test",
}

impl Barrier {
    /// The one that makes the content of a file durable that is to get this name. `Who` tells of packs
    /// who made them.
    fn of_content(path: &Path, who: impl FnOnce() -> Maker) -> Option<Self> {
        let (top, rest) = split(path)?;
        Some(match (top, rest) {
            ("packs", _) => match who() {
                Maker::Session => Self::PackData,
                Maker::Copier => Self::CopiedPackData,
            },
            ("manifests", _) => Self::ManifestData,
            ("copy", "commit.log") => Self::LogCopyData,
            ("copy", _) => Self::ManifestCopyData,
            ("commit.log", _) => Self::LogData,
            ("super.a" | "super.b", _) => Self::SuperblockData,
            ("verified.a" | "verified.b", _) => Self::VerifiedData,
            ("index", _) => Self::IndexData,
            ("tmp", _) => Self::SelfTest,
            _ => return None,
        })
    }

    /// The one that makes this name durable, of a file that had none.
    fn of_name(path: &Path, who: impl FnOnce() -> Maker) -> Option<Self> {
        Some(match Self::of_content(path, who)? {
            Self::PackData => Self::PackName,
            Self::CopiedPackData => Self::CopiedPackName,
            Self::ManifestData => Self::ManifestName,
            Self::ManifestCopyData => Self::ManifestCopyName,
            Self::LogData => Self::LogName,
            Self::LogCopyData => Self::LogCopyName,
            Self::SuperblockData => Self::SuperblockName,
            Self::VerifiedData => Self::VerifiedName,
            Self::IndexData => Self::IndexName,
            other => other,
        })
    }

    /// The one that makes the new name durable of a file that had another.
    fn of_move(from: &Path, to: &Path) -> Option<Self> {
        let (old, (new, name)) = (split(from)?.0, split(to)?);
        let extension = Path::new(name).extension().and_then(|found| found.to_str());
        Some(match (old, new, extension) {
            ("index", "quarantine", _) => Self::IndexAside,
            (_, "quarantine", Some("pack" | "mf")) => Self::SetAside,
            (_, "quarantine", _) => Self::DamagedAside,
            ("quarantine", _, _) => Self::BroughtBack,
            _ => return None,
        })
    }

    /// The one that makes a new directory durable.
    fn of_new_dir(path: &Path) -> Option<Self> {
        Some(match split(path)? {
            ("packs", rest) if !rest.is_empty() => Self::PackFan,
            ("manifests", rest) if !rest.is_empty() => Self::ManifestFan,
            ("copy", rest) if rest.starts_with("manifests/") => Self::ManifestCopyFan,
            ("index", _) => Self::IndexName,
            ("quarantine", "index") => Self::IndexAside,
            _ => return None,
        })
    }

    /// The one that makes names durable that somebody else may have left.
    fn of_old_names(dir: &Path) -> Option<Self> {
        Some(match split(dir)? {
            ("manifests", _) => Self::ManifestAgain,
            ("copy", rest) if rest.starts_with("manifests/") => Self::ManifestCopyAgain,
            ("index", _) | ("quarantine", "index") => Self::IndexAside,
            ("tmp", _) => Self::SelfTest,
            ("packs", rest) if !rest.is_empty() => Self::BroughtBack,
            ("quarantine", _) => Self::SetAside,
            _ => return None,
        })
    }

    /// The one that makes durable what is changed in a file where it lies.
    fn in_place(path: &Path, is_mended: bool) -> Option<Self> {
        Some(match (path.to_str()?, is_mended) {
            ("commit.log", false) => Self::Log,
            ("commit.log", true) => Self::LogMend,
            ("copy/commit.log", false) => Self::LogCopy,
            ("copy/commit.log", true) => Self::LogCopyMend,
            ("super.a" | "super.b", _) => Self::Superblock,
            ("catalogue.redb", _) => Self::CatalogueData,
            _ => return None,
        })
    }

    /// Whether it is one of packs, of which the maker counts.
    const fn is_of_packs(self) -> bool {
        matches!(
            self,
            Self::PackData | Self::PackName | Self::CopiedPackData | Self::CopiedPackName
        )
    }
}

/// The first part of a path, and what follows it.
fn split(path: &Path) -> Option<(&str, &str)> {
    let text = path.to_str()?;
    Some(text.split_once('/').unwrap_or((text, "")))
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Barrier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|barrier| barrier.name() == text);
        found
            .copied()
            .ok_or_else(|| format!("{text} is no barrier"))
    }
}

/// Who made a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Session,
    /// Compaction, or the salvage of a damaged pack.
    Copier,
}

/// What is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without {
    /// Barriers.
    pub barriers: BTreeSet<Barrier>,
    /// No barrier: space is not reserved for packs, as on file systems that cannot. What gives it back
    /// makes XFS write the pack's bytes.
    pub reserve: bool,
}

impl Without {
    /// Nothing is left out.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These barriers.
    pub fn barriers(barriers: &[Barrier]) -> Self {
        Self {
            barriers: barriers.iter().copied().collect(),
            reserve: false,
        }
    }

    /// Whether there is something to leave out.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn keeps(&self, barrier: Barrier) -> bool {
        !self.barriers.contains(&barrier)
    }
}

/// A file system on which some barriers do nothing. It panics at one that it does not know, so that none
/// is left out of the table.
pub struct Knocked {
    below: Arc<dyn Vfs>,
    without: Without,
    /// Files in `tmp/`, which are synced before it shows what they become.
    unnamed: Mutex<HashMap<PathBuf, Arc<Unnamed>>>,
    /// What each thread changed in directories since it synced them.
    changed: Mutex<HashMap<(ThreadId, PathBuf), BTreeSet<Barrier>>>,
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
            changed: Mutex::default(),
        }
    }

    fn note(&self, path: &Path, barrier: Option<Barrier>) {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new(".")).to_owned();
        let mut changed = held(&self.changed);
        let changes = changed.entry((thread::current().id(), dir)).or_default();
        changes.extend(barrier);
    }

    /// Whether the sync of a directory is left out: as all of the barriers that it is.
    fn is_left_out(&self, dir: &Path) -> bool {
        let key = (thread::current().id(), dir.to_owned());
        let mut barriers = held(&self.changed).remove(&key).unwrap_or_default();
        if barriers.is_empty() {
            barriers.extend(Barrier::of_old_names(dir));
        }
        assert!(!barriers.is_empty(), "no barrier syncs {}", dir.display());
        barriers.is_subset(&self.without.barriers)
    }

    /// A session's pack has the place in the log at which the session was opened; a copied one has the
    /// place that the copier looked at.
    fn maker(&self, file: &dyn File) -> Maker {
        if !self.without.barriers.iter().any(|one| one.is_of_packs()) {
            return Maker::Session;
        }
        let mut bytes = [0; HEADER_LEN];
        let read = file.read_exact_at(&mut bytes, 0);
        let header = Header::decode(&bytes);
        match (read, header) {
            (Ok(()), Ok(header)) if !self.is_opening(header.fence) => Maker::Copier,
            _ => Maker::Session,
        }
    }

    fn is_opening(&self, place: u64) -> bool {
        let read = || {
            let log = self.below.open(Path::new("commit.log"), Access::Read)?;
            let mut bytes = vec![0; log.len()? as usize];
            log.read_exact_at(&mut bytes, 0)?;
            io::Result::Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let mut scanner = Scanner::new(&bytes);
        while let Ok(Some(frame)) = scanner.read() {
            if frame.sequence == place {
                let entry = Entry::decode(frame.kind, frame.payload);
                return matches!(entry, Ok(Entry::SessionOpened { .. }));
            }
        }
        false
    }

    /// Syncs what is to get a name, unless that is left out. Tells which barrier the name then is.
    fn sync_unnamed(&self, unnamed: &Unnamed, to: &Path) -> io::Result<Option<Barrier>> {
        let who = || self.maker(&*unnamed.file);
        if *held(&unnamed.waits) {
            let barrier = Barrier::of_content(to, who);
            let barrier = barrier.unwrap_or_else(|| panic!("no barrier syncs {}", to.display()));
            if self.without.keeps(barrier) {
                unnamed.file.sync()?;
            }
        }
        Ok(Barrier::of_name(to, who))
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vfs for Knocked {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.below.create_new(path)?;
        if !path.starts_with("tmp") {
            let is_redb = path == Path::new("catalogue.redb");
            self.note(path, is_redb.then_some(Barrier::CatalogueName));
            return Ok(file);
        }
        let waits = Mutex::new(false);
        let unnamed = Arc::new(Unnamed { file, waits });
        held(&self.unnamed).insert(path.to_owned(), Arc::clone(&unnamed));
        Ok(Box::new(Handle {
            file: Held::Unnamed(unnamed),
            reserves: !self.without.reserve,
        }))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.below.open(path, access)?;
        if access == Access::Read {
            return Ok(file);
        }
        let syncs = [false, true].map(|mended| Barrier::in_place(path, mended));
        let keeps = |barrier| self.without.keeps(barrier);
        Ok(Box::new(Handle {
            file: Held::Named {
                file,
                keeps: syncs.map(|barrier| barrier.map(keeps)),
                is_continued: AtomicBool::new(false),
            },
            reserves: true,
        }))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let unnamed = held(&self.unnamed).remove(from);
        let barrier = match &unnamed {
            Some(unnamed) => self.sync_unnamed(unnamed, to)?,
            None => Barrier::of_move(from, to),
        };
        let renamed = self.below.rename_noreplace(from, to);
        match &renamed {
            Ok(()) => self.note(to, barrier),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.note(to, Some(Barrier::Double));
            }
            Err(_) => {}
        }
        renamed
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        held(&self.unnamed).remove(path);
        self.below.remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.below.make_dir(path)?;
        self.note(path, Barrier::of_new_dir(path));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Name>> {
        self.below.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.is_left_out(dir) {
            Ok(())
        } else {
            self.below.sync_dir(dir)
        }
    }

    fn room(&self) -> io::Result<Room> {
        self.below.room()
    }

    fn medium(&self) -> io::Result<Medium> {
        self.below.medium()
    }
}

struct Handle {
    file: Held,
    reserves: bool,
}

enum Held {
    Unnamed(Arc<Unnamed>),
    /// One that is changed where it lies. Whether it keeps its sync depends on whether space was reserved
    /// in it: the commit log's, which is appended to, has that, and while it is mended it has not.
    Named {
        file: Box<dyn File>,
        keeps: [Option<bool>; 2],
        is_continued: AtomicBool,
    },
}

impl Handle {
    fn file(&self) -> &dyn File {
        match &self.file {
            Held::Unnamed(unnamed) => &*unnamed.file,
            Held::Named { file, .. } => &**file,
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
        if !self.reserves && self.len()? == length {
            return Ok(());
        }
        self.file().set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        if let Held::Named { is_continued, .. } = &self.file {
            is_continued.store(true, Ordering::Relaxed);
        }
        if self.reserves {
            self.file().reserve(offset, length)
        } else {
            Ok(())
        }
    }

    fn sync(&self) -> io::Result<()> {
        match &self.file {
            Held::Unnamed(unnamed) => *held(&unnamed.waits) = true,
            Held::Named {
                file,
                keeps: [continued, mended],
                is_continued,
            } => {
                let is_continued = is_continued.load(Ordering::Relaxed);
                let is_kept = if is_continued { continued } else { mended };
                if is_kept.expect("the sync of a file that a barrier is known of") {
                    file.sync()?;
                }
            }
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
            assert_eq!(barrier.name().parse(), Ok(*barrier));
        }
    }

    #[test]
    fn what_a_call_makes_durable_is_told_from_its_path() {
        use Barrier::*;
        let session = || Maker::Session;
        let content = |path: &str| Barrier::of_content(Path::new(path), session);
        assert_eq!(content("packs/0a/x.pack"), Some(PackData));
        assert_eq!(content("copy/manifests/0a/x.mf"), Some(ManifestCopyData));
        assert_eq!(content("super.b"), Some(SuperblockData));
        assert_eq!(content("lock"), None);
        let name = |path: &str| Barrier::of_name(Path::new(path), || Maker::Copier);
        assert_eq!(name("packs/0a/x.pack"), Some(CopiedPackName));
        assert_eq!(name("copy/commit.log"), Some(LogCopyName));
        let moved = |from: &str, to: &str| Barrier::of_move(Path::new(from), Path::new(to));
        assert_eq!(
            moved("packs/0a/x.pack", "quarantine/x.pack"),
            Some(SetAside)
        );
        assert_eq!(
            moved("manifests/0a/x.mf", "quarantine/x.mf.y"),
            Some(DamagedAside)
        );
        assert_eq!(
            moved("quarantine/x.mf", "manifests/0a/x.mf"),
            Some(BroughtBack)
        );
        let old = |dir: &str| Barrier::of_old_names(Path::new(dir));
        assert_eq!(old("manifests/0a"), Some(ManifestAgain));
        assert_eq!(old("packs"), None);
        let in_place = |path: &str, mended| Barrier::in_place(Path::new(path), mended);
        assert_eq!(in_place("commit.log", false), Some(Log));
        assert_eq!(in_place("copy/commit.log", true), Some(LogCopyMend));
    }
}
