//! Tells of most records that a segment does not hold that it does not, without reading it.

use super::row::{Key, word};

/// Bits for each row: with six probes in one line about one miss in 80 is not told.
const BITS_PER_ROW: u64 = 10;
const PROBES: u32 = 6;
const LINE_BITS: u64 = 512;
/// Bytes of a line: what a processor fetches at once.
pub(super) const LINE_LEN: usize = 64;

/// A Bloom filter in which all bits of a row lie in one line.
///
/// Ids are hashes, so their own bytes choose line and bits: the first ones the line, so that rows in
/// their order fill the filter from front to back, and not one cache miss at a time. Whoever makes up
/// ids can make probes miss the filter's help, and wrong never.
#[derive(Debug)]
pub(super) struct Filter {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

/// How many lines a filter for so many rows has.
pub(super) const fn line_count(rows: u64) -> u64 {
    rows.saturating_mul(BITS_PER_ROW).div_ceil(LINE_BITS)
}

impl Filter {
    pub(super) fn new(lines: usize) -> Self {
        Self {
            lines: vec![Line::default(); lines],
        }
    }

    pub(super) fn insert(&mut self, key: &Key) {
        let at = self.place(key);
        let Some(Line(words)) = self.lines.get_mut(at) else {
            return;
        };
        for (word, bit) in bits(key) {
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    pub(super) fn may_hold(&self, key: &Key) -> bool {
        let line = self.lines.get(self.place(key));
        line.is_some_and(|Line(words)| {
            bits(key).all(|(word, bit)| words.get(word).is_some_and(|word| word & bit != 0))
        })
    }

    fn place(&self, key: &Key) -> usize {
        // The place among all numbers, scaled to the number of lines.
        let scaled = u128::from(key.prefix()) * self.lines.len() as u128;
        (scaled >> 64) as usize
    }

    /// Its lines as bytes.
    pub(super) fn bytes(&self) -> impl Iterator<Item = [u8; 8]> {
        self.lines
            .iter()
            .flat_map(|Line(words)| words.map(u64::to_le_bytes))
    }

    /// Sets lines from `at` on from their bytes.
    pub(super) fn fill(&mut self, at: usize, bytes: &[u8]) {
        let lines = self.lines.iter_mut().skip(at);
        for (Line(words), bytes) in lines.zip(bytes.chunks_exact(LINE_LEN)) {
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = bytes
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes));
            }
        }
    }
}

/// The words and bits of a row in its line: nine bits of the id choose each.
fn bits(key: &Key) -> impl Iterator<Item = (usize, u64)> {
    let choice = word(&key.id, 16);
    (0..PROBES).map(move |probe| {
        let place = (choice >> (9 * probe)) & (LINE_BITS - 1);
        ((place >> 6) as usize, 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
        Key { id, is_node: false }
    }

    #[test]
    fn it_holds_what_it_was_given_and_little_else() {
        let count = 20_000;
        let mut filter = Filter::new(line_count(count) as usize);
        (0..count).for_each(|number| filter.insert(&key(number)));
        assert!((0..count).all(|number| filter.may_hold(&key(number))));
        let wrong = (count..count * 2).filter(|number| filter.may_hold(&key(*number)));
        let wrong = wrong.count() as u64;
        assert!(
            wrong * 50 < count,
            "{wrong} of {count} misses were not told"
        );
    }

    #[test]
    fn its_bytes_make_it_again() {
        let mut filter = Filter::new(5);
        (0..100).for_each(|number| filter.insert(&key(number)));
        let bytes: Vec<u8> = filter.bytes().flatten().collect();
        assert_eq!(bytes.len(), 5 * LINE_LEN);
        let mut again = Filter::new(5);
        let (first, rest) = bytes.split_at(2 * LINE_LEN);
        again.fill(0, first);
        again.fill(2, rest);
        assert_eq!(
            again.bytes().collect::<Vec<_>>(),
            filter.bytes().collect::<Vec<_>>()
        );
    }
}
