//! How much work a proxy takes at a time, and when it takes no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stillwater_types::{Fault, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots for transfers and exports; clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    count: u32,
    free: Arc<Semaphore>,
    draining: Arc<AtomicBool>,
}

/// A taken slot; free again when dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Slots {
    /// As many as `count`.
    pub fn new(count: u32) -> Self {
        let free = Arc::new(Semaphore::new(count as usize));
        Self {
            count,
            free,
            draining: Arc::default(),
        }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// `DRAINING` when the proxy stops, `NO_PROXY_SLOT` when none is free.
    pub fn take(&self) -> Result<Slot, Fault> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Fault::new(
                Reason::Draining,
                "the proxy is being stopped, use another",
            ));
        }
        let free = Arc::clone(&self.free).try_acquire_owned();
        free.map(Slot).map_err(|_| {
            let text = format!(
                "all {} slots of the proxy are taken, try again later",
                self.count
            );
            Fault::new(Reason::NoProxySlot, text)
        })
    }

    /// Gives out no more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Waits until all are free.
    pub async fn idle(&self) {
        // The semaphore is never closed, so this ends with all permits and gives them back.
        drop(self.free.acquire_many(self.count).await);
    }

    /// How many there are.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.count
            .saturating_sub(u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_run_out_come_back_and_end() {
        let slots = Slots::new(2);
        let (one, _two) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!(
            slots.take().map_err(|fault| fault.reason).err(),
            Some(Reason::NoProxySlot)
        );
        assert_eq!((slots.count(), slots.taken()), (2, 2));
        drop(one);
        assert_eq!(slots.taken(), 1);
        assert!(slots.take().is_ok());
        slots.drain();
        assert_eq!(
            slots.take().map_err(|fault| fault.reason).err(),
            Some(Reason::Draining)
        );
    }
}
