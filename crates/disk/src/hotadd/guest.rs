//! Finding the disks that were attached to this machine.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::device::Device;
use super::identity::{uuid_of_serial, uuids_of_product};
use super::sysfs::{Address, Found, Sysfs};
use super::{HotAddError, device};
use crate::{BlockPool, Error, Result};

/// Where the kernel shows its devices.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`.
    pub sysfs: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sysfs: PathBuf::from("/sys"),
            dev: PathBuf::from("/dev"),
        }
    }
}

/// How long is waited for the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For a disk to appear.
    pub appear: Duration,
    /// For a disk to be nobody's: who looks at new disks has them for moments.
    pub free: Duration,
    /// For a disk to be gone.
    pub vanish: Duration,
    /// Between two looks.
    pub poll: Duration,
    /// Between two requests that the kernel look for itself, and before the first.
    pub scan: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            appear: Duration::from_secs(60),
            free: Duration::from_secs(5),
            vanish: Duration::from_secs(30),
            poll: Duration::from_millis(100),
            scan: Duration::from_secs(1),
        }
    }
}

/// Where vSphere has put a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `slotInfo.pciSlotNumber` of the controller.
    pub pci_slot: u32,
    /// Its `unitNumber` there.
    pub unit: u32,
}

/// What the disk must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Its size.
    pub length: u64,
    /// `uuid` of its backing. A device that shows an identity must show this one.
    pub uuid: Option<Uuid>,
}

impl Expected {
    /// A disk of that size whose backing's uuid, if vSphere told one, is written as vSphere writes
    /// it.
    pub fn new(length: u64, uuid: Option<&str>) -> Result<Self> {
        let parse = |text: &str| {
            Uuid::try_parse(text.trim()).map_err(|_| HotAddError::BadUuid {
                text: text.to_owned(),
            })
        };
        Ok(Self {
            length,
            uuid: uuid.map(parse).transpose()?,
        })
    }
}

/// The machine that this process runs on.
#[derive(Debug, Clone)]
pub struct Guest {
    pub(super) sysfs: Sysfs,
    pub(super) dev: PathBuf,
    pub(super) waits: Waits,
    pub(super) pool: BlockPool,
}

impl Guest {
    /// The machine whose kernel shows itself below `roots`.
    pub fn new(roots: Roots, waits: Waits, pool: BlockPool) -> Self {
        Self {
            sysfs: Sysfs::new(roots.sysfs),
            dev: roots.dev,
            waits,
            pool,
        }
    }

    /// What `config.uuid` of this VM may be, likeliest first.
    pub async fn identity(&self) -> Result<Vec<Uuid>> {
        let sysfs = self.sysfs.clone();
        let look = move || {
            let (_, serial) = sysfs.firmware("product_serial");
            if let Some(uuid) = serial.as_deref().and_then(uuid_of_serial) {
                return Ok(vec![uuid]);
            }
            let (path, product) = sysfs.firmware("product_uuid");
            match product.as_deref().and_then(uuids_of_product) {
                Some(uuids) => Ok(uuids.to_vec()),
                None => Err(HotAddError::NoIdentity { path }),
            }
        };
        self.blocking(look).await
    }

