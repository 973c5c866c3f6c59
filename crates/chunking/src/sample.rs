//! Random content of a base that should not have changed.

use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_types::{ChunkId, Extent, ExtentSet, TreeId};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zeroize::Zeroizing;

use crate::areas::Areas;
use crate::tree::{Entry, Placed, Walk};
use crate::{BLOCK_LEN, CutError, TreeError, is_zero};

/// As much of a hole is looked at for one draw, aligned to itself.
const HOLE_SPOT_LEN: u64 = 32 * 1024;
/// Most draws, whatever the budget: a bound of memory.
const DRAWS_MAX: u64 = 1 << 16;
/// So short is the shortest chunk but the last: a budget never has room for more draws.
const DRAW_LEN_MIN: u64 = 16 * 1024;

/// What a sample does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleStep {
    /// It needs these nodes of the base: give each to [`Sample::supply`], then ask again.
    Nodes(Vec<TreeId>),
    /// What to read, and what must be there: ascending and apart.
    Done(Vec<Spot>),
}

/// A piece of the disk and what the base has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Where.
    pub extent: Extent,
    /// What.
    pub expected: Expected,
}

/// What the base has in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A chunk, whole.
    Chunk(ChunkId),
    /// Zeros.
    Zeros,
}

/// Draws leaves of a base that lie outside the areas that a map says changed.
///
/// Every unchanged byte has the same chance to be drawn, so a lie about a share *f* of the disk
/// stays hidden from *k* spots with a chance of (1 − *f*)^*k*. The same seed draws the same spots.
/// The first spots drawn that the budget has room for are taken: it should be at least some
/// times the longest chunk.
pub struct Sample {
    walk: Walk,
    changed: Areas,
    budget: u64,
    /// Places that were drawn, ascending, each with its turn.
    draws: Vec<(u64, u32)>,
    found: Vec<(u32, Spot)>,
}

impl Sample {
    /// Draws spots of at most `budget` bytes in all outside of `changed`.
    pub fn new(
        base: &DiskRoot,
        changed: &ExtentSet,
        budget: u64,
        seed: u64,
    ) -> Result<Self, TreeError> {
        let changed = changed.widen(BLOCK_LEN as u64, base.length);
        let unchanged = changed.complement(base.length);
        Ok(Self {
            walk: Walk::new(base)?,
            changed: Areas::new(&changed),
            budget,
            draws: draw(&unchanged, budget, seed),
            found: Vec::new(),
        })
    }

    /// Takes the bytes of a node that a [`SampleStep::Nodes`] asked for; tells which it was.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<TreeId, TreeError> {
        self.walk.supply(bytes)
    }

    /// Goes on to the end, or says which nodes that takes.
    pub fn step(&mut self) -> Result<SampleStep, TreeError> {
        while let Some(placed) = self.walk.at_hand() {
            let extent = placed.extent();
            let drawn = within(&self.draws, extent);
            if drawn.is_empty() {
                self.walk.pass();
                continue;
            }
            match placed.entry {
                Entry::Leaf(leaf) => {
                    look_at(leaf, extent, drawn, &self.changed, &mut self.found);
                    self.walk.pass();
                }
                Entry::Node { .. } => {
                    let draws = &self.draws;
                    let soon = |next: &Placed| !within(draws, next.extent()).is_empty();
                    if let Some(ids) = self.walk.open(soon)? {
                        return Ok(SampleStep::Nodes(ids));
                    }
                }
            }
        }
        Ok(SampleStep::Done(self.choose()))
    }

    /// The spots whose turn comes before the budget is spent.
    fn choose(&mut self) -> Vec<Spot> {
        let mut found = std::mem::take(&mut self.found);
        found.sort_unstable_by_key(|(turn, _)| *turn);
        let mut left = self.budget;
        let mut chosen: Vec<Spot> = found
            .into_iter()
            .map_while(|(_, spot)| {
                left = left.checked_sub(spot.extent.length)?;
                Some(spot)
            })
            .collect();
        chosen.sort_unstable_by_key(|spot| spot.extent.start);
        chosen
    }
}

/// Draws places in `unchanged`, each byte with the same chance.
fn draw(unchanged: &ExtentSet, budget: u64, seed: u64) -> Vec<(u64, u32)> {
    let count = match (budget, unchanged.bytes()) {
        (0, _) | (_, 0) => 0,
        _ => (budget / DRAW_LEN_MIN + 1).min(DRAWS_MAX),
    };
    let bytes = u128::from(unchanged.bytes());
    let rank = |turn: u64| {
        let random = xxh3_64_with_seed(&turn.to_le_bytes(), seed);
        ((u128::from(random) * bytes) >> 64) as u64
    };
    let mut ranks: Vec<(u64, u32)> = (0..count).map(|turn| (rank(turn), turn as u32)).collect();
    ranks.sort_unstable();
    // From the rank of a byte among the unchanged ones to its place.
    let (mut gaps, mut before) = (unchanged.iter().peekable(), 0);
    for (rank, _) in &mut ranks {
        while let Some(gap) = gaps.next_if(|gap| before + gap.length <= *rank) {
            before += gap.length;
        }
        *rank = gaps
            .peek()
            .map_or(*rank, |gap| gap.start + (*rank - before));
    }
    ranks
}

