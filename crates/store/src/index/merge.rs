//! Writing rows in their order to a segment.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::Arc;

use super::row::Row;
use super::segment::{ABSENT, Covered, Cursor, Segment, Trouble, Writer};

/// How many rows are merged between two looks at whether to stop.
const ROWS_AT_ONCE: usize = 4096;

/// A segment that is being written, and what packs are called in it.
pub(super) struct Output<'a> {
    writer: Writer<'a>,
    covered: Vec<Covered>,
    numbers: Vec<u32>,
    /// By the number in the roster: the number in the segment, or [`ABSENT`].
    locals: Vec<u32>,
    last: Option<Row>,
}

impl<'a> Output<'a> {
    /// A segment of these packs, which are by their numbers in the roster.
    pub(super) fn new(writer: Writer<'a>, packs: BTreeMap<u32, Covered>) -> Self {
        let (numbers, covered): (Vec<u32>, Vec<_>) = packs.into_iter().unzip();
        let room = numbers.last().map_or(0, |last| *last as usize + 1);
        let mut locals = vec![ABSENT; room];
        for (local, number) in (0..).zip(&numbers) {
            if let Some(slot) = locals.get_mut(*number as usize) {
                *slot = local;
            }
        }
        Self {
            writer,
            covered,
            numbers,
            locals,
            last: None,
        }
    }

    /// Adds a row unless its pack is none of these. Two segments may have the same row.
    pub(super) fn push(&mut self, row: Row) -> Result<(), Trouble> {
        let local = self.locals.get(row.pack as usize).copied();
        let pack = local.unwrap_or(ABSENT);
        if pack == ABSENT || self.last == Some(row) {
            return Ok(());
        }
        self.last = Some(row);
        self.writer
            .push(&Row { pack, ..row })
            .map_err(Trouble::Write)
    }

    pub(super) fn finish(self) -> Result<Segment, Trouble> {
        let mut segment = self.writer.finish(&self.covered).map_err(Trouble::Write)?;
        segment.set_packs(self.numbers);
        Ok(segment)
    }
}

/// The next row of an input; the least row is the greatest head, as a heap wants it.
#[derive(PartialEq, Eq)]
struct Head {
    row: Row,
    input: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_row = self.row.order(&other.row);
        by_row.then(self.input.cmp(&other.input)).reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Merges segments, holding a few blocks of each.
pub(super) fn run(
    inputs: &[Arc<Segment>],
    mut output: Output<'_>,
    is_stopped: impl Fn() -> bool,
) -> Result<Segment, Trouble> {
    let mut cursors: Vec<_> = inputs.iter().map(|input| Cursor::new(input)).collect();
    let mut heads = BinaryHeap::new();
    for (input, cursor) in cursors.iter_mut().enumerate() {
        heads.extend(cursor.next()?.map(|row| Head { row, input }));
    }
    let mut count = 0;
    while let Some(mut head) = heads.peek_mut() {
        output.push(head.row)?;
        let next = match cursors.get_mut(head.input) {
            Some(cursor) => cursor.next()?,
            None => None,
        };
        match next {
            Some(row) => head.row = row,
            None => drop(PeekMut::pop(head)),
        }
        count += 1;
        if count % ROWS_AT_ONCE == 0 && is_stopped() {
            return Err(Trouble::Stopped);
        }
    }
    output.finish()
}
