//! Ways to disks that this machine has by its own configuration: mounted datastores, and a command that
//! serves a disk.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stillwater_disk::file::{FileReader, Mounts};
use stillwater_disk::nbd::{
    CommandLine, CommandValues, NbdCommand, NbdError, NbdReader, Settings as NbdSettings,
};
use stillwater_disk::{BlockPool, DiskReader, Result, Way};
use stillwater_proxy_api::{FileDisk, NbdDisk};

use crate::config::Transports;
use crate::error::Error;

/// Reads of local disks under way at once, for all transfers together.
const THREADS: NonZeroUsize = NonZeroUsize::new(16).expect("more than none");
/// How long a command may take to serve its disk: a library that logs in takes its time.
const COMMAND_STARTS: Duration = Duration::from_secs(60);

/// What this machine can reach by its own configuration.
#[derive(Clone)]
pub struct Local {
    mounts: Mounts,
    command: Option<CommandLine>,
    scratch: PathBuf,
    pool: BlockPool,
}

impl Local {
    /// What the configuration allows.
    ///
    /// # Errors
    /// When the command is none.
    pub fn new(transports: &Transports) -> std::result::Result<Self, NbdError> {
        let pool = BlockPool::new(THREADS);
        let words = transports.nbd_command.as_slice();
        let command = (!words.is_empty()).then(|| CommandLine::parse(words));
        let mounts = transports.datastores.clone();
        Ok(Self {
            mounts: Mounts::new(mounts),
            command: command.transpose()?,
            scratch: std::env::temp_dir(),
            pool,
        })
    }

    /// What the configuration calls the datastores that are mounted here.
    pub fn datastores(&self) -> Vec<String> {
        self.mounts.names().map(str::to_owned).collect()
    }

    /// Whether a command can be started for a disk.
    pub fn has_command(&self) -> bool {
        self.command.is_some()
    }

    /// A way to a disk in a mounted datastore.
    ///
    /// # Errors
    /// When the datastore is not mounted here.
    pub fn file(&self, disk: &FileDisk, length: u64) -> Result<Box<dyn Way>, Error> {
        let FileDisk { datastore, path } = disk;
        let mount = self.mounts.find(datastore, datastore);
        let unknown = Error::Order("the datastore is not among this proxy's transports.datastores");
        Ok(Box::new(FileWay {
            mount: mount.map(Path::to_owned).ok_or(unknown)?,
            path: format!("[{datastore}] {path}"),
            length,
            pool: self.pool.clone(),
        }))
    }

    /// A way to a disk that a command serves.
    ///
    /// # Errors
    /// When there is no command.
    pub fn served(&self, disk: &NbdDisk, length: u64) -> Result<Box<dyn Way>, Error> {
        let none = Error::Order("this proxy starts no command: transports.nbd-command is not set");
        Ok(Box::new(NbdWay {
            line: self.command.clone().ok_or(none)?,
            scratch: self.scratch.clone(),
            disk: disk.clone(),
            length,
        }))
    }
}

struct FileWay {
    mount: PathBuf,
    path: String,
    length: u64,
    pool: BlockPool,
}

#[async_trait]
impl Way for FileWay {
    fn name(&self) -> String {
        format!("file {}", self.path)
    }

    async fn open(&self) -> Result<Arc<dyn DiskReader>> {
        let Self {
            mount,
            path,
            length,
            pool,
        } = self;
        let reader = FileReader::open(mount, path, *length, pool).await?;
        Ok(Arc::new(reader))
    }
}

struct NbdWay {
    line: CommandLine,
    scratch: PathBuf,
    disk: NbdDisk,
    length: u64,
}

#[async_trait]
impl Way for NbdWay {
    fn name(&self) -> String {
        format!("nbd {}", self.disk.path)
    }

    async fn open(&self) -> Result<Arc<dyn DiskReader>> {
        let NbdDisk {
            vm,
            snapshot,
            path,
            server,
        } = &self.disk;
        let values = CommandValues {
            vm: vm.clone(),
            snapshot: Some(snapshot.clone()),
            file: path.clone(),
            server: server.address.clone(),
            cookie: Some(server.cookie.clone()),
            ..CommandValues::default()
        };
        let command = NbdCommand::start(&self.line, &values, &self.scratch, COMMAND_STARTS).await?;
        let reader = NbdReader::start(command, self.length, NbdSettings::default()).await?;
        Ok(Arc::new(reader))
    }
}
