//! A clock that is moved by hand, and randomness that is the same every time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stillwater_format::Time;
use stillwater_store::{Clock, Rng};

/// 2027-01-15T08:00:00Z.
const START: u64 = 1_800_000_000_000;

/// A clock that is moved by hand.
#[derive(Debug, Default)]
pub struct Hands(AtomicU64);

impl Hands {
    /// Moves wall and boot clock alike.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn wall(&self) -> Time {
        Time::from_millis(START + self.0.load(Ordering::SeqCst))
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn boot(&self) -> [u8; 16] {
        [0xb0; 16]
    }
}

/// Randomness that is the same every time.
#[derive(Debug, Default)]
pub struct Seeded(AtomicU64);

impl Rng for Seeded {
    fn fill(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        blake3::Hasher::new()
            .update(b"golden")
            .update(&turn.to_le_bytes())
            .finalize_xof()
            .fill(buffer);
        Ok(())
    }
}
