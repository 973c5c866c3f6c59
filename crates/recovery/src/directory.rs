//! The repository's directory, only ever read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stillwater_types::PointId;

use crate::{Error, Notes};

pub(crate) const SUPERBLOCKS: [&str; 2] = ["super.a", "super.b"];
pub(crate) const COMMIT_LOGS: [&str; 2] = ["commit.log", "copy/commit.log"];
const MANIFESTS: [&str; 2] = ["manifests", "copy/manifests"];
const PACKS: &str = "packs";
const QUARANTINE: &str = "quarantine";

/// Where a repository is.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of at most `limit` bytes, whatever more it has. None if it cannot be read; a fault of the
    /// disk is noted, since the file has a copy.
    pub(crate) fn load(&self, name: &Path, limit: u64, notes: &mut Notes) -> Option<Vec<u8>> {
        match read(&self.root.join(name), limit) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                notes.add(format!("cannot read {}: {error}", name.display()));
                None
            }
        }
    }

    /// Every file that may be a pack: those under their names, then those that were taken out.
    pub(crate) fn packs(&self, notes: &mut Notes) -> Result<Vec<PathBuf>, Error> {
        let packs = Path::new(PACKS);
        let mut found = Vec::new();
        for byte in 0..=u8::MAX {
            found.extend(self.names(&packs.join(format!("{byte:02x}")), notes));
        }
        found.extend(self.names(Path::new(QUARANTINE), notes));
        found.retain(|path| is_pack(path));
        match fs::metadata(&self.root) {
            Ok(_) => Ok(found),
            Err(error) => Err(Error::io("read", &self.root)(error)),
        }
    }

    /// Where copies of a manifest may lie: under its names, then where a deletion put them.
    pub(crate) fn manifests(&self, point: PointId) -> Vec<PathBuf> {
        let [.., last] = point.as_bytes();
        let named = MANIFESTS.map(|dir| Path::new(dir).join(format!("{last:02x}/{point}.mf")));
        let aside =
            ["mf", "copy.mf"].map(|suffix| Path::new(QUARANTINE).join(format!("{point}.{suffix}")));
        named.into_iter().chain(aside).collect()
    }

    /// The files of a directory, sorted; none if it is not there.
    fn names(&self, dir: &Path, notes: &mut Notes) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.root.join(dir)).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| dir.join(entry.file_name())))
                .collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(mut names) => {
                names.sort_unstable();
                names
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    notes.add(format!("cannot list {}: {error}", dir.display()));
                }
                Vec::new()
            }
        }
    }
}

/// In quarantine a suffix may follow.
fn is_pack(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".pack") || name.contains(".pack.")
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
