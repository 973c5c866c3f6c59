//! Names: short ones of eight and three letters, long ones in pieces of thirteen.

use crate::Result;
use crate::view::{View, wide};

use super::directory::Slot;

const LAST: u8 = 0x40;
const ORDER: u8 = 0x3f;
/// Pieces of the longest name.
const PIECES_MAX: u8 = 20;
const SMALL_BASE: u8 = 0x08;
const SMALL_EXTENSION: u8 = 0x10;

/// Letters beyond ASCII of code page 437, which most guests that still write short names have.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A long name as far as it is known. Its last piece comes first.
#[derive(Default)]
pub(super) struct Long {
    /// Letters, the last piece first.
    pieces: Vec<[u16; 13]>,
    /// The number of the piece that has to come next; zero is the short name.
    next: u8,
    checksum: u8,
}

impl Long {
    /// A piece that does not go on what was before begins anew or is nothing.
    pub fn add(&mut self, raw: &[u8]) -> Result<()> {
        let view = View::new(raw, "FAT name", 0);
        let (order, checksum) = (view.u8(0)?, view.u8(13)?);
        let number = order & ORDER;
        if order & LAST != 0 && (1..=PIECES_MAX).contains(&number) {
            *self = Self {
                pieces: Vec::new(),
                next: number,
                checksum,
            };
        }
        if number == 0 || number != self.next || checksum != self.checksum {
            *self = Self::default();
            return Ok(());
        }
        let mut piece = [0; 13];
        let places = (1..11)
            .step_by(2)
            .chain((14..26).step_by(2))
            .chain([28, 30]);
        for (unit, place) in piece.iter_mut().zip(places) {
            *unit = view.le16(place)?;
        }
        self.pieces.push(piece);
        self.next -= 1;
        Ok(())
    }

    /// The name, if it is whole and belongs to this short one.
    pub fn name(self, short: &[u8; 11]) -> Option<Vec<u8>> {
        if self.pieces.is_empty() || self.next != 0 || self.checksum != checksum(short) {
            return None;
        }
        let units = self.pieces.into_iter().rev().flatten();
        Some(wide(units.take_while(|&unit| unit != 0)))
    }
}

fn checksum(short: &[u8; 11]) -> u8 {
    short
        .iter()
        .fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

/// The short name, with small letters where Windows NT noted them.
pub(super) fn short(slot: &Slot) -> Vec<u8> {
    let (base, extension) = slot.short.split_at(8);
    let mut base = base.to_vec();
    if let Some(first @ 0x05) = base.first_mut() {
        *first = 0xe5;
    }
    let mut name = part(&base, slot.case & SMALL_BASE != 0);
    let extension = part(extension, slot.case & SMALL_EXTENSION != 0);
    if !extension.is_empty() {
        name.push('.');
        name.push_str(&extension);
    }
    name.into_bytes()
}

fn part(bytes: &[u8], small: bool) -> String {
    let letters = bytes.iter().map(|&byte| match byte.checked_sub(0x80) {
        Some(index) => UPPER.chars().nth(index.into()).unwrap_or('_'),
        None => char::from(byte),
    });
    let text: String = letters.collect();
    let text = text.trim_end_matches(' ');
    if small {
        text.to_lowercase()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_page_has_a_letter_for_each_byte() {
        assert_eq!(UPPER.chars().count(), 128);
    }
}
