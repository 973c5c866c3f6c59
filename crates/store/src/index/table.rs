//! Rows in memory.

use std::collections::{BTreeMap, HashSet};

use stillwater_format::pack::Entry;

use super::PackFacts;
use super::row::{Key, Row};

/// Rows in their order, with all copies of a record: about 90 bytes each.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<(Key, u32), Place>,
    packs: Vec<(u32, PackFacts)>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

impl Table {
    /// Takes in the records of a pack.
    pub(super) fn add(&mut self, pack: u32, facts: PackFacts, entries: &[Entry]) {
        self.packs.push((pack, facts));
        let rows = entries.iter().filter_map(|entry| Row::of(entry, pack));
        rows.for_each(|row| self.insert(row));
    }

    /// Takes in packs and their rows.
    pub(super) fn extend(&mut self, packs: Vec<(u32, PackFacts)>, rows: Vec<Row>) {
        self.packs.extend(packs);
        rows.into_iter().for_each(|row| self.insert(row));
    }

    fn insert(&mut self, row: Row) {
        let Row {
            key,
            pack,
            offset,
            stored_len,
            plain_len,
        } = row;
        let place = Place {
            offset,
            stored_len,
            plain_len,
        };
        self.rows.insert((key, pack), place);
    }

    /// All copies of a record.
    pub(super) fn copies(&self, key: Key) -> impl Iterator<Item = Row> {
        self.rows
            .range((key, 0)..=(key, u32::MAX))
            .map(|(at, place)| row(*at, *place))
    }

    /// All rows in their order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().map(|(at, place)| row(*at, *place))
    }

    /// The packs that were taken in.
    pub(super) fn packs(&self) -> &[(u32, PackFacts)] {
        &self.packs
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> u64 {
        90 * self.rows.len() as u64 + 150 * self.packs.len() as u64
    }

    /// Lets go of packs.
    pub(super) fn forget(&mut self, gone: &HashSet<u32>) {
        let before = self.packs.len();
        self.packs.retain(|(pack, _)| !gone.contains(pack));
        if self.packs.len() < before {
            self.rows.retain(|(_, pack), _| !gone.contains(pack));
        }
    }
}

fn row((key, pack): (Key, u32), place: Place) -> Row {
    let Place {
        offset,
        stored_len,
        plain_len,
    } = place;
    Row {
        key,
        pack,
        offset,
        stored_len,
        plain_len,
    }
}
