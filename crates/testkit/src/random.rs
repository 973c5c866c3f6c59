//! Randomness that is the same for the same seed.

use std::io;
use std::sync::{Mutex, PoisonError};

use stillwater_store::Rng;

/// Draws numbers; the same seed draws the same ones. Not for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that draw what this seed says.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (splitmix64).
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero if there is none.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// A place in a list of that length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// True once in `times`.
    pub const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Dice of their own, so that what they draw does not move what these draw.
    pub const fn fork(&mut self) -> Self {
        Self(self.draw())
    }
}

/// The randomness of a store under test.
#[derive(Debug)]
pub struct SeededRng(Mutex<Dice>);

impl SeededRng {
    /// Randomness that this seed decides.
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(Dice::new(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut dice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for bytes in buffer.chunks_mut(8) {
            let drawn = dice.draw().to_le_bytes();
            bytes.copy_from_slice(&drawn[..bytes.len()]);
        }
        Ok(())
    }
}
