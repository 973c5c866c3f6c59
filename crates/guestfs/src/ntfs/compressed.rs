//! Compressed files: units of clusters, each stored as it is, packed, or not at all.

use std::sync::Mutex;

use crate::content::{Content, Mapped, Run, inside};
use crate::source::fill;
use crate::{Error, Result};

use super::lznt1::unpack;

/// Windows compresses 64 KiB together, with clusters of up to 4 KiB.
const UNIT_BYTES_MAX: u64 = 1 << 20;

pub(super) fn content(stored: Mapped, unit: u16, cluster_bytes: u64) -> Result<Box<dyn Content>> {
    let unit_bytes = cluster_bytes
        .checked_shl(unit.into())
        .filter(|bytes| unit > 0 && (4096..=UNIT_BYTES_MAX).contains(bytes))
        .ok_or(Error::Unsupported("an NTFS file of an unknown compression"))?;
    Ok(Box::new(Compressed {
        stored,
        unit_bytes,
        last: Mutex::new(None),
    }))
}

struct Compressed {
    stored: Mapped,
    unit_bytes: u64,
    /// The unit that was unpacked last: reads are mostly in order, and smaller than a unit.
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Content for Compressed {
    fn length(&self) -> u64 {
        self.stored.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let count = inside(offset, buffer.len(), self.length());
        let mut rest = buffer.get_mut(..count).unwrap_or_default();
        let mut at = offset;
        while !rest.is_empty() {
            let within = at % self.unit_bytes;
            let step = (self.unit_bytes - within).min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(step);
            self.read_unit(at / self.unit_bytes, within as usize, now)?;
            rest = later;
            at += step as u64;
        }
        self.cut_unwritten(offset, buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }

    fn run_at(&self, offset: u64) -> Run {
        let left = self.length().saturating_sub(offset);
        let unit = offset / self.unit_bytes * self.unit_bytes;
        let (_, place) = self.stored.pieces.stretch(unit);
        Run {
            length: (unit.saturating_add(self.unit_bytes) - offset).min(left),
            data: left > 0 && place.is_some(),
        }
    }
}

impl Compressed {
    fn read_unit(&self, unit: u64, from: usize, to: &mut [u8]) -> Result<()> {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = match &mut *last {
            Some((number, bytes)) if *number == unit => bytes,
            other => &mut other.insert((unit, self.unit(unit)?)).1,
        };
        to.fill(0);
        let have = bytes.get(from..).unwrap_or_default();
        let count = have.len().min(to.len());
        if let (Some(to), Some(have)) = (to.get_mut(..count), have.get(..count)) {
            to.copy_from_slice(have);
        }
        Ok(())
    }

    /// A unit that has all its clusters is stored as it is; one that lacks some is packed.
    fn unit(&self, unit: u64) -> Result<Vec<u8>> {
        let begin = unit * self.unit_bytes;
        let mut stored = Vec::new();
        while (stored.len() as u64) < self.unit_bytes {
            let at = begin + stored.len() as u64;
            let (length, Some(place)) = self.stored.pieces.stretch(at) else {
                break;
            };
            let length = length.min(self.unit_bytes - stored.len() as u64) as usize;
            let from = stored.len();
            stored.resize(from + length, 0);
            fill(
                &*self.stored.disk,
                place,
                stored.get_mut(from..).unwrap_or_default(),
            )?;
        }
        if stored.is_empty() || stored.len() as u64 == self.unit_bytes {
            return Ok(stored);
        }
        unpack(&stored, self.unit_bytes as usize).ok_or(Error::Damaged {
            structure: "compressed unit of an NTFS file",
            at: unit,
            what: "it cannot be unpacked",
        })
    }

    /// What lies beyond the initialised size is zeros whatever stands there.
    fn cut_unwritten(&self, offset: u64, buffer: &mut [u8]) {
        let valid = self.stored.valid.saturating_sub(offset);
        let valid = usize::try_from(valid).unwrap_or(usize::MAX);
        buffer.get_mut(valid..).unwrap_or_default().fill(0);
    }
}
