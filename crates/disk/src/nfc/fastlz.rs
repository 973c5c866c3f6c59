//! FastLZ, the compression that a host may put on a fragment: taking it apart.
//!
//! A block is a list of instructions, each a run of literals or a copy of what came before. The top
//! three bits of the first byte say which of two levels it is: level 2 has longer matches and farther
//! distances. Nothing here allocates, and no input makes it write more than its output has room for.
//! Putting together is not needed: what we write is sent as it is.

/// Why a block cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte names another level than 1 and 2.
    #[error("unknown level {0}")]
    Level(u8),
    /// The block ends within an instruction.
    #[error("it ends within an instruction")]
    Truncated,
    /// A copy begins before the first byte.
    #[error("it refers to what lies before its beginning")]
    Distance,
    /// The block has more bytes than it should.
    #[error("it is longer than it should be")]
    Long,
    /// The block has fewer bytes than it should.
    #[error("it is shorter than it should be")]
    Short,
}

/// Distances of level 2 that are this long are continued in two more bytes.
const FAR: usize = 31 << 8 | 255;
/// A match of this length code is continued in the next byte.
const LONG: usize = 7;

/// Takes a block apart; it must fill `output` exactly.
///
/// # Errors
/// When it does not, or is no block. What `output` holds then means nothing.
pub fn decompress(input: &[u8], output: &mut [u8]) -> Result<(), Error> {
    let mut input = Input(input);
    let mut output = Output {
        bytes: output,
        at: 0,
    };
    let first = input.byte()?;
    let is_level_2 = match first >> 5 {
        0 => false,
        1 => true,
        level => return Err(Error::Level(level + 1)),
    };
    // The level is in the bits that would make it a match: the first instruction is a run.
    let mut opcode = first & 31;
    loop {
        if opcode < 32 {
            output.literals(input.take(usize::from(opcode) + 1)?)?;
        } else {
            let (length, distance) = input.reference(opcode, is_level_2)?;
            output.repeat(length, distance)?;
        }
        if input.0.is_empty() {
            return output.end();
        }
        opcode = input.byte()?;
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.0.split_first().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Length and distance of a match; a distance of 1 is the last byte.
    fn reference(&mut self, opcode: u8, is_level_2: bool) -> Result<(usize, usize), Error> {
        let code = usize::from(opcode >> 5);
        let mut length = code + 2;
        if code == LONG {
            loop {
                let more = self.byte()?;
                length = length.checked_add(more.into()).ok_or(Error::Long)?;
                if more != 255 || !is_level_2 {
                    break;
                }
            }
        }
        let mut distance = usize::from(opcode & 31) << 8 | usize::from(self.byte()?);
        if distance == FAR && is_level_2 {
            distance += usize::from(self.byte()?) << 8;
            distance += usize::from(self.byte()?);
        }
        Ok((length, distance + 1))
    }
}

struct Output<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Output<'_> {
    fn literals(&mut self, run: &[u8]) -> Result<(), Error> {
        let end = self.at + run.len();
        let place = self.bytes.get_mut(self.at..end).ok_or(Error::Long)?;
        place.copy_from_slice(run);
        self.at = end;
        Ok(())
    }

    /// Repeats what lies `distance` back. What is copied may be what this very copy wrote, so it is
    /// done in steps that double.
    fn repeat(&mut self, length: usize, distance: usize) -> Result<(), Error> {
        let from = self.at.checked_sub(distance).ok_or(Error::Distance)?;
        let end = self.at.checked_add(length).ok_or(Error::Long)?;
        if end > self.bytes.len() {
            return Err(Error::Long);
        }
        while self.at < end {
            let step = (self.at - from).min(end - self.at);
            self.bytes.copy_within(from..from + step, self.at);
            self.at += step;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Error> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(Error::Short),
        }
    }
}

#[cfg(test)]
mod tests;