    /// Waits for the disk that was attached at a place, and takes it for this process alone.
    pub async fn find(&self, place: Place, expected: Expected) -> Result<Device> {
        let missing = || HotAddError::Missing {
            slot: place.pci_slot,
            unit: place.unit,
            seconds: self.waits.appear.as_secs(),
        };
        let began = Instant::now();
        let mut scanned = began;
        loop {
            match self.take(place, expected).await {
                Ok(Some(device)) => return Ok(device),
                Ok(None) => {}
                Err(error) if is_in_use(&error) && began.elapsed() < self.waits.free => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() >= self.waits.appear {
                return Err(missing().into());
            }
            if scanned.elapsed() >= self.waits.scan {
                self.scan(place).await?;
                scanned = Instant::now();
            }
            sleep(self.waits.poll).await;
        }
    }

    /// Lets go whatever disk is still at a place, such as one whose process was killed. False when
    /// there is none. A disk that is in use on this machine is left alone, with an error.
    pub async fn vacate(&self, place: Place) -> Result<bool> {
        let guest = self.clone();
        let look = move || {
            let hosts = guest.sysfs.hosts_in_slot(place.pci_slot)?;
            for address in addresses(&hosts.unwrap_or_default(), place.unit) {
                if let Some(found) = guest.sysfs.disk(address)? {
                    return Ok(Some(device::unused(&guest, &found)?));
                }
            }
            Ok(None)
        };
        match self.blocking(look).await? {
            Some(address) => {
                self.let_go(address).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn take(&self, place: Place, expected: Expected) -> Result<Option<Device>> {
        let Some(found) = self.look(place, expected).await? else {
            return Ok(None);
        };
        let guest = self.clone();
        self.blocking(move || device::claim(guest, found, expected))
            .await
    }

    /// The expected disk, if it is there. An error if it is another.
    async fn look(&self, place: Place, expected: Expected) -> Result<Option<Found>> {
        let sysfs = self.sysfs.clone();
        let look = move || match sysfs.hosts_in_slot(place.pci_slot)? {
            Some(hosts) if !hosts.is_empty() => {
                for address in addresses(&hosts, place.unit) {
                    if let Some(found) = sysfs.disk(address)? {
                        return checked(found, expected).map(Some);
                    }
                }
                Ok(None)
            }
            _ => by_identity(&sysfs, place, expected),
        };
        self.blocking(look).await
    }

    async fn scan(&self, place: Place) -> Result<()> {
        let sysfs = self.sysfs.clone();
        let scan = move || {
            let hosts = match sysfs.hosts_in_slot(place.pci_slot)? {
                Some(hosts) if !hosts.is_empty() => hosts,
                _ => sysfs.hosts()?,
            };
            addresses(&hosts, place.unit).try_for_each(|address| sysfs.scan(address))
        };
        self.blocking(scan).await
    }

    /// Has the kernel let a disk go, and waits until it has.
    pub(super) async fn let_go(&self, address: Address) -> Result<()> {
        let (sysfs, began) = (self.sysfs.clone(), Instant::now());
        self.blocking(move || sysfs.delete(address)).await?;
        while self.is_there(address).await? {
            if began.elapsed() >= self.waits.vanish {
                return Err(Error::HotAdd(HotAddError::StillThere {
                    address: address.to_string(),
                    seconds: self.waits.vanish.as_secs(),
                }));
            }
            sleep(self.waits.poll).await;
        }
        Ok(())
    }

    async fn is_there(&self, address: Address) -> Result<bool> {
        let sysfs = self.sysfs.clone();
        self.blocking(move || Ok(sysfs.is_there(address))).await
    }

    pub(super) fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HotAddError> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let pool = self.pool.clone();
        async move {
            match pool.run(work).await {
                Some(outcome) => outcome.map_err(Error::HotAdd),
                None => Err(Error::Stopped {
                    path: "the attached disk".into(),
                }),
            }
        }
    }
}

fn is_in_use(error: &Error) -> bool {
    matches!(error, Error::HotAdd(HotAddError::InUse { .. }))
}

fn addresses(hosts: &[u32], unit: u32) -> impl Iterator<Item = Address> {
    hosts.iter().map(move |host| Address { host: *host, unit })
}

/// Looks on every controller, for a kernel that does not number its slots: only a disk that proves
/// who it is can be the right one then.
fn by_identity(
    sysfs: &Sysfs,
    place: Place,
    expected: Expected,
) -> Result<Option<Found>, HotAddError> {
    let Some(uuid) = expected.uuid else {
        return Err(HotAddError::NoController {
            slot: place.pci_slot,
        });
    };
    for address in addresses(&sysfs.hosts()?, place.unit) {
        if let Some(found) = sysfs.disk(address)?
            && found.ids.contains(&uuid)
        {
            return checked(found, expected).map(Some);
        }
    }
    Ok(None)
}

/// The disk, if it is the expected one.
fn checked(found: Found, expected: Expected) -> Result<Found, HotAddError> {
    let another = |problem| HotAddError::AnotherDisk {
        address: found.address.to_string(),
        problem,
    };
    if found.length != expected.length {
        return Err(another(format!(
            "it has {} bytes instead of {}",
            found.length, expected.length
        )));
    }
    match expected.uuid {
        Some(uuid) if !found.ids.is_empty() && !found.ids.contains(&uuid) => {
            let ids: Vec<String> = found.ids.iter().map(Uuid::to_string).collect();
            Err(another(format!(
                "it is {} instead of {uuid}",
                ids.join(", ")
            )))
        }
        _ => Ok(found),
    }
}
