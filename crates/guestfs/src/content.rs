//! The bytes of one file.

use crate::source::{Disk, fill};
use crate::{Error, Limits, Result};

/// A stretch of a file of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How long it is from the offset that was asked for; zero at and beyond the end.
    pub length: u64,
    /// Whether there is anything; a hole is zeros.
    pub data: bool,
}

/// A file or stream that is open.
pub trait Content: Send {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills as much of `buffer` as there is from `offset` on, and says how much that is: less than all only
    /// at the end.
    ///
    /// # Errors
    /// When the disk cannot be read, or what is there makes no sense.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// What stands at `offset`, and for how long.
    fn run_at(&self, offset: u64) -> Run;
}

/// How many bytes of a read are inside a file.
pub(crate) fn inside(offset: u64, wanted: usize, length: u64) -> usize {
    length.saturating_sub(offset).min(wanted as u64) as usize
}

/// All of a file that is known to be small.
pub(crate) fn whole(content: &dyn Content, limit: u64, what: &'static str) -> Result<Vec<u8>> {
    let length = content.length();
    if length > limit {
        return Err(Error::Limit { what, limit });
    }
    let mut bytes = vec![0; length as usize];
    let count = content.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Content that stands in the file's own record.
pub(crate) struct Inline(pub Vec<u8>);

impl Content for Inline {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let count = inside(offset, buffer.len(), self.length());
        crate::source::overlay(buffer, offset, &self.0, 0);
        Ok(count)
    }

    fn run_at(&self, offset: u64) -> Run {
        Run {
            length: self.length().saturating_sub(offset),
            data: true,
        }
    }
}

/// A stretch of a file that has a place, or that is known to be zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the file.
    pub at: u64,
    pub length: u64,
    /// Where on the disk; without one it reads as zeros.
    pub place: Option<u64>,
}

/// The pieces of a file, in order; between them it reads as zeros.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Adds a piece that comes after all others. What goes on where the last one ends is one with it.
    pub fn push(&mut self, piece: Piece, limits: &Limits) -> Result<()> {
        let damaged = |what| Error::Damaged {
            structure: "map of a file",
            at: piece.at,
            what,
        };
        let end = piece.at.checked_add(piece.length);
        let placed = piece.place.unwrap_or(0).checked_add(piece.length);
        if end.is_none() || placed.is_none() {
            return Err(damaged("a piece goes beyond all numbers"));
        }
        if let Some(last) = self.0.last_mut() {
            let edge = last.at + last.length;
            if piece.at < edge {
                return Err(damaged("two pieces overlap"));
            }
            let goes_on = match (last.place, piece.place) {
                (Some(before), Some(now)) => before + last.length == now,
                (None, None) => true,
                _ => false,
            };
            if piece.at == edge && goes_on {
                last.length += piece.length;
                return Ok(());
            }
        }
        if self.0.len() >= limits.pieces {
            return Err(Error::Limit {
                what: "pieces of one file",
                limit: limits.pieces as u64,
            });
        }
        if piece.length > 0 {
            self.0.push(piece);
        }
        Ok(())
    }

    /// The piece at `offset`, or how far it is to the next one.
    fn at(&self, offset: u64) -> Result<Piece, u64> {
        let next = self.0.partition_point(|piece| piece.at <= offset);
        let here = next
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
            .filter(|piece| offset - piece.at < piece.length);
        match here {
            Some(piece) => Ok(*piece),
            None => Err(self.0.get(next).map_or(u64::MAX, |next| next.at) - offset),
        }
    }

    /// What of `offset..` is of one sort: its length, and its place if it has one.
    pub fn stretch(&self, offset: u64) -> (u64, Option<u64>) {
        match self.at(offset) {
            Ok(piece) => {
                let skip = offset - piece.at;
                (piece.length - skip, piece.place.map(|place| place + skip))
            }
            Err(gap) => (gap, None),
        }
    }
}

/// A file whose pieces lie on the disk as they are.
pub(crate) struct Mapped {
    pub disk: Disk,
    pub pieces: Pieces,
    pub length: u64,
    /// Bytes from here on were never written, whatever stands on the disk (NTFS).
    pub valid: u64,
}

impl Content for Mapped {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let count = inside(offset, buffer.len(), self.length);
        let mut rest = buffer.get_mut(..count).unwrap_or_default();
        let mut at = offset;
        while !rest.is_empty() {
            let (length, place) = self.stretch(at);
            let step = length.min(rest.len() as u64) as usize;
            let (now, later) = rest.split_at_mut(step);
            match place {
                Some(place) => fill(&*self.disk, place, now)?,
                None => now.fill(0),
            }
            rest = later;
            at += step as u64;
        }
        Ok(count)
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.length {
            return Run {
                length: 0,
                data: false,
            };
        }
        let (length, place) = self.stretch(offset);
        Run {
            length: length.min(self.length - offset),
            data: place.is_some(),
        }
    }
}

impl Mapped {
    /// Of one sort from `offset` on, what was never written being a hole. Never empty.
    fn stretch(&self, offset: u64) -> (u64, Option<u64>) {
        if offset >= self.valid {
            return (u64::MAX - offset, None);
        }
        let (length, place) = self.pieces.stretch(offset);
        (length.min(self.valid - offset), place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn mapped(pieces: &[(u64, u64, Option<u64>)], length: u64, valid: u64) -> Result<Mapped> {
        let mut all = Pieces::default();
        for &(at, length, place) in pieces {
            all.push(Piece { at, length, place }, &Limits::default())?;
        }
        Ok(Mapped {
            disk: Arc::new((0..100).collect::<Vec<u8>>()),
            pieces: all,
            length,
            valid,
        })
    }

    #[test]
    fn pieces_gaps_and_what_was_never_written_read_as_what_they_are() {
        let file = mapped(&[(2, 3, Some(50)), (5, 2, None), (9, 4, Some(10))], 15, 11).unwrap();
        let mut all = [0xff; 20];
        assert_eq!(file.read_at(0, &mut all).unwrap(), 15);
        assert_eq!(
            all[..15],
            [0, 0, 50, 51, 52, 0, 0, 0, 0, 10, 11, 0, 0, 0, 0]
        );
        assert_eq!(
            file.run_at(3),
            Run {
                length: 2,
                data: true
            }
        );
        assert_eq!(
            file.run_at(7),
            Run {
                length: 2,
                data: false
            }
        );
        assert_eq!(
            file.run_at(10),
            Run {
                length: 1,
                data: true
            }
        );
        assert_eq!(
            file.run_at(11),
            Run {
                length: 4,
                data: false
            }
        );
        assert_eq!(file.run_at(15).length, 0);
        assert_eq!(file.run_at(u64::MAX).length, 0);
    }

    #[test]
    fn pieces_that_overlap_or_overflow_are_refused() {
        assert!(mapped(&[(0, 4, Some(0)), (3, 1, Some(9))], 9, 9).is_err());
        assert!(mapped(&[(u64::MAX, 4, Some(0))], 9, 9).is_err());
        assert!(mapped(&[(0, 4, Some(u64::MAX - 1))], 9, 9).is_err());
    }

    #[test]
    fn pieces_that_go_on_are_one() {
        let file = mapped(&[(0, 4, Some(8)), (4, 4, Some(12)), (8, 1, Some(3))], 9, 9).unwrap();
        assert_eq!(file.pieces.0.len(), 2);
    }
}
