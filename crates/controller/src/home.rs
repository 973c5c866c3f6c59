//! The state directory: who holds it, and what lies where.
//!
//! ```text
//! <state-dir>/lock       held by the one process that works here
//!             kek        the key-encryption key, unless the configuration names another place
//!             setup/     an init that was not finished; worth nothing
//!             cluster/   charter.json · identity/ · memory/
//! ```
//! `init` makes everything in `setup/` and then renames it to `cluster/`: a cluster is there whole
//! or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use stillwater_rpc::file;
use stillwater_service::state;

use crate::error::Error;

/// A state directory that this process holds alone.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// The lock ends with the process, however it ends.
    _lock: File,
}

impl Home {
    /// Makes the directory if need be and takes its lock.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process holds it.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        state::prepare(dir)?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(dir.to_owned())),
            Err(errno) => Err(Error::file("lock", path)(errno.into())),
        }
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The finished cluster.
    ///
    /// # Errors
    /// [`Error::NotInitialised`] when there is none.
    pub fn cluster(&self) -> Result<Cluster, Error> {
        let dir = self.dir.join("cluster");
        match dir.is_dir() {
            true => Ok(Cluster { dir }),
            false => Err(Error::NotInitialised(self.dir.clone())),
        }
    }

    /// An empty place to make a cluster in. What an unfinished `init` left is removed: nobody was
    /// told that its keys are good.
    ///
    /// # Errors
    /// [`Error::Initialised`] when there is a cluster already.
    pub fn setup(&self) -> Result<Cluster, Error> {
        if self.cluster().is_ok() {
            return Err(Error::Initialised(self.dir.clone()));
        }
        let dir = self.dir.join("setup");
        match fs::remove_dir_all(&dir) {
            Ok(()) => {
                tracing::warn!(dir = %dir.display(), "removed an unfinished init, its keys are void");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("remove", dir)(error)),
        }
        let setup = Cluster { dir };
        state::prepare(&setup.dir)?;
        state::prepare(&setup.memory())?;
        Ok(setup)
    }

    /// Makes the set-up cluster the cluster, durably. It is the last step of `init`.
    pub fn finish(&self, setup: Cluster) -> Result<Cluster, Error> {
        sync_dir(&setup.dir)?;
        let dir = self.dir.join("cluster");
        fs::rename(&setup.dir, &dir).map_err(Error::file("rename to", &dir))?;
        sync_dir(&self.dir)?;
        Ok(Cluster { dir })
    }
}

/// Where the parts of a cluster lie.
#[derive(Debug, Clone)]
pub struct Cluster {
    dir: PathBuf,
}

impl Cluster {
    /// What `init` decided.
    pub fn charter(&self) -> PathBuf {
        self.dir.join("charter.json")
    }

    /// The controller's own key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("identity")
    }

    /// The journal and its projection.
    pub fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }
}

/// Writes a file that others cannot read, so that after a crash it is whole or absent.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    file::publish(path, bytes).map_err(Error::file("write", path))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_a_state_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("state");
        let home = Home::take(&dir).expect("nobody holds it");
        assert!(matches!(Home::take(&dir), Err(Error::InUse(_))));
        drop(home);
        assert!(Home::take(&dir).is_ok());
    }

    #[test]
    fn a_cluster_is_there_only_when_init_was_finished() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::take(&dir.path().join("state")).expect("nobody holds it");
        assert!(matches!(home.cluster(), Err(Error::NotInitialised(_))));
        let half = home.setup().expect("nothing there");
        fs::write(half.charter(), "half").expect("write");
        assert!(matches!(home.cluster(), Err(Error::NotInitialised(_))));
        let whole = home.setup().expect("a half cluster is no cluster");
        assert!(!whole.charter().exists());
        publish(&whole.charter(), b"whole").expect("publish");
        let cluster = home.finish(whole).expect("finish");
        assert_eq!(fs::read(cluster.charter()).expect("read"), b"whole");
        assert!(matches!(home.setup(), Err(Error::Initialised(_))));
    }
}
