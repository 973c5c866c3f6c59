//! Where chunks end.
//!
//! A cutter is named, with its parameters, in every disk's root, because a moved boundary silently
//! costs all deduplication. The seed comes from the dataset's key and is not written anywhere, so
//! that the lengths of chunks do not tell what was cut.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use stillwater_format::node::{CHUNK_BYTES_MAX, CUTTER_BYTES_MAX};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::BLOCK_LEN;

const BLOCK_NAME: &str = "block-v1";
const FASTCDC_NAME: &str = "fastcdc-v2020";

/// A cutter's name and parameters, as a disk's root carries them.
///
/// Written `block-v1/4096/MIN/AVERAGE/MAX` or `fastcdc-v2020/MIN/AVERAGE/MAX`, all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutterParams {
    /// Cuts at the end of a 4 KiB block when a seeded hash of that block says so.
    Block {
        /// Shortest chunk but the last.
        min: usize,
        /// The length aimed at.
        average: usize,
        /// Longest chunk.
        max: usize,
    },
    /// FastCDC of 2020 with normalization level 1, for streams without a grid.
    FastCdc {
        /// Shortest chunk but the last.
        min: usize,
        /// The length aimed at, a power of two.
        average: usize,
        /// Longest chunk.
        max: usize,
    },
}

/// A cutter that this release does not know, or parameters that it cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use cutter {text:?}: {reason}")]
pub struct InvalidCutter {
    /// The cutter as it was named, cut to what a root can hold.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl CutterParams {
    /// The default for disks: `block` with 16, 32 and 128 KiB.
    pub const DISK: Self = Self::Block {
        min: 16 << 10,
        average: 32 << 10,
        max: 128 << 10,
    };

    /// The default for streams without a grid: `fastcdc` with 16, 32 and 128 KiB.
    pub const STREAM: Self = Self::FastCdc {
        min: 16 << 10,
        average: 32 << 10,
        max: 128 << 10,
    };

    /// Longest chunk.
    pub const fn max(&self) -> usize {
        match self {
            Self::Block { max, .. } | Self::FastCdc { max, .. } => *max,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let (Self::Block { min, average, max } | Self::FastCdc { min, average, max }) = *self;
        if !(min <= average && average <= max) {
            return Err("min, average and max must ascend");
        }
        if max > CHUNK_BYTES_MAX as usize {
            return Err("max must be at most 2 MiB");
        }
        match self {
            Self::Block { .. }
                if min == 0 || [min, average, max].iter().any(|n| n % BLOCK_LEN > 0) =>
            {
                Err("lengths must be multiples of 4096")
            }
            Self::FastCdc { .. } if min < 64 || average < 256 || max < 1024 => {
                Err("min must be at least 64, average 256, max 1024")
            }
            Self::FastCdc { .. } if min % 2 + max % 2 > 0 || !average.is_power_of_two() => {
                Err("min and max must be even and average a power of two")
            }
            Self::Block { .. } | Self::FastCdc { .. } => Ok(()),
        }
    }
}

impl fmt::Display for CutterParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { min, average, max } => {
                write!(f, "{BLOCK_NAME}/{BLOCK_LEN}/{min}/{average}/{max}")
            }
            Self::FastCdc { min, average, max } => {
                write!(f, "{FASTCDC_NAME}/{min}/{average}/{max}")
            }
        }
    }
}

impl FromStr for CutterParams {
    type Err = InvalidCutter;

    /// Reads what [`CutterParams`] prints, in that one spelling.
    fn from_str(text: &str) -> Result<Self, InvalidCutter> {
        let invalid = |reason| InvalidCutter {
            text: text.chars().take(CUTTER_BYTES_MAX).collect(),
            reason,
        };
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let numbers: Vec<usize> = parts.map_while(|part| part.parse().ok()).take(5).collect();
        let params = match (name, numbers.as_slice()) {
            (BLOCK_NAME, &[BLOCK_LEN, min, average, max]) => Self::Block { min, average, max },
            (FASTCDC_NAME, &[min, average, max]) => Self::FastCdc { min, average, max },
            _ => return Err(invalid("this release does not know it")),
        };
        params.check().map_err(invalid)?;
        if params.to_string() != text {
            return Err(invalid("it is not spelled the way it prints"));
        }
        Ok(params)
    }
}

/// Cuts bytes where their content says so.
#[derive(Clone)]
pub struct Cutter {
    params: CutterParams,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Block { seed: u64, threshold: u64 },
    FastCdc(Gear),
}

#[derive(Clone)]
struct Gear {
    strict: u64,
    loose: u64,
    table: Cow<'static, [u64]>,
    shifted: Cow<'static, [u64]>,
}

impl Cutter {
    /// A cutter with the dataset's seed.
    pub fn new(params: CutterParams, seed: u64) -> Result<Self, InvalidCutter> {
        params.check().map_err(|reason| InvalidCutter {
            text: params.to_string(),
            reason,
        })?;
        let rule = match params {
            CutterParams::Block { min, average, .. } => {
                // The block that reaches `min` may be the last one, so a chunk of the average
                // length has this many chances to end.
                let chances = ((average - min) / BLOCK_LEN + 1) as u64;
                Rule::Block {
                    seed,
                    threshold: u64::MAX / chances,
                }
            }
            CutterParams::FastCdc { average, .. } => {
                let (strict, loose) = select_masks(average, Normalization::Level1);
                let (table, shifted) = get_gear_with_seed(seed);
                Rule::FastCdc(Gear {
                    strict,
                    loose,
                    table,
                    shifted,
                })
            }
        };
        Ok(Self { params, rule })
    }

    /// Name and parameters.
    pub const fn params(&self) -> CutterParams {
        self.params
    }

    /// Length of the first chunk of `bytes`, which must reach the end of the data or hold at least
    /// `max` bytes. Zero only if there are no bytes.
    pub fn first(&self, bytes: &[u8]) -> usize {
        match (&self.rule, self.params) {
            (Rule::FastCdc(gear), CutterParams::FastCdc { min, average, max }) => {
                gear.first(bytes, min, average, max)
            }
            _ => {
                let mut len = 0;
                for block in bytes.chunks(BLOCK_LEN) {
                    len += block.len();
                    if self.ends_at(len, block) {
                        break;
                    }
                }
                len
            }
        }
    }

    /// The chunks of `bytes`, in order; together they are `bytes`.
    pub fn chunks<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (chunk, after) = rest.split_at_checked(self.first(rest))?;
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Whether a chunk of `len` bytes whose last block is `block` ends there; only of the block
    /// cutter, which alone decides block by block.
    pub(crate) fn ends_at(&self, len: usize, block: &[u8]) -> bool {
        match (&self.rule, self.params) {
            (Rule::Block { seed, threshold }, CutterParams::Block { min, max, .. }) => {
                len >= max || (len >= min && xxh3_64_with_seed(block, *seed) <= *threshold)
            }
            _ => false,
        }
    }

    /// Whether the cutter decides block by block.
    pub(crate) const fn is_block(&self) -> bool {
        matches!(self.rule, Rule::Block { .. })
    }
}

impl fmt::Debug for Cutter {
    /// Without the seed, which would tell how content was cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutter({})", self.params)
    }
}

impl Gear {
    fn first(&self, bytes: &[u8], min: usize, average: usize, max: usize) -> usize {
        let (strict, loose) = (self.strict, self.loose);
        let (_, len) = cut_gear(
            bytes,
            min,
            average,
            max,
            strict,
            loose,
            strict << 1,
            loose << 1,
            &self.table,
            &self.shifted,
        );
        len
    }
}

#[cfg(test)]
mod tests;
