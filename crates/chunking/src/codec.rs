//! Making chunks smaller, and proving that they come back.

use stillwater_format::node::CHUNK_BYTES_MAX;
use stillwater_format::pack::Codec;
use zstd::bulk;

/// Level 2, measured on the chunks of a Debian root (32 KiB on average, CPU seconds a GiB): level 1 has 2.49 : 1 for
/// 2.3 s, level 2 has 2.54 : 1 for 2.4 s, level 3 has 2.57 : 1 for 3.0 s; the negative ones save nothing.
const LEVEL: i32 = 2;

/// A failure to encode or decode a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The library gave no context, or refused to compress.
    #[error("compress a chunk")]
    Compress,
    /// The stored bytes do not decode.
    #[error("decompress a chunk: the bytes are damaged")]
    Damaged,
    /// The stored bytes decode to another length than recorded.
    #[error("decompress a chunk: it has {found} bytes where {recorded} are recorded")]
    Length {
        /// Length that the record states.
        recorded: u32,
        /// Length found.
        found: usize,
    },
    /// A chunk that was just compressed does not come back as itself.
    #[error("check a compressed chunk: it does not decompress to what was read")]
    Differs,
}

/// A chunk's encoded plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compressed {
    /// How it is encoded.
    pub codec: Codec,
    /// The encoded bytes.
    pub bytes: Vec<u8>,
}

