//! Making whole sectors of writes that begin and end anywhere.

use bytes::{Bytes, BytesMut};

/// Cuts ascending writes of a new disk into whole sectors. What is not written is zeros, so the rest of
/// a sector is filled up when nothing more comes for it.
#[derive(Debug)]
pub(super) struct Sectors {
    sector: usize,
    /// The sector that is not yet full.
    open: BytesMut,
    open_at: u64,
}

impl Sectors {
    pub(super) fn new(sector_bytes: u32) -> Self {
        Self {
            sector: sector_bytes as usize,
            open: BytesMut::new(),
            open_at: 0,
        }
    }

    /// Takes a write that is not before the end of the last; puts what is ready to `ready`.
    pub(super) fn push(&mut self, mut at: u64, mut bytes: Bytes, ready: &mut Vec<(u64, Bytes)>) {
        let sector = self.sector as u64;
        if bytes.is_empty() {
            return;
        }
        if at >= self.open_at + sector {
            ready.extend(self.finish());
        }
        if !at.is_multiple_of(sector) || !self.open.is_empty() {
            self.open_at = at - at % sector;
            self.open.resize((at - self.open_at) as usize, 0);
            let part = bytes.split_to(bytes.len().min(self.sector - self.open.len()));
            at += part.len() as u64;
            self.open.extend_from_slice(&part);
            if self.open.len() == self.sector {
                ready.extend(self.finish());
            }
        }
        let whole = bytes.split_to(bytes.len() - bytes.len() % self.sector);
        let rest_at = at + whole.len() as u64;
        if !whole.is_empty() {
            ready.push((at, whole));
        }
        if !bytes.is_empty() {
            self.open_at = rest_at;
            self.open.extend_from_slice(&bytes);
        }
    }

    /// Fills up the sector that is not full, if there is one.
    pub(super) fn finish(&mut self) -> Option<(u64, Bytes)> {
        if self.open.is_empty() {
            return None;
        }
        let mut full = std::mem::take(&mut self.open);
        full.resize(self.sector, 0);
        Some((self.open_at, full.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: usize = 4096;
    const SECTOR: u64 = 64;

    proptest! {
        #[test]
        fn sectors_hold_what_was_written_and_none_is_written_twice(
            writes in prop::collection::vec((0..200usize, 0..300usize), 0..20),
        ) {
            let mut sectors = Sectors::new(SECTOR as u32);
            let (mut expected, mut position) = (vec![0; LENGTH], 0);
            let mut ready = Vec::new();
            for (number, (skip, bytes)) in (1..).zip(writes) {
                let start = (position + skip).min(LENGTH);
                position = (start + bytes).min(LENGTH);
                expected[start..position].fill(number);
                let bytes = Bytes::copy_from_slice(&expected[start..position]);
                sectors.push(start as u64, bytes, &mut ready);
            }
            ready.extend(sectors.finish());
            let (mut disk, mut end) = (vec![0; LENGTH], 0);
            for (at, bytes) in ready {
                prop_assert!(at >= end && at.is_multiple_of(SECTOR));
                prop_assert!(!bytes.is_empty() && bytes.len().is_multiple_of(SECTOR as usize));
                end = at + bytes.len() as u64;
                disk[at as usize..end as usize].copy_from_slice(&bytes);
            }
            prop_assert!(disk == expected);
        }
    }

    #[test]
    fn whole_sectors_are_not_copied() {
        let mut sectors = Sectors::new(64);
        let (bytes, mut ready) = (Bytes::from(vec![7; 256]), Vec::new());
        sectors.push(128, bytes.clone(), &mut ready);
        let [(128, same)] = ready.as_slice() else {
            panic!("{ready:?}");
        };
        assert_eq!((same.as_ptr(), same.len()), (bytes.as_ptr(), 256));
    }
}
