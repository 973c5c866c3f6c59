//! Little-endian numbers at fixed places.

/// The number at `at`; none when the bytes end before.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let number = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*number))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let number = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*number))
}

/// Puts a number into a message of ours; the place is a constant within it.
pub(super) fn put<const N: usize>(message: &mut [u8], at: usize, number: [u8; N]) {
    if let Some(place) = message.get_mut(at..at + N) {
        place.copy_from_slice(&number);
    }
}
