//! How transfers reach disks and repositories.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use stillwater_disk::folder::{FolderReader, FolderWriter};
use stillwater_disk::hotadd::Guest;
use stillwater_disk::nfc::{
    NfcReader, NfcRewriter, NfcWriter, Options, Ticket, TicketBook, Tickets,
};
use stillwater_disk::{DiskReader, DiskRewriter, DiskWriter, Way};
use stillwater_proxy_api::{Disk, FolderDisk, FolderTrust, NfcCheck, NfcDisk, Store};
use stillwater_rpc::Identity;
use stillwater_types::Fault;
use stillwater_vsphere::{DataAccess, Fingerprint, HostIdentity, Trust};

use crate::attached;
use crate::error::Error;
use crate::local::Local;
use crate::transfer::{Content, RecordStore, Repository, Target};

/// Opens the two ends of a transfer. A trait, so that tests need no network.
#[async_trait]
pub trait Reach: Send + Sync {
    /// The repository that the controller named.
    fn store(&self, store: &Store) -> Result<Arc<dyn RecordStore>, Fault>;

    /// A way to a frozen disk; nothing is opened yet.
    fn way(&self, disk: &Disk, length: u64) -> Result<Box<dyn Way>, Error>;

    /// A new disk to write.
    async fn target(&self, disk: &Disk, length: u64) -> Result<Target, Error>;

    /// A disk that has content, to be written here and there.
    async fn content(&self, disk: &Disk, length: u64) -> Result<Content, Error>;
}

/// The real one.
pub struct Network {
    /// Whose certificate is shown to repositories.
    pub identity: Identity,
    /// The VM that this process runs in, if disks may be attached to it.
    pub guest: Option<Guest>,
    /// What this machine reaches by its own configuration.
    pub local: Local,
}

#[async_trait]
impl Reach for Network {
    fn store(&self, store: &Store) -> Result<Arc<dyn RecordStore>, Fault> {
        Ok(Arc::new(Repository::connect(&self.identity, store)?))
    }

    fn way(&self, disk: &Disk, length: u64) -> Result<Box<dyn Way>, Error> {
        match disk {
            Disk::Folder(disk) => Ok(Box::new(FolderWay {
                disk: disk.clone(),
                length,
            })),
            Disk::Nfc(disk) => Ok(Box::new(NfcWay {
                disk: disk.clone(),
                length,
            })),
            Disk::HotAdd(disk) => Ok(Box::new(attached::Way {
                guest: self.guest()?,
                disk: disk.clone(),
                length,
            })),
            Disk::File(disk) => self.local.file(disk, length),
            Disk::Nbd(disk) => self.local.served(disk, length),
        }
    }

    async fn target(&self, disk: &Disk, length: u64) -> Result<Target, Error> {
        let (name, opened) = match disk {
            Disk::Folder(disk) => (&disk.path, write_folder(disk, length).await),
            Disk::Nfc(disk) => (&disk.path, write_nfc(disk, length).await),
            Disk::HotAdd(disk) => {
                let writer = attached::write(&self.guest()?, disk, length).await;
                (&disk.path, writer)
            }
            Disk::File(_) | Disk::Nbd(_) => {
                return Err(Error::Order(
                    "this proxy does not write disks of mounted datastores or by nbd",
                ));
            }
        };
        let name = name.clone();
        match opened {
            Ok(writer) => Ok(Target { name, writer }),
            Err(source) => Err(Error::Write { disk: name, source }),
        }
    }

    async fn content(&self, disk: &Disk, length: u64) -> Result<Content, Error> {
        let (name, opened) = match disk {
            Disk::Nfc(disk) => (&disk.path, rewrite_nfc(disk, length).await),
            Disk::HotAdd(disk) => {
                let rewriter = attached::rewrite(&self.guest()?, disk, length).await;
                (&disk.path, rewriter)
            }
            Disk::Folder(_) | Disk::File(_) | Disk::Nbd(_) => {
                return Err(Error::Order(
                    "only parts of disks that are attached or behind nfc can be written",
                ));
            }
        };
        let name = name.clone();
        match opened {
            Ok(disk) => Ok(Content { name, disk }),
            Err(source) => Err(Error::Write { disk: name, source }),
        }
    }
}

