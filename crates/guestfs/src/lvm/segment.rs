//! Logical volumes as sources of bytes.

use std::io;

use crate::Result;
use crate::source::{BlockSource, Disk, within};

use super::damaged;

/// Where the bytes of a segment are, or every n-th stretch of them.
pub(super) struct Stripe {
    pub disk: Disk,
    pub offset: u64,
}

pub(super) struct Segment {
    pub at: u64,
    length: u64,
    stripe_bytes: u64,
    stripes: Vec<Stripe>,
}

impl Segment {
    pub fn new(at: u64, length: u64, stripe_bytes: u64, stripes: Vec<Stripe>) -> Result<Self> {
        let striped = match stripes.len() as u64 {
            0 => false,
            1 => true,
            count => stripe_bytes > 0 && length.is_multiple_of(count),
        };
        if !striped || at.checked_add(length).is_none() {
            return Err(damaged("a segment is on nothing"));
        }
        Ok(Self {
            at,
            length,
            stripe_bytes,
            stripes,
        })
    }

    /// Where byte `from` of the segment is, and how many are in a row there.
    fn place(&self, from: u64) -> Option<(&Stripe, u64, u64)> {
        let count = self.stripes.len() as u64;
        if count == 1 {
            return Some((self.stripes.first()?, from, self.length - from));
        }
        let (number, skip) = (from / self.stripe_bytes, from % self.stripe_bytes);
        let stripe = self.stripes.get((number % count) as usize)?;
        let inside = number / count * self.stripe_bytes + skip;
        Some((
            stripe,
            inside,
            (self.stripe_bytes - skip).min(self.length - from),
        ))
    }
}

/// A logical volume.
pub(super) struct Logical {
    segments: Vec<Segment>,
    length: u64,
}

impl Logical {
    /// Segments in order, which leave nothing out.
    pub fn new(segments: Vec<Segment>, length: u64) -> Result<Self> {
        let mut end = 0;
        for segment in &segments {
            if segment.at != end {
                return Err(damaged("a volume has a gap, or two segments at one place"));
            }
            end += segment.length;
        }
        Ok(Self { segments, length })
    }

    fn place(&self, at: u64) -> Option<(&Stripe, u64, u64)> {
        let next = self.segments.partition_point(|segment| segment.at <= at);
        let segment = self.segments.get(next.checked_sub(1)?)?;
        let from = at - segment.at;
        if from >= segment.length {
            return None;
        }
        segment.place(from)
    }
}

impl BlockSource for Logical {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        within(offset, buffer.len(), self.length)?;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (stripe, inside, length) = self.place(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let step = length.min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(step);
            let place = stripe.offset.checked_add(inside);
            stripe
                .disk
                .read_at(place.ok_or(io::ErrorKind::UnexpectedEof)?, now)?;
            rest = later;
            at += step as u64;
        }
        Ok(())
    }
}
