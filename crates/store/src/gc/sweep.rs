//! Moves and removes the files that the log names, and no others.
//!
//! The decision is on the log first, so whatever a crash left undone is done at the next start, and
//! before that by the next cycle. A name in quarantine that is not exactly one that is made here is not
//! touched: what was found damaged lies there too.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use stillwater_types::{PackId, PointId};

use super::Roots;
use crate::fates::{Fates, Standing};
use crate::pack::table;
use crate::vfs::{Access, Vfs};
use crate::{Error, layout};

/// Makes the files what the log says, at a start, before anything is read from them.
///
/// Packs and manifests that lie in quarantine though the log has them in use are brought back: it was
/// restored from a time before they were taken out.
pub(crate) fn settle(vfs: &dyn Vfs, fates: &Fates, roots: &Roots) -> Result<(), Error> {
    let mut moves = Moves::new(vfs);
    let present: BTreeSet<_> = table::list(vfs)?.into_iter().collect();
    for pack in present {
        if !fates.is_readable(pack) {
            moves.rename(&layout::pack(pack), &layout::quarantined_pack(pack))?;
        }
    }
    moves.finish()?;
    let mut moves = Moves::new(vfs);
    for name in quarantine(vfs)? {
        match Lying::of(&name) {
            Some(Lying::Pack(pack)) if fates.is_readable(pack) => {
                moves.rename(&layout::quarantined_pack(pack), &layout::pack(pack))?;
            }
            Some(Lying::Pack(pack)) if fates.of(pack) == Some(Standing::Removed) => {
                moves.remove(&layout::quarantined_pack(pack))?;
            }
            Some(Lying::Manifest(point)) if roots.has(point) => bring_back(&mut moves, point)?,
            _ => {}
        }
    }
    moves.finish()
}

/// Does again what an earlier cycle decided and failed to do: moves and removes what is still there.
pub(super) fn catch_up(vfs: &dyn Vfs, standings: &[(PackId, Standing)]) -> Result<(), Error> {
    let mut moves = Moves::new(vfs);
    let (present, aside) = (table::list(vfs)?, quarantine(vfs)?);
    let aside: BTreeSet<_> = aside.iter().filter_map(|name| Lying::of(name)).collect();
    for (pack, standing) in standings {
        let is_out = matches!(standing, Standing::Quarantined { .. } | Standing::Removed);
        let was_moved = is_out && present.contains(pack);
        if was_moved {
            moves.rename(&layout::pack(*pack), &layout::quarantined_pack(*pack))?;
        }
        let is_aside = was_moved || aside.contains(&Lying::Pack(*pack));
        if is_aside && *standing == Standing::Removed {
            moves.remove(&layout::quarantined_pack(*pack))?;
        }
    }
    moves.finish()
}

/// Moves packs to quarantine; the log has them there.
pub(crate) fn set_aside(vfs: &dyn Vfs, packs: &[PackId]) -> Result<(), Error> {
    let mut moves = Moves::new(vfs);
    for pack in packs {
        moves.rename(&layout::pack(*pack), &layout::quarantined_pack(*pack))?;
    }
    moves.finish()
}

/// How long a pack in quarantine is; zero if it is not there.
pub(crate) fn length(vfs: &dyn Vfs, pack: PackId) -> Result<u64, Error> {
    let path = layout::quarantined_pack(pack);
    match vfs.open(&path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        opened => {
            let file = opened.map_err(Error::io("open", &path))?;
            file.len().map_err(Error::io("measure", &path))
        }
    }
}

/// Removes packs from quarantine; the log has them as removed.
pub(super) fn remove(vfs: &dyn Vfs, packs: &[PackId]) -> Result<(), Error> {
    let mut moves = Moves::new(vfs);
    for pack in packs {
        moves.remove(&layout::quarantined_pack(*pack))?;
    }
    moves.finish()
}

/// What becomes of the manifests of a deleted point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manifests {
    /// They lie in quarantine.
    SetAside,
    /// They are gone.
    Removed,
}