fn within(draws: &[(u64, u32)], extent: Extent) -> &[(u64, u32)] {
    let from = draws.partition_point(|(place, _)| *place < extent.start);
    let to = draws.partition_point(|(place, _)| *place < extent.end());
    draws.get(from..to).unwrap_or_default()
}

/// Adds the spots of one leaf.
fn look_at(
    leaf: Leaf,
    extent: Extent,
    drawn: &[(u64, u32)],
    changed: &Areas,
    found: &mut Vec<(u32, Spot)>,
) {
    match leaf {
        Leaf::Chunk { id, .. } => {
            let turn = drawn.iter().map(|(_, turn)| *turn).min();
            // A chunk that changed in part says nothing about the rest of it.
            if let Some(turn) = turn.filter(|_| !changed.overlap(extent)) {
                let expected = Expected::Chunk(id);
                found.push((turn, Spot { extent, expected }));
            }
        }
        Leaf::Hole { .. } => drawn.iter().for_each(|(place, turn)| {
            let extent = window(*place, extent, changed);
            let expected = Expected::Zeros;
            match found.last_mut() {
                Some((first, spot)) if spot.extent == extent => *first = (*first).min(*turn),
                _ => found.push((*turn, Spot { extent, expected })),
            }
        }),
    }
}

/// The part of a hole around a place that did not change.
fn window(place: u64, hole: Extent, changed: &Areas) -> Extent {
    let aligned = place / HOLE_SPOT_LEN * HOLE_SPOT_LEN;
    let before = changed.last_before(place).map_or(0, |area| area.end());
    let after = changed.next(place).map_or(u64::MAX, |area| area.start);
    let start = aligned.max(hole.start).max(before);
    let end = aligned
        .saturating_add(HOLE_SPOT_LEN)
        .min(hole.end())
        .min(after);
    Extent::new(start, end.saturating_sub(start))
}

/// Holds what was read of some spots against what they should hold.
pub struct SampleCheck {
    id_key: Zeroizing<[u8; 32]>,
    spots: std::iter::Peekable<std::vec::IntoIter<Spot>>,
    extents: ExtentSet,
    /// How far into the spot at hand.
    into: u64,
    hash: blake3::Hasher,
    zero: bool,
    lies: Vec<Extent>,
}

impl SampleCheck {
    /// For the spots of a [`Sample`].
    pub fn new(spots: Vec<Spot>, id_key: &[u8; 32]) -> Self {
        let extents = ExtentSet::collect(spots.iter().map(|spot| spot.extent), u64::MAX);
        Self {
            id_key: Zeroizing::new(*id_key),
            spots: spots.into_iter().peekable(),
            extents,
            into: 0,
            hash: blake3::Hasher::new_keyed(id_key),
            zero: true,
            lies: Vec::new(),
        }
    }

    /// What must be read.
    pub fn extents(&self) -> &ExtentSet {
        &self.extents
    }

    /// Takes the next bytes of the extents, in order.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<(), CutError> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let spot = self.spots.peek().copied();
            let due = spot.map_or(u64::MAX, |spot| spot.extent.start.saturating_add(self.into));
            let Some(spot) = spot.filter(|_| due == at) else {
                return Err(CutError::OutOfOrder {
                    expected: due,
                    found: at,
                });
            };
            let missing = spot.extent.length.saturating_sub(self.into);
            let length = usize::try_from(missing).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at(length.min(rest.len()));
            self.take(spot, part);
            at = at.saturating_add(part.len() as u64);
            rest = after;
        }
        Ok(())
    }

    fn take(&mut self, spot: Spot, part: &[u8]) {
        self.into = self.into.saturating_add(part.len() as u64);
        match spot.expected {
            Expected::Chunk(_) => {
                self.hash.update(part);
            }
            Expected::Zeros => self.zero &= is_zero(part),
        }
        if self.into < spot.extent.length {
            return;
        }
        let honest = match spot.expected {
            Expected::Chunk(id) => self.hash.finalize().as_bytes() == id.as_bytes(),
            Expected::Zeros => self.zero,
        };
        if !honest {
            self.lies.push(spot.extent);
        }
        self.spots.next();
        self.into = 0;
        self.zero = true;
        self.hash = blake3::Hasher::new_keyed(&self.id_key);
    }

    /// Where the disk does not hold what the base has, when all was read.
    pub fn finish(mut self) -> Result<ExtentSet, CutError> {
        if let Some(spot) = self.spots.next() {
            return Err(CutError::Incomplete {
                at: spot.extent.start.saturating_add(self.into),
                length: spot.extent.end(),
            });
        }
        Ok(ExtentSet::collect(self.lies, u64::MAX))
    }
}

#[cfg(test)]
mod tests;
