//! Ways to a disk.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use stillwater_wire::{FieldError, field};

use crate::model::*;
use crate::pb;

impl From<FolderDisk> for pb::FolderDisk {
    fn from(domain: FolderDisk) -> Self {
        let FolderDisk {
            address,
            cookie,
            trust,
            datacenter,
            path,
        } = domain;
        let trust = match trust {
            FolderTrust::CaPem(pem) => pb::folder_disk::Trust::CaPem(pem),
            FolderTrust::CertificateSha256(hash) => {
                pb::folder_disk::Trust::CertificateSha256(Bytes::copy_from_slice(&hash))
            }
        };
        let cookie = cookie.expose_secret().to_owned();
        Self {
            address,
            cookie,
            trust: Some(trust),
            datacenter,
            path,
        }
    }
}

impl TryFrom<pb::FolderDisk> for FolderDisk {
    type Error = FieldError;

    fn try_from(message: pb::FolderDisk) -> Result<Self, FieldError> {
        let pb::FolderDisk {
            address,
            cookie,
            trust,
            datacenter,
            path,
        } = message;
        let trust = match field::choice("trust", trust)? {
            pb::folder_disk::Trust::CaPem(pem) => {
                FolderTrust::CaPem(field::bytes("ca_pem", pem, CA_PEM_BYTES_MAX)?)
            }
            pb::folder_disk::Trust::CertificateSha256(hash) => {
                FolderTrust::CertificateSha256(field::hash("certificate_sha256", &hash)?)
            }
        };
        Ok(Self {
            address: field::text("address", address)?,
            cookie: SecretString::from(field::text("cookie", cookie)?),
            trust,
            datacenter: field::text("datacenter", datacenter)?,
            path: field::text("path", path)?,
        })
    }
}

impl From<NfcDisk> for pb::NfcDisk {
    fn from(domain: NfcDisk) -> Self {
        let NfcDisk {
            host,
            port,
            session_ids,
            check,
            service,
            path,
            in_flight_bytes,
        } = domain;
        let check = match check {
            NfcCheck::CertificateSha1(hash) => {
                pb::nfc_disk::Check::CertificateSha1(Bytes::copy_from_slice(&hash))
            }
            NfcCheck::CertificateDer(der) => pb::nfc_disk::Check::CertificateDer(der),
        };
        let session_ids = session_ids.iter();
        Self {
            host,
            port: u32::from(port),
            session_ids: session_ids
                .map(|id| id.expose_secret().to_owned())
                .collect(),
            check: Some(check),
            service,
            path,
            in_flight_bytes,
        }
    }
}

impl TryFrom<pb::NfcDisk> for NfcDisk {
    type Error = FieldError;

    fn try_from(message: pb::NfcDisk) -> Result<Self, FieldError> {
        let pb::NfcDisk {
            host,
            port,
            session_ids,
            check,
            service,
            path,
            in_flight_bytes,
        } = message;
        let check = match field::choice("check", check)? {
            pb::nfc_disk::Check::CertificateSha1(hash) => {
                NfcCheck::CertificateSha1(field::hash("certificate_sha1", &hash)?)
            }
            pb::nfc_disk::Check::CertificateDer(der) => {
                NfcCheck::CertificateDer(field::bytes("certificate_der", der, CA_PEM_BYTES_MAX)?)
            }
        };
        let found = session_ids.len();
        if found == 0 || found > TICKETS_MAX {
            let why = format_args!("has {found} tickets, 1 to {TICKETS_MAX} go");
            return Err(FieldError::new("session_ids", why));
        }
        let tickets = session_ids.into_iter();
        Ok(Self {
            host: field::text("host", host)?,
            port: u16::try_from(port)
                .map_err(|_| FieldError::new("port", format_args!("is no port: {port}")))?,
            session_ids: tickets
                .map(|id| field::text("session_ids", id).map(SecretString::from))
                .collect::<Result<_, _>>()?,
            check,
            service: field::text("service", service)?,
            path: field::text("path", path)?,
            in_flight_bytes,
        })
    }
}

impl From<HotAddDisk> for pb::HotAddDisk {
    fn from(domain: HotAddDisk) -> Self {
        let HotAddDisk {
            pci_slot,
            unit,
            disk_uuid,
            path,
        } = domain;
        Self {
            pci_slot,
            unit,
            disk_uuid: disk_uuid.unwrap_or_default(),
            path,
        }
    }
}

impl TryFrom<pb::HotAddDisk> for HotAddDisk {
    type Error = FieldError;

    fn try_from(message: pb::HotAddDisk) -> Result<Self, FieldError> {
        let pb::HotAddDisk {
            pci_slot,
            unit,
            disk_uuid,
            path,
        } = message;
        Ok(Self {
            pci_slot,
            unit,
            disk_uuid: field::maybe_text(disk_uuid),
            path: field::text("path", path)?,
        })
    }
}

impl From<FileDisk> for pb::FileDisk {
    fn from(domain: FileDisk) -> Self {
        let FileDisk { datastore, path } = domain;
        Self { datastore, path }
    }
}

impl TryFrom<pb::FileDisk> for FileDisk {
    type Error = FieldError;

    fn try_from(message: pb::FileDisk) -> Result<Self, FieldError> {
        let pb::FileDisk { datastore, path } = message;
        Ok(Self {
            datastore: field::text("datastore", datastore)?,
            path: field::text("path", path)?,
        })
    }
}

impl From<NbdDisk> for pb::NbdDisk {
    fn from(domain: NbdDisk) -> Self {
        let NbdDisk {
            vm,
            snapshot,
            path,
            server,
        } = domain;
        Self {
            vm,
            snapshot,
            path,
            server: Some(server.into()),
        }
    }
}

impl TryFrom<pb::NbdDisk> for NbdDisk {
    type Error = FieldError;

    fn try_from(message: pb::NbdDisk) -> Result<Self, FieldError> {
        let pb::NbdDisk {
            vm,
            snapshot,
            path,
            server,
        } = message;
        Ok(Self {
            vm: field::text("vm", vm)?,
            snapshot: field::text("snapshot", snapshot)?,
            path: field::text("path", path)?,
            server: field::message("server", server)?,
        })
    }
}

impl From<Disk> for pb::Disk {
    fn from(domain: Disk) -> Self {
        use pb::disk::Transport;
        let transport = match domain {
            Disk::Folder(disk) => Transport::Folder(disk.into()),
            Disk::Nfc(disk) => Transport::Nfc(disk.into()),
            Disk::HotAdd(disk) => Transport::HotAdd(disk.into()),
            Disk::File(disk) => Transport::File(disk.into()),
            Disk::Nbd(disk) => Transport::Nbd(disk.into()),
        };
        Self {
            transport: Some(transport),
        }
    }
}

impl TryFrom<pb::Disk> for Disk {
    type Error = FieldError;

    fn try_from(message: pb::Disk) -> Result<Self, FieldError> {
        use pb::disk::Transport;
        let pb::Disk { transport } = message;
        let within = |name: &'static str| move |error: FieldError| error.within(name);
        match field::choice("transport", transport)? {
            Transport::Folder(disk) => disk.try_into().map(Self::Folder).map_err(within("folder")),
            Transport::Nfc(disk) => disk.try_into().map(Self::Nfc).map_err(within("nfc")),
            Transport::HotAdd(disk) => disk.try_into().map(Self::HotAdd).map_err(within("hot_add")),
            Transport::File(disk) => disk.try_into().map(Self::File).map_err(within("file")),
            Transport::Nbd(disk) => disk.try_into().map(Self::Nbd).map_err(within("nbd")),
        }
    }
}
