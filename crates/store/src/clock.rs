//! Time and randomness, passed in so that tests decide both.

use std::io;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use stillwater_format::Time;

/// What the machine knows about time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which anyone may have set.
    fn wall(&self) -> Time;
    /// How long the machine has been up since it was booted; nobody can set it, nor make it run faster.
    fn since_boot(&self) -> Duration;
    /// Names the boot that [`Clock::since_boot`] counts from.
    fn boot(&self) -> [u8; 16];
}

/// A source of randomness.
pub trait Rng: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// The clocks of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    boot: [u8; 16],
}

impl SystemClock {
    /// Reads which boot this is.
    ///
    /// # Errors
    /// When the kernel does not tell.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others go through"
    )]
    pub fn open() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let hash = blake3::hash(text.trim().as_bytes());
        let (boot, _) = hash
            .as_bytes()
            .split_first_chunk::<16>()
            .expect("a hash has 32 bytes");
        Ok(Self { boot: *boot })
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others go through"
    )]
    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Time::default().after(since.unwrap_or_default())
    }

    fn since_boot(&self) -> Duration {
        // Not the boot-time clock: it runs as fast as whoever slews the wall clock makes it, and a time
        // server may have that done by a twelfth. This one is the oscillator alone; it stands still
        // while the machine is suspended, so that a lock then holds longer.
        let now = clock_gettime(ClockId::MonotonicRaw);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    }

    fn boot(&self) -> [u8; 16] {
        self.boot
    }
}

/// The randomness of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the source that others go through"
    )]
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::other)
    }
}
