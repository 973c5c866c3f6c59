//! LZNT1 ([MS-XCA] 2.5): chunks of 4 KiB, each with two bytes of header.

/// What a chunk is when it is unpacked.
const CHUNK: usize = 4096;
const COMPRESSED: u16 = 0x8000;
const LENGTH: u16 = 0x0fff;

/// Unpacks until there is nothing more or `limit` bytes are there; none if the bytes make no sense.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(limit);
    let mut rest = packed;
    while out.len() < limit {
        let Some((header, behind)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let header = u16::from_le_bytes(*header);
        if header == 0 {
            break;
        }
        let (chunk, behind) = behind.split_at_checked(usize::from(header & LENGTH) + 1)?;
        rest = behind;
        let from = out.len();
        if header & COMPRESSED == 0 {
            out.extend_from_slice(chunk.get(..CHUNK.min(chunk.len()))?);
        } else {
            unpack_chunk(chunk, &mut out)?;
        }
        // Every chunk stands for as much, and what it leaves out is zeros.
        out.resize(from + CHUNK, 0);
    }
    out.truncate(limit);
    Some(out)
}

/// Eight things after each byte of flags: literal bytes, or copies of what came before in this chunk.
fn unpack_chunk(chunk: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let from = out.len();
    let mut rest = chunk.iter();
    while let Some(&flags) = rest.next() {
        for bit in 0..8 {
            let Some(&first) = rest.next() else {
                return Some(());
            };
            let done = out.len() - from;
            if flags >> bit & 1 == 0 {
                (done < CHUNK).then(|| out.push(first))?;
                continue;
            }
            let token = u16::from_le_bytes([first, *rest.next()?]);
            copy(token, from, out)?;
        }
    }
    Some(())
}

/// How the sixteen bits are shared between length and distance depends on how far back there is anything.
fn copy(token: u16, from: usize, out: &mut Vec<u8>) -> Option<()> {
    let done = out.len() - from;
    let mut length_bits = 12;
    let mut reach = done.checked_sub(1)?;
    while reach >= 0x10 {
        length_bits -= 1;
        reach >>= 1;
    }
    let back = usize::from(token >> length_bits) + 1;
    let length = usize::from(token & ((1 << length_bits) - 1)) + 3;
    if back > done || done + length > CHUNK {
        return None;
    }
    for _ in 0..length {
        let byte = *out.get(out.len() - back)?;
        out.push(byte);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_unpacks() {
        let packed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2,
            0x47, 0x01, 0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0,
            0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58,
            0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01,
            0x18, 0x90, 0x00,
        ];
        let text =
            b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E \
            F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        let out = unpack(&packed, 1 << 16).unwrap();
        assert_eq!(&out[..text.len()], text);
        assert!(out[text.len()..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_copy_from_before_the_beginning_is_refused() {
        assert_eq!(unpack(&[0x02, 0xb0, 0x01, 0x00, 0x00], 4096), None);
        assert_eq!(unpack(&[0x03, 0xb0, 0x02, b'a', 0x00, 0x10], 4096), None);
    }
}
