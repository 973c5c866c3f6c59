//! A clock that moves when it is told to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_store::Clock;

#[derive(Debug, Clone, Copy)]
struct Hands {
    wall: u64,
    since_boot: u64,
    boot: u64,
}

/// Wall clock, boot clock and the name of the boot, each of which a test may set.
#[derive(Debug)]
pub struct FaultClock(Mutex<Hands>);

impl Default for FaultClock {
    fn default() -> Self {
        Self(Mutex::new(Hands {
            wall: 1_800_000_000_000,
            since_boot: 100_000,
            boot: 1,
        }))
    }
}

impl FaultClock {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes on both clocks.
    pub fn pass(&self, span: Duration) {
        let (mut hands, millis) = (self.hands(), millis(span));
        hands.wall += millis;
        hands.since_boot += millis;
    }

    /// Somebody sets the wall clock.
    pub fn set_wall_by(&self, millis: i64) {
        let mut hands = self.hands();
        hands.wall = hands.wall.saturating_add_signed(millis);
    }

    /// The machine is off for a while, and boots.
    pub fn reboot(&self, off: Duration) {
        let mut hands = self.hands();
        hands.wall += millis(off);
        hands.since_boot = 0;
        hands.boot += 1;
    }

    /// A clock of its own that shows the same.
    pub fn copy(&self) -> Self {
        Self(Mutex::new(*self.hands()))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for FaultClock {
    fn wall(&self) -> Time {
        Time::from_millis(self.hands().wall)
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.hands().since_boot)
    }

    fn boot(&self) -> [u8; 16] {
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&self.hands().boot.to_le_bytes());
        boot
    }
}