/// Takes the manifests of deleted points out of the way.
pub(super) fn clear(vfs: &dyn Vfs, points: &[(PointId, Manifests)]) -> Result<(), Error> {
    let mut moves = Moves::new(vfs);
    for (point, what) in points {
        let paths = layout::manifest(*point)
            .into_iter()
            .zip(layout::quarantined_manifest(*point));
        for (from, to) in paths {
            moves.rename(&from, &to)?;
            if *what == Manifests::Removed {
                moves.remove(&to)?;
            }
        }
    }
    moves.finish()
}

fn bring_back(moves: &mut Moves<'_>, point: PointId) -> Result<(), Error> {
    let paths = layout::quarantined_manifest(point)
        .into_iter()
        .zip(layout::manifest(point));
    for (from, to) in paths {
        moves.rename(&from, &to)?;
    }
    Ok(())
}

/// What a name in quarantine says, if it is one that is made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lying {
    Pack(PackId),
    Manifest(PointId),
}

impl Lying {
    fn of(name: &str) -> Option<Self> {
        let pack = layout::parse_pack(name).map(Self::Pack);
        pack.or_else(|| layout::parse_quarantined_manifest(name).map(Self::Manifest))
    }
}

fn quarantine(vfs: &dyn Vfs) -> Result<Vec<String>, Error> {
    let dir = Path::new(layout::QUARANTINE);
    let names = vfs.list(dir).map_err(Error::io("list", dir))?;
    Ok(names.into_iter().map(|name| name.name).collect())
}

/// Changes of names, and the directories that have to be synced after them.
///
/// Only those that something was moved to: it must not be lost from both. A name that comes back after a
/// crash, because nobody synced that it went, goes again at the next start.
struct Moves<'a> {
    vfs: &'a dyn Vfs,
    to: BTreeSet<PathBuf>,
}

impl<'a> Moves<'a> {
    fn new(vfs: &'a dyn Vfs) -> Self {
        let to = BTreeSet::new();
        Self { vfs, to }
    }

    /// Moves a file that may have been moved before.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        match self.vfs.rename_noreplace(from, to) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return self.drop_double(from, to);
            }
            moved => moved.map_err(Error::io("move", from))?,
        }
        self.to.insert(layout::parent(to).to_owned());
        Ok(())
    }

    /// A crash in the middle of a move may leave both names of the file.
    fn drop_double(&mut self, from: &Path, to: &Path) -> Result<(), Error> {
        if !exists(self.vfs, from)? {
            return Ok(());
        }
        if is_same(self.vfs, from, to)? {
            // The name that stays must be durable before the other one goes.
            let dir = layout::parent(to);
            let synced = self.vfs.sync_dir(dir);
            synced.map_err(Error::io("sync directory", dir))?;
            return self.remove(from);
        }
        let (from, to) = (from.display(), to.display());
        tracing::error!(%from, %to, "left a file where it is; another one has the name it is to get");
        Ok(())
    }

    /// Removes a file that may be gone.
    fn remove(&mut self, path: &Path) -> Result<(), Error> {
        match self.vfs.remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io("remove", path)),
        }
    }

    fn finish(self) -> Result<(), Error> {
        for dir in self.to {
            let synced = self.vfs.sync_dir(&dir);
            synced.map_err(Error::io("sync directory", &dir))?;
        }
        Ok(())
    }
}

fn exists(vfs: &dyn Vfs, path: &Path) -> Result<bool, Error> {
    match vfs.open(path, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        opened => opened.map(|_| true).map_err(Error::io("open", path)),
    }
}

/// Whether two files have the same bytes.
fn is_same(vfs: &dyn Vfs, one: &Path, other: &Path) -> Result<bool, Error> {
    let open = |path: &Path| {
        let file = vfs.open(path, Access::Read);
        file.map_err(Error::io("open", path))
    };
    let (first, second) = (open(one)?, open(other)?);
    let length = first.len().map_err(Error::io("measure", one))?;
    if second.len().map_err(Error::io("measure", other))? != length {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; BLOCK], vec![0; BLOCK]);
    for offset in (0..length).step_by(BLOCK) {
        let found = first.read_at(&mut a, offset);
        let found = found.map_err(Error::io("read", one))?;
        second
            .read_at(&mut b, offset)
            .map_err(Error::io("read", other))?;
        if a.get(..found) != b.get(..found) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is compared at once.
const BLOCK: usize = 1 << 20;
