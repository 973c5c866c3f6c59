//! Rows in memory.

use std::collections::{BTreeMap, HashSet};

use stillwater_format::pack::Entry;

use super::row::{Key, Row};

/// Rows in their order, with all copies of a record: about 90 bytes each.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<(Key, u32), Place>,
    packs: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

impl Table {
    /// Takes in the records of a pack.
    pub(super) fn add(&mut self, pack: u32, entries: &[Entry]) {
        self.packs.push(pack);
        for row in entries.iter().filter_map(|entry| Row::of(entry, pack)) {
            let Row {
                key,
                offset,
                stored_len,
                plain_len,
                ..
            } = row;
            let place = Place {
                offset,
                stored_len,
                plain_len,
            };
            self.rows.insert((key, pack), place);
        }
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
    pub(super) fn packs(&self) -> &[u32] {
        &self.packs
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Lets go of packs.
    pub(super) fn forget(&mut self, gone: &HashSet<u32>) {
        let before = self.packs.len();
        self.packs.retain(|pack| !gone.contains(pack));
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
