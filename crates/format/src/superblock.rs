//! The superblock: whose repository it is, which formats it may hold, and what must not go back.

use stillwater_types::{ClusterId, NodeId};

use crate::bytes::{Reader, checked};
use crate::log::FrameHash;
use crate::{Error, Time};

/// Bytes of a superblock.
pub const SUPERBLOCK_LEN: usize = 512;
/// The format version that this program reads and writes.
pub const FORMAT_VERSION: u16 = 1;

const WHAT: &str = "superblock";
const MAGIC: &[u8; 8] = b"SWSUPER1";
const ZEROS: usize = 380;

/// The latest trusted time on record, and the boot clock when it was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeMark {
    /// The trusted time.
    pub time: Time,
    /// Names the boot.
    pub boot: [u8; 16],
    /// Milliseconds since that boot.
    pub boot_millis: u64,
}

/// A frame of the commit log that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Its sequence number; zero for an empty log.
    pub sequence: u64,
    /// Its hash.
    pub hash: FrameHash,
}

/// One of the two superblocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// The highest format version of anything in the repository.
    pub version: u16,
    /// The lowest format version that may be written.
    pub floor: u16,
    /// One more with each write: the higher of the two counts.
    pub generation: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The repository's node.
    pub node: NodeId,
    /// The latest trusted time on record.
    pub mark: TimeMark,
    /// A frame that the commit log must have.
    pub head: LogHead,
}

impl Superblock {
    /// The superblock's bytes.
    pub fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut out = Vec::with_capacity(SUPERBLOCK_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(&self.mark.time.millis().to_le_bytes());
        out.extend_from_slice(&self.mark.boot);
        out.extend_from_slice(&self.mark.boot_millis.to_le_bytes());
        out.extend_from_slice(&self.head.sequence.to_le_bytes());
        out.extend_from_slice(self.head.hash.as_bytes());
        out.extend_from_slice(&[0; ZEROS]);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.try_into()
            .expect("the fields add up to the length of a superblock")
    }

    /// Reads a superblock.
    ///
    /// # Errors
    /// When the bytes are none, or one of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != SUPERBLOCK_LEN {
            return Err(Error::Short { what: WHAT });
        }
        let mut fields = Reader::new(WHAT, checked(WHAT, bytes)?);
        fields.magic(MAGIC)?;
        let version = fields.u16()?;
        let floor = fields.u16()?;
        if version > FORMAT_VERSION {
            return Err(Error::TooNew {
                what: WHAT,
                found: version,
                known: FORMAT_VERSION,
            });
        }
        if floor > version || version == 0 {
            return Err(fields.refuse("version"));
        }
        fields.zeros(4)?;
        let superblock = Superblock {
            version,
            floor,
            generation: fields.u64()?,
            cluster: ClusterId::from_bytes(fields.array()?),
            node: NodeId::from_bytes(fields.array()?),
            mark: TimeMark {
                time: Time::from_millis(fields.u64()?),
                boot: fields.array()?,
                boot_millis: fields.u64()?,
            },
            head: LogHead {
                sequence: fields.u64()?,
                hash: FrameHash::from_bytes(fields.array()?),
            },
        };
        fields.zeros(ZEROS)?;
        fields.finish()?;
        Ok(superblock)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock() -> impl Strategy<Value = Superblock> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 16]>());
        (ids, any::<[u64; 4]>(), any::<[u8; 32]>()).prop_map(|((cluster, node, boot), n, hash)| {
            Superblock {
                version: FORMAT_VERSION,
                floor: FORMAT_VERSION,
                generation: n[0],
                cluster: ClusterId::from_bytes(cluster),
                node: NodeId::from_bytes(node),
                mark: TimeMark {
                    time: Time::from_millis(n[1]),
                    boot,
                    boot_millis: n[2],
                },
                head: LogHead {
                    sequence: n[3],
                    hash: FrameHash::from_bytes(hash),
                },
            }
        })
    }

    proptest! {
        #[test]
        fn a_superblock_is_read_back_and_no_flipped_bit_is(
            superblock in superblock(),
            bit in 0..SUPERBLOCK_LEN * 8,
        ) {
            let mut bytes = superblock.encode();
            prop_assert_eq!(Superblock::decode(&bytes), Ok(superblock));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Superblock::decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Superblock::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_newer_superblock_is_named_so() {
        let superblock = Superblock {
            version: FORMAT_VERSION + 1,
            floor: FORMAT_VERSION,
            generation: 1,
            cluster: ClusterId::mint(),
            node: NodeId::mint(),
            mark: TimeMark::default(),
            head: LogHead {
                sequence: 0,
                hash: FrameHash::GENESIS,
            },
        };
        let newer = Error::TooNew {
            what: WHAT,
            found: 2,
            known: FORMAT_VERSION,
        };
        assert_eq!(Superblock::decode(&superblock.encode()), Err(newer));
    }
}
