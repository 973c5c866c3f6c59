//! Changing bytes at random.

use crate::random::Random;

/// Inputs do not grow beyond this.
const LENGTH_MAX: usize = 1 << 18;

/// Numbers at which bounds are.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 30,
    u64::MAX >> 1,
    u64::MAX,
];

/// Changes `bytes` in one to eight places; `others` are bytes to borrow from.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=random.below(8) {
        change(random, bytes, others);
        bytes.truncate(LENGTH_MAX);
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = random.below(bytes.len());
    let most = 1 << random.below(10);
    let length = 1 + random.below(most);
    let end = at.saturating_add(length).min(bytes.len());
    match random.below(10) {
        0 => flip(random, bytes, at),
        1 | 2 => overwrite(bytes, at, &[random.next() as u8]),
        3 | 4 => {
            let edge = random.pick(&EDGES).copied().unwrap_or_default();
            let edge = edge
                .wrapping_add(random.below(3) as u64)
                .wrapping_sub(1)
                .to_le_bytes();
            let width = 1 << random.below(4);
            overwrite(bytes, at, edge.get(..width).unwrap_or_default());
        }
        5 => drop(bytes.drain(at..end)),
        6 => bytes.truncate(at),
        7 => {
            let copy = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len());
            insert(bytes, to, &copy);
        }
        8 => {
            let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            insert(bytes, at, &noise);
        }
        _ => {
            let other = random.pick(others).map_or(&[][..], Vec::as_slice);
            let from = random.below(other.len());
            let piece = other.get(from..(from + length).min(other.len()));
            overwrite(bytes, at, piece.unwrap_or_default());
        }
    }
}

fn flip(random: &mut Random, bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, piece: &[u8]) {
    let place = bytes.get_mut(at..).unwrap_or_default();
    place
        .iter_mut()
        .zip(piece)
        .for_each(|(to, from)| *to = *from);
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}
