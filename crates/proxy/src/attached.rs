//! Disks that vSphere attached to the VM that this proxy runs in.
//!
//! A disk is let go before anybody is told that its transfer is over: whoever detaches it then finds
//! it in nobody's use.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use stillwater_disk::hotadd::{
    Device, Expected, Guest, HotAddReader, HotAddRewriter, HotAddWriter, Place, Roots, Waits,
};
use stillwater_disk::{BlockPool, DiskReader, DiskRewriter, DiskWriter, Result, Unwritten};
use stillwater_proxy_api::HotAddDisk;
use stillwater_types::Extent;

use crate::config::Transports;
use crate::reach::{Opened, Rewritable};

/// Threads that read and write attached disks.
const THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("more than none");

/// The VM that this process runs in, if disks may be attached to it.
pub fn guest(transports: &Transports) -> Option<Guest> {
    let Transports {
        hot_add,
        sysfs,
        dev,
        ..
    } = transports.clone();
    let roots = Roots { sysfs, dev };
    hot_add.then(|| Guest::new(roots, Waits::default(), BlockPool::new(THREADS)))
}

/// A way to a frozen disk that is attached.
pub(crate) struct Way {
    pub guest: Guest,
    pub disk: HotAddDisk,
    pub length: u64,
}

#[async_trait]
impl stillwater_disk::Way for Way {
    fn name(&self) -> String {
        format!("hotadd {}", self.disk.path)
    }

    async fn open(&self) -> Result<Arc<dyn DiskReader>> {
        let device = find(&self.guest, &self.disk, self.length).await?;
        let reader = device.reader().await?;
        Ok(Arc::new(Reader {
            reader,
            device: Mutex::new(Some(device)),
        }))
    }
}

/// Opens an attached disk for writing; it is new, so what is not written reads as zeros.
pub(crate) async fn write(guest: &Guest, disk: &HotAddDisk, length: u64) -> Opened {
    let device = find(guest, disk, length).await?;
    let writer = device.writer(Unwritten::AreZeros).await?;
    Ok(Box::new(Writer {
        writer: Box::new(writer),
        device,
    }))
}

/// Opens an attached disk that has content.
pub(crate) async fn rewrite(guest: &Guest, disk: &HotAddDisk, length: u64) -> Rewritable {
    let device = find(guest, disk, length).await?;
    let rewriter = device.rewriter().await?;
    Ok(Box::new(Rewriter {
        rewriter: Box::new(rewriter),
        device,
    }))
}

async fn find(guest: &Guest, disk: &HotAddDisk, length: u64) -> Result<Device> {
    let place = Place {
        pci_slot: disk.pci_slot,
        unit: disk.unit,
    };
    let expected = Expected::new(length, disk.disk_uuid.as_deref())?;
    guest.find(place, expected).await
}

struct Reader {
    reader: HotAddReader,
    device: Mutex<Option<Device>>,
}

impl Reader {
    fn take(&self) -> Option<Device> {
        // Only taken from.
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.take()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Let go in the background; a runtime that ends takes the device with its process.
        // A transfer that was cancelled did not come to close it.
        if let (Some(device), Ok(runtime)) = (self.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { let_go(device).await });
        }
    }
}

#[async_trait]
impl DiskReader for Reader {
    fn length(&self) -> u64 {
        self.reader.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.reader.read(extent).await
    }

    async fn close(&self) {
        if let Some(device) = self.take() {
            let_go(device).await;
        }
    }
}

struct Writer {
    writer: Box<HotAddWriter>,
    device: Device,
}

#[async_trait]
impl DiskWriter for Writer {
    fn length(&self) -> u64 {
        self.writer.length()
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.writer.write(offset, bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { writer, device } = *self;
        let finished = writer.finish().await;
        let_go(device).await;
        finished
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { writer, device } = *self;
        let aborted = writer.abort().await;
        let_go(device).await;
        aborted
    }
}

struct Rewriter {
    rewriter: Box<HotAddRewriter>,
    device: Device,
}

#[async_trait]
impl DiskRewriter for Rewriter {
    fn length(&self) -> u64 {
        self.rewriter.length()
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        self.rewriter.read(extent).await
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.rewriter.write(offset, bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { rewriter, device } = *self;
        let finished = rewriter.finish().await;
        let_go(device).await;
        finished
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { rewriter, device } = *self;
        let aborted = rewriter.abort().await;
        let_go(device).await;
        aborted
    }
}

/// What was written stays written: that the kernel still has the disk hinders only who detaches it.
async fn let_go(device: Device) {
    let node = device.node().to_owned();
    if let Err(err) = device.release().await {
        let error = stillwater_service::telemetry::chain(&err).to_string();
        tracing::warn!(device = %node.display(), error, "attached disk could not be let go");
    }
}