impl Network {
    fn guest(&self) -> Result<Guest, Error> {
        self.guest.clone().ok_or(Error::Order(
            "disks are not to be attached to this proxy; see `transports.hot-add`",
        ))
    }
}

struct FolderWay {
    disk: FolderDisk,
    length: u64,
}

#[async_trait]
impl Way for FolderWay {
    fn name(&self) -> String {
        format!("folder {}", self.disk.path)
    }

    async fn open(&self) -> stillwater_disk::Result<Arc<dyn DiskReader>> {
        let FolderDisk { path, .. } = &self.disk;
        let reader = FolderReader::open(&access(&self.disk), path, self.length).await?;
        Ok(Arc::new(reader))
    }
}

struct NfcWay {
    disk: NfcDisk,
    length: u64,
}

#[async_trait]
impl Way for NfcWay {
    fn name(&self) -> String {
        format!("nfc {} {}", self.disk.host, self.disk.path)
    }

    async fn open(&self) -> stillwater_disk::Result<Arc<dyn DiskReader>> {
        let NfcDisk { path, .. } = &self.disk;
        let options = options(&self.disk);
        let reader = NfcReader::open(tickets(&self.disk), path, self.length, options).await?;
        Ok(Arc::new(reader))
    }
}

pub(crate) type Opened = stillwater_disk::Result<Box<dyn DiskWriter>>;

async fn write_folder(disk: &FolderDisk, length: u64) -> Opened {
    let writer = FolderWriter::open(&access(disk), &disk.path, length).await?;
    Ok(Box::new(writer))
}

async fn write_nfc(disk: &NfcDisk, length: u64) -> Opened {
    let writer = NfcWriter::open(tickets(disk), &disk.path, length, options(disk)).await?;
    Ok(Box::new(writer))
}

pub(crate) type Rewritable = stillwater_disk::Result<Box<dyn DiskRewriter>>;

async fn rewrite_nfc(disk: &NfcDisk, length: u64) -> Rewritable {
    let rewriter = NfcRewriter::open(tickets(disk), &disk.path, length, options(disk)).await?;
    Ok(Box::new(rewriter))
}

/// How hard the host is worked: within the share of it that the controller gave.
fn options(disk: &NfcDisk) -> Options {
    let defaults = Options::default();
    let share = match u32::try_from(disk.in_flight_bytes) {
        Ok(0) => return defaults,
        Ok(share) => share.min(defaults.in_flight_bytes),
        Err(_) => defaults.in_flight_bytes,
    };
    // A few requests fit into a small share, so that one is on its way while another is served.
    let request_bytes = defaults.request_bytes.min(share / 4);
    Options {
        in_flight_bytes: share,
        request_bytes,
        ..defaults
    }
}

/// One ticket for each connection: the controller took them together, for the same host.
fn tickets(disk: &NfcDisk) -> Arc<dyn Tickets> {
    let NfcDisk {
        host,
        port,
        session_ids,
        check,
        service,
        path: _,
        in_flight_bytes: _,
    } = disk;
    let identity = match check {
        NfcCheck::CertificateSha1(hash) => HostIdentity::Sha1(*hash),
        NfcCheck::CertificateDer(der) => HostIdentity::Certificate(der.to_vec()),
    };
    let ticket = |session_id: &SecretString| Ticket {
        host: host.clone(),
        port: *port,
        identity: identity.clone(),
        service: service.clone(),
        session_id: session_id.clone(),
    };
    Arc::new(TicketBook::new(session_ids.iter().map(ticket)))
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
