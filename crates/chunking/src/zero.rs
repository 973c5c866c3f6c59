//! Finding zeros as fast as memory can be read.

/// Whether every byte is zero.
///
/// Words of a line are joined before the one test, which compiles to wide loads; content differs
/// from zero in its first line nearly always, so data costs one line.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(line_is_zero) && rest.iter().all(|byte| *byte == 0)
}

fn line_is_zero(line: &[u8; 64]) -> bool {
    let (words, _) = line.as_chunks::<8>();
    words
        .iter()
        .fold(0, |all, word| all | u64::from_ne_bytes(*word))
        == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_byte_anywhere_is_seen(len in 0..300usize, at in any::<prop::sample::Index>(), byte in 1..=255u8) {
            let mut bytes = vec![0; len];
            prop_assert!(is_zero(&bytes));
            if len > 0 {
                bytes[at.index(len)] = byte;
                prop_assert!(!is_zero(&bytes));
            }
        }
    }
}