/// Compresses chunks, with one context for all.
pub struct Compressor(bulk::Compressor<'static>);

impl Compressor {
    /// Makes the context.
    pub fn new() -> Result<Self, CodecError> {
        bulk::Compressor::new(LEVEL)
            .map(Self)
            .map_err(|_| CodecError::Compress)
    }

    /// Encodes a chunk; raw when it looks like noise or when zstd saves less than a 64th.
    pub fn compress(&mut self, plain: &[u8]) -> Result<Compressed, CodecError> {
        if !looks_like_noise(plain) {
            let bytes = self.0.compress(plain).map_err(|_| CodecError::Compress)?;
            if bytes.len() + plain.len() / 64 < plain.len() {
                return Ok(Compressed {
                    codec: Codec::Zstd,
                    bytes,
                });
            }
        }
        Ok(Compressed {
            codec: Codec::Raw,
            bytes: plain.to_vec(),
        })
    }
}

/// Bytes of a chunk that the noise probe looks at, in eight pieces.
const PROBE_LEN: usize = 4096;

/// Whether a sample's bytes are spread as evenly as those of noise.
///
/// Counts how often two of the sampled bytes are equal. For noise that is one pair in 256; texts,
/// code and structured data are far above. Compressed media and encrypted files, which zstd would
/// give up on only after its work, are within a few hundredths.
fn looks_like_noise(plain: &[u8]) -> bool {
    if plain.len() < 2 * PROBE_LEN {
        return false;
    }
    // Four tables: equal bytes in a row would each wait for the count of the one before.
    let mut counts = [[0u32; 256]; 4];
    let piece = PROBE_LEN / 8;
    for part in plain.chunks_exact(plain.len() / 8).take(8) {
        let (quads, _) = part.get(..piece).unwrap_or(part).as_chunks::<4>();
        for quad in quads {
            for (table, byte) in counts.iter_mut().zip(quad) {
                table[usize::from(*byte)] += 1;
            }
        }
    }
    let [a, b, c, d] = &counts;
    let equal_pairs: u64 = (0..256)
        .map(|byte| u64::from(a[byte] + b[byte] + c[byte] + d[byte]).pow(2))
        .sum();
    let of_noise = PROBE_LEN + PROBE_LEN * PROBE_LEN / 256;
    equal_pairs * 10 < of_noise as u64 * 11
}

/// Decompresses chunks, with one context for all and a bound on each.
pub struct Decompressor {
    context: bulk::Decompressor<'static>,
    buffer: Vec<u8>,
}

impl Decompressor {
    /// Makes the context.
    pub fn new() -> Result<Self, CodecError> {
        let context = bulk::Decompressor::new().map_err(|_| CodecError::Damaged)?;
        Ok(Self {
            context,
            buffer: Vec::new(),
        })
    }

    /// Decodes a chunk that the record says has `plain_len` bytes; takes no more memory than that,
    /// whatever the bytes say.
    pub fn decompress(
        &mut self,
        codec: Codec,
        stored: &[u8],
        plain_len: u32,
    ) -> Result<Vec<u8>, CodecError> {
        let plain = match codec {
            Codec::Raw => stored.to_vec(),
            Codec::Zstd => {
                let capacity = plain_len.min(CHUNK_BYTES_MAX) as usize;
                let plain = self.context.decompress(stored, capacity);
                plain.map_err(|_| CodecError::Damaged)?
            }
        };
        if plain.len() != plain_len as usize {
            return Err(CodecError::Length {
                recorded: plain_len,
                found: plain.len(),
            });
        }
        Ok(plain)
    }

    /// Decodes into a buffer that the next call overwrites, so that checks allocate nothing.
    pub fn decode<'a>(
        &'a mut self,
        codec: Codec,
        encoded: &'a [u8],
        plain_len: u32,
    ) -> Result<&'a [u8], CodecError> {
        let plain = match codec {
            Codec::Raw => encoded,
            Codec::Zstd => {
                let capacity = plain_len.min(CHUNK_BYTES_MAX) as usize;
                self.buffer.resize(capacity, 0);
                let decoded = self
                    .context
                    .decompress_to_buffer(encoded, self.buffer.as_mut_slice());
                let length = decoded.map_err(|_| CodecError::Damaged)?;
                self.buffer.get(..length).ok_or(CodecError::Damaged)?
            }
        };
        if plain.len() != plain_len as usize {
            return Err(CodecError::Length {
                recorded: plain_len,
                found: plain.len(),
            });
        }
        Ok(plain)
    }

    /// Proves that `encoded` decodes to `plain`.
    pub fn verify(&mut self, codec: Codec, encoded: &[u8], plain: &[u8]) -> Result<(), CodecError> {
        let length = u32::try_from(plain.len()).map_err(|_| CodecError::Differs)?;
        match self.decode(codec, encoded, length) {
            Ok(decoded) if decoded == plain => Ok(()),
            Ok(_) | Err(_) => Err(CodecError::Differs),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"noise");
        let mut bytes = vec![0; len];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    #[track_caller]
    fn check(plain: &[u8], codec: Codec) {
        let compressed = Compressor::new().unwrap().compress(plain).unwrap();
        assert_eq!(compressed.codec, codec);
        let mut decompressor = Decompressor::new().unwrap();
        assert_eq!(decompressor.verify(codec, &compressed.bytes, plain), Ok(()));
        let back = decompressor.decompress(codec, &compressed.bytes, plain.len() as u32);
        assert_eq!(back.unwrap(), plain);
    }

    #[test]
    fn texts_are_compressed_and_noise_is_kept() {
        check(
            &b"a line of text that comes again\n".repeat(1000),
            Codec::Zstd,
        );
        check(&noise(32 * 1024), Codec::Raw);
        check(&noise(100), Codec::Raw);
        check(b"", Codec::Raw);
    }

    #[test]
    fn the_probe_tells_noise_from_structure() {
        assert!(looks_like_noise(&noise(32 * 1024)));
        let records: Vec<u8> = (0..4096u32).flat_map(|n| (n * 77).to_le_bytes()).collect();
        assert!(!looks_like_noise(&records));
        let half: Vec<u8> = noise(16 * 1024)
            .chunks(64)
            .flat_map(|c| [c, &[b'x'; 64]].concat())
            .collect();
        assert!(!looks_like_noise(&half));
    }

    #[test]
    fn a_frame_that_says_it_is_huge_takes_no_more_than_recorded() {
        let bomb = Compressor::new()
            .unwrap()
            .compress(&vec![7; 1 << 20])
            .unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let refused = decompressor.decompress(Codec::Zstd, &bomb.bytes, 4096);
        assert_eq!(refused, Err(CodecError::Damaged));
        let longer = decompressor.decompress(Codec::Zstd, &bomb.bytes, 2 << 20);
        assert_eq!(
            longer,
            Err(CodecError::Length {
                recorded: 2 << 20,
                found: 1 << 20
            })
        );
    }

    proptest! {
        #[test]
        fn wrong_bytes_never_pass_the_check(
            at in any::<prop::sample::Index>(), flip in 1..=255u8, zstd in any::<bool>(),
        ) {
            let plain = if zstd { b"some text ".repeat(2000) } else { noise(20_000) };
            let compressed = Compressor::new().unwrap().compress(&plain).unwrap();
            prop_assert_eq!(compressed.codec, if zstd { Codec::Zstd } else { Codec::Raw });
            let mut wrong = plain.clone();
            wrong[at.index(plain.len())] ^= flip;
            let mut decompressor = Decompressor::new().unwrap();
            prop_assert!(decompressor.verify(compressed.codec, &compressed.bytes, &wrong).is_err());
            prop_assert!(decompressor.verify(compressed.codec, &compressed.bytes, &plain).is_ok());
        }

        #[test]
        fn any_bytes_decode_or_are_refused(stored in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut decompressor = Decompressor::new().unwrap();
            if let Ok(plain) = decompressor.decompress(Codec::Zstd, &stored, 1000) {
                prop_assert_eq!(plain.len(), 1000);
            }
        }
    }
}
