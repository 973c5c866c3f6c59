//! The packs that an index knows, by number.

use std::collections::{HashMap, HashSet};

use stillwater_types::{DatasetId, PackId};

use super::row::Row;
use super::{IndexCount, Location, PackFacts};
use crate::Error;

/// Packs by number, and which of them to prefer.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: Vec<Seat>,
    numbers: HashMap<PackId, u32>,
    condemned: HashSet<PackId>,
    count: IndexCount,
    next_rank: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seat {
    pack: PackId,
    dataset: DatasetId,
    /// The later a pack came, the higher: its copies are preferred.
    rank: u64,
    chunk_count: u32,
    node_count: u32,
    is_gone: bool,
}

impl Roster {
    /// Gives a pack that comes now a number; none if it has one.
    pub(super) fn enter(&mut self, facts: &PackFacts) -> Result<Option<u32>, Error> {
        if self.numbers.contains_key(&facts.pack) {
            return Ok(None);
        }
        let rank = self.next_rank;
        self.seat(facts, rank).map(Some)
    }

    /// Gives a pack that came earlier a number, or tells the one that it has.
    pub(super) fn seat(&mut self, facts: &PackFacts, rank: u64) -> Result<u32, Error> {
        self.next_rank = self.next_rank.max(rank.saturating_add(1));
        if let Some(number) = self.numbers.get(&facts.pack) {
            return Ok(*number);
        }
        let number = u32::try_from(self.seats.len())
            .map_err(|_| Error::malformed("more packs than the index can number"))?;
        let PackFacts {
            pack,
            dataset,
            chunk_count,
            node_count,
            ..
        } = *facts;
        self.seats.push(Seat {
            pack,
            dataset,
            rank,
            chunk_count,
            node_count,
            is_gone: false,
        });
        self.numbers.insert(pack, number);
        self.count.chunk_count += u64::from(chunk_count);
        self.count.node_count += u64::from(node_count);
        Ok(number)
    }

    /// Lets go of packs; gives the numbers that they had.
    pub(super) fn forget(&mut self, packs: &[PackId]) -> HashSet<u32> {
        let mut gone = HashSet::new();
        for pack in packs {
            self.condemned.remove(pack);
            let Some(number) = self.numbers.remove(pack) else {
                continue;
            };
            if let Some(seat) = self.seats.get_mut(number as usize) {
                seat.is_gone = true;
                self.count.chunk_count -= u64::from(seat.chunk_count);
                self.count.node_count -= u64::from(seat.node_count);
                gone.insert(number);
            }
        }
        gone
    }

    /// Lets go of all packs, and gives them in the order in which they came.
    pub(super) fn clear(&mut self) -> Vec<PackId> {
        let mut seats: Vec<_> = self.seats.drain(..).filter(|seat| !seat.is_gone).collect();
        seats.sort_by_key(|seat| seat.rank);
        let condemned = std::mem::take(&mut self.condemned);
        *self = Self {
            condemned,
            ..Self::default()
        };
        seats.into_iter().map(|seat| seat.pack).collect()
    }

    /// The number of a pack that is not gone.
    pub(super) fn number(&self, pack: PackId) -> Option<u32> {
        self.numbers.get(&pack).copied()
    }

    /// The rank of a pack that is not gone.
    pub(super) fn rank(&self, number: u32) -> Option<u64> {
        self.alive(number).map(|seat| seat.rank)
    }

    /// How many rows a pack has that is not gone.
    pub(super) fn rows(&self, number: u32) -> Option<u64> {
        let rows = |seat: &Seat| u64::from(seat.chunk_count) + u64::from(seat.node_count);
        self.alive(number).map(rows)
    }

    fn alive(&self, number: u32) -> Option<&Seat> {
        let seat = self.seats.get(number as usize);
        seat.filter(|seat| !seat.is_gone)
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let map_entry = 2 * size_of::<(PackId, u32)>();
        (self.seats.capacity() * size_of::<Seat>() + self.numbers.len() * map_entry) as u64
    }

    pub(super) fn condemn(&mut self, packs: &[PackId]) {
        self.condemned.extend(packs);
    }

    pub(super) fn spare(&mut self, packs: &[PackId]) {
        for pack in packs {
            self.condemned.remove(pack);
        }
    }

    pub(super) const fn count(&self) -> IndexCount {
        self.count
    }

    /// Where these copies of a record are, best first: copies in packs that are not condemned before
    /// others, and of those the one whose pack came last.
    pub(super) fn locations(&self, dataset: DatasetId, rows: &[Row]) -> Vec<Location> {
        let mut found: Vec<(&Seat, &Row)> = rows
            .iter()
            .filter_map(|row| Some((self.seats.get(row.pack as usize)?, row)))
            .filter(|(seat, _)| !seat.is_gone && seat.dataset == dataset)
            .collect();
        if found.len() > 1 {
            found.sort_by_key(|(seat, _)| (!self.condemned.contains(&seat.pack), seat.rank));
            found.reverse();
            // A pack that two segments cover gives the same location twice.
            found.dedup_by_key(|(seat, _)| seat.rank);
        }
        let location = |(seat, row): (&Seat, &Row)| Location {
            pack: seat.pack,
            offset: u64::from(row.offset),
            stored_len: row.stored_len,
            plain_len: row.plain_len,
        };
        found.into_iter().map(location).collect()
    }
}
