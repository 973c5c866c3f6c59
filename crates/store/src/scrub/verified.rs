//! When each pack was verified last: a projection in two files that take turns.
//!
//! Losing it costs nothing but reading again, so no error of it is passed on.
//!
//! ```text
//! magic "SWVF" · version u16 · zero u16 · generation u64 · surveyed u64 · count u32
//! count × (pack id (16) · time u64) · BLAKE3 of all before
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use stillwater_format::Time;
use stillwater_types::PackId;

use super::Memory;
use crate::store::Inner;
use crate::vfs::Vfs;
use crate::{Error, durable, layout};

const MAGIC: &[u8; 4] = b"SWVF";
const VERSION: u16 = 1;
const ENTRY_LEN: usize = 24;
const HASH_LEN: usize = 32;
/// Times of 40 million packs.
const BYTES_MAX: u64 = 1 << 30;
const NEVER: u64 = u64::MAX;

/// The times, and what of them is not kept yet.
#[derive(Debug, Default)]
pub(super) struct Verified {
    times: BTreeMap<PackId, Time>,
    generation: u64,
    unsaved: u64,
    saved_at: Duration,
}

impl Verified {
    pub(super) fn of(&self, pack: PackId) -> Option<Time> {
        self.times.get(&pack).copied()
    }

    pub(super) fn note(&mut self, pack: PackId, now: Time) {
        self.times.insert(pack, now);
        self.unsaved += 1;
    }

    pub(super) fn forget(&mut self, pack: PackId) {
        self.times.remove(&pack);
    }

    /// Says that there is something to be saved.
    pub(super) fn touch(&mut self) {
        self.unsaved += 1;
    }

    pub(super) fn is_to_be_saved(&self, now: Duration, every: Duration, packs: u64) -> bool {
        let is_time = self.generation == 0 || now.saturating_sub(self.saved_at) >= every;
        self.unsaved >= packs || (self.unsaved > 0 && is_time)
    }
}

/// What was kept, and when points were surveyed.
pub(super) fn read(vfs: &dyn Vfs) -> (Verified, Option<Time>) {
    let mut best: Option<Kept> = None;
    for path in layout::VERIFIED.map(Path::new) {
        match durable::read_all(vfs, path, BYTES_MAX) {
            Ok(bytes) => match Kept::decode(&bytes) {
                Some(kept) if best.as_ref().is_none_or(|b| b.generation < kept.generation) => {
                    best = Some(kept);
                }
                Some(_) => {}
                None => {
                    tracing::warn!(path = %path.display(), "found damaged times of verification")
                }
            },
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read times of verification");
            }
        }
    }
    let Some(kept) = best else {
        return (Verified::default(), None);
    };
    let verified = Verified {
        times: kept.times,
        generation: kept.generation,
        ..Verified::default()
    };
    (verified, kept.surveyed)
}

/// Keeps the times of packs that are there.
pub(super) fn write(inner: &Inner, memory: &mut Memory) {
    let surveyed = memory.found.at;
    let verified = &mut memory.verified;
    verified.times.retain(|pack, _| inner.packs.is_there(*pack));
    let kept = Kept {
        generation: verified.generation + 1,
        surveyed,
        times: verified.times.clone(),
    };
    if let Err(error) = kept.write(inner) {
        tracing::warn!(%error, "cannot keep the times of verification");
        return;
    }
    verified.generation = kept.generation;
    verified.unsaved = 0;
    verified.saved_at = inner.clock.since_boot();
}

/// What stands in one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    generation: u64,
    surveyed: Option<Time>,
    times: BTreeMap<PackId, Time>,
}

impl Kept {
    /// Writes the file whose turn it is; the other one stands until this one is durable.
    fn write(&self, inner: &Inner) -> Result<(), Error> {
        let [even, odd] = layout::VERIFIED.map(Path::new);
        let path = if self.generation.is_multiple_of(2) {
            even
        } else {
            odd
        };
        match inner.vfs.remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(Error::io("remove", path))?,
        }
        durable::publish(&*inner.vfs, &*inner.rng, path, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.times.len() * ENTRY_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        let surveyed = self.surveyed.map_or(NEVER, Time::millis);
        out.extend_from_slice(&surveyed.to_le_bytes());
        out.extend_from_slice(&(self.times.len() as u32).to_le_bytes());
        for (pack, at) in &self.times {
            out.extend_from_slice(pack.as_bytes());
            out.extend_from_slice(&at.millis().to_le_bytes());
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_last_chunk::<HASH_LEN>()?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        if magic != MAGIC || u32::from_le_bytes(*version) != u32::from(VERSION) {
            return None;
        }
        let (generation, rest) = number(rest)?;
        let (surveyed, rest) = number(rest)?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (entries, behind) = rest.as_chunks::<ENTRY_LEN>();
        if entries.len() != u32::from_le_bytes(*count) as usize || !behind.is_empty() {
            return None;
        }
        let times = entries.iter().filter_map(|entry| {
            let (pack, at) = entry.split_first_chunk::<16>()?;
            let (at, _) = number(at)?;
            Some((PackId::from_bytes(*pack), Time::from_millis(at)))
        });
        Some(Self {
            generation,
            surveyed: (surveyed != NEVER).then(|| Time::from_millis(surveyed)),
            times: times.collect(),
        })
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_one_changed_byte_is_noticed() {
        let times = (1..=3).map(|n| (PackId::from_bytes([n; 16]), Time::from_millis(n.into())));
        let kept = Kept {
            generation: 7,
            surveyed: Some(Time::from_millis(5)),
            times: times.collect(),
        };
        let bytes = kept.encode();
        assert_eq!(Kept::decode(&bytes), Some(kept));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Kept::decode(&bytes), None, "at {at}");
            bytes.truncate(at);
            assert_eq!(Kept::decode(&bytes), None, "cut at {at}");
        }
    }
}
