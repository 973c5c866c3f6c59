//! How transfers reach disks and repositories.

use std::sync::Arc;

use async_trait::async_trait;
use stillwater_disk::folder::{FolderReader, FolderWriter};
use stillwater_proxy_api::{Disk, FolderDisk, FolderTrust, Store};
use stillwater_rpc::Identity;
use stillwater_types::Fault;
use stillwater_vsphere::{DataAccess, Fingerprint, Trust};

use crate::error::Error;
use crate::transfer::{RecordStore, Repository, Source, Target};

/// Opens the two ends of a transfer. A trait, so that tests need no network.
#[async_trait]
pub trait Reach: Send + Sync {
    /// The repository that the controller named.
    fn store(&self, store: &Store) -> Result<Arc<dyn RecordStore>, Fault>;

    /// A frozen disk to read.
    async fn source(&self, disk: &Disk, length: u64) -> Result<Source, Error>;

    /// A new disk to write.
    async fn target(&self, disk: &Disk, length: u64) -> Result<Target, Error>;
}

/// The real one.
pub struct Network {
    /// Whose certificate is shown to repositories.
    pub identity: Identity,
}

#[async_trait]
impl Reach for Network {
    fn store(&self, store: &Store) -> Result<Arc<dyn RecordStore>, Fault> {
        Ok(Arc::new(Repository::connect(&self.identity, store)?))
    }

    async fn source(&self, disk: &Disk, length: u64) -> Result<Source, Error> {
        let folder = folder(disk)?;
        let name = folder.path.clone();
        match FolderReader::open(&access(folder), &folder.path, length).await {
            Ok(reader) => Ok(Source {
                name,
                reader: Arc::new(reader),
            }),
            Err(source) => Err(Error::Open { disk: name, source }),
        }
    }

    async fn target(&self, disk: &Disk, length: u64) -> Result<Target, Error> {
        let folder = folder(disk)?;
        let name = folder.path.clone();
        match FolderWriter::open(&access(folder), &folder.path, length).await {
            Ok(writer) => Ok(Target {
                name,
                writer: Box::new(writer),
            }),
            Err(source) => Err(Error::Open { disk: name, source }),
        }
    }
}

fn folder(disk: &Disk) -> Result<&FolderDisk, Error> {
    match disk {
        Disk::Folder(folder) => Ok(folder),
        Disk::Nfc(_) | Disk::HotAdd(_) | Disk::File(_) | Disk::Nbd(_) => Err(Error::Order(
            "this proxy reads and writes through a datastore's folder only",
        )),
    }
}

fn access(folder: &FolderDisk) -> DataAccess {
    DataAccess {
        address: folder.address.clone(),
        cookie: folder.cookie.clone(),
        trust: match &folder.trust {
            FolderTrust::CaPem(pem) => Trust::Ca(pem.to_vec()),
            FolderTrust::CertificateSha256(hash) => {
                Trust::Fingerprint(Fingerprint::from_bytes(*hash))
            }
        },
        datacenter: folder.datacenter.clone(),
    }
}
