//! What the kernel says about controllers and disks.
//!
//! All of it blocks, if only for moments, save a scan, which may take seconds.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::HotAddError;
use super::page83::naa_ids;

const SECTOR: u64 = 512;
/// No file that is read here is larger; a page 0x83 has at most 64 KiB and four bytes.
const FILE_BYTES_MAX: u64 = 66_000;

type Result<T, E = HotAddError> = std::result::Result<T, E>;

/// `/sys`, or what plays it.
#[derive(Debug, Clone)]
pub(super) struct Sysfs(PathBuf);

/// A disk at a SCSI address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub address: Address,
    /// Its name below `/dev`.
    pub name: String,
    /// Major and minor number.
    pub number: (u32, u32),
    pub length: u64,
    pub read_only: bool,
    /// What the device calls itself; none when the VM does not show uuids of disks.
    pub ids: Vec<Uuid>,
}

/// Host and target; channel and logical unit are always 0 on VMware's controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub host: u32,
    pub unit: u32,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:0:{}:0", self.host, self.unit)
    }
}

impl Sysfs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The SCSI hosts of the controller in a PCI slot, as vSphere numbers slots: the firmware
    /// tells the kernel the same numbers. None when the kernel has no such slot.
    pub(super) fn hosts_in_slot(&self, slot: u32) -> Result<Option<Vec<u32>>> {
        let path = self.0.join(format!("bus/pci/slots/{slot}/address"));
        let Some(address) = text_if_there(&path)? else {
            return Ok(None);
        };
        // The address has no function: `0000:03:00` is above `0000:03:00.0`.
        let function = format!("{address}.");
        let below = |path: &Path| {
            path.components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with(&function))
        };
        let mut hosts = Vec::new();
        for host in self.hosts()? {
            let link = self.host(host);
            match link.canonicalize() {
                Ok(path) if below(&path) => hosts.push(host),
                // Hosts come and go.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(HotAddError::Kernel { path: link, source }),
            }
        }
        Ok(Some(hosts))
    }

    /// All SCSI hosts, ascending.
    pub(super) fn hosts(&self) -> Result<Vec<u32>> {
        let names = names_if_there(&self.0.join("class/scsi_host"))?;
        let mut hosts: Vec<u32> = names
            .iter()
            .filter_map(|name| name.strip_prefix("host")?.parse().ok())
            .collect();
        hosts.sort_unstable();
        Ok(hosts)
    }

    fn host(&self, host: u32) -> PathBuf {
        self.0.join(format!("class/scsi_host/host{host}"))
    }

    fn device(&self, address: Address) -> PathBuf {
        self.0.join(format!("class/scsi_device/{address}/device"))
    }

    /// Asks the kernel to look for a disk.
    pub(super) fn scan(&self, address: Address) -> Result<()> {
        let Address { host, unit } = address;
        write(&self.host(host).join("scan"), &format!("0 {unit} 0\n"))
    }

    /// Whether anything is at an address.
    pub(super) fn is_there(&self, address: Address) -> bool {
        self.device(address).exists()
    }

    /// The disk at an address; none while the kernel has not made out all of it.
    pub(super) fn disk(&self, address: Address) -> Result<Option<Found>> {
        let device = self.device(address);
        let names = names_if_there(&device.join("block"))?;
        let [name] = names.as_slice() else {
            return Ok(None);
        };
        let block = device.join("block").join(name);
        let sectors = text_if_there(&block.join("size"))?.and_then(|text| text.parse::<u64>().ok());
        let number = text_if_there(&block.join("dev"))?.and_then(|text| device_number(&text));
        let (Some(sectors), Some(number)) = (sectors, number) else {
            return Ok(None);
        };
        if sectors == 0 {
            return Ok(None);
        }
        Ok(Some(Found {
            address,
            name: name.clone(),
            number,
            length: sectors.saturating_mul(SECTOR),
            read_only: text_if_there(&block.join("ro"))?.as_deref() == Some("1"),
            ids: ids(&device)?,
        }))
    }

    /// Tells the kernel to let the disk go.
    pub(super) fn delete(&self, address: Address) -> Result<()> {
        write(&self.device(address).join("delete"), "1\n")
    }

    pub(super) fn firmware(&self, file: &str) -> (PathBuf, Option<String>) {
        let path = self.0.join("class/dmi/id").join(file);
        let text = text_if_there(&path).ok().flatten();
        (path, text)
    }
}

/// Who the device says it is.
fn ids(device: &Path) -> Result<Vec<Uuid>> {
    let wwid = text_if_there(&device.join("wwid"))?;
    let wwid = wwid.as_deref().and_then(|text| text.strip_prefix("naa."));
    let wwid = wwid.and_then(|digits| Uuid::try_parse(digits).ok());
    let page = bytes_if_there(&device.join("vpd_pg83"))?.unwrap_or_default();
    let mut ids: Vec<Uuid> = naa_ids(&page).into_iter().map(Uuid::from_bytes).collect();
    if let Some(wwid) = wwid
        && !ids.contains(&wwid)
    {
        ids.push(wwid);
    }
    Ok(ids)
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What it means that a file of the kernel cannot be read: devices vanish in the middle.
fn if_there<T>(path: &Path, outcome: io::Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(HotAddError::Kernel {
            path: path.to_owned(),
            source,
        }),
    }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [
        rustix::io::Errno::NOENT,
        rustix::io::Errno::NODEV,
        rustix::io::Errno::NXIO,
        rustix::io::Errno::INVAL,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

fn bytes_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if_there(path, read())
}

fn text_if_there(path: &Path) -> Result<Option<String>> {
    let bytes = bytes_if_there(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn names_if_there(path: &Path) -> Result<Vec<String>> {
    let read = || {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()
    };
    Ok(if_there(path, read())?.unwrap_or_default())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let write = || {
        // Neither made nor cut: a file of the kernel is there or the device is gone.
        let mut file = File::options().write(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|source| HotAddError::Kernel {
        path: path.to_owned(),
        source,
    })
}
