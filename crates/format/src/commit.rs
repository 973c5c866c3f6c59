//! What the frames of the commit log say.
//!
//! The log is the repository's ordered truth: a dataset, a session or a restore point exists if and
//! only if its frame does.

use stillwater_types::{ClusterId, DatasetId, NodeId, PointId, RunId};

use crate::bytes::{Reader, put_blob};
use crate::{Error, Time};

/// Most bytes of a dataset's label.
pub const LABEL_BYTES_MAX: usize = 256;
/// Most bytes of a wrapped dataset key.
pub const WRAPPED_KEY_BYTES_MAX: usize = 1024;

const WHAT: &str = "commit log entry";
const IDENTITY: u16 = 1;
const DATASET: u16 = 2;
const SESSION_OPENED: u16 = 3;
const SESSION_CLOSED: u16 = 4;
const POINT_COMMITTED: u16 = Commit::KIND;
/// The newest kind that this program reads.
const KNOWN: u16 = POINT_COMMITTED;

/// Chunks that share a key and deduplicate together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Names it.
    pub id: DatasetId,
    /// A name for people.
    pub label: String,
    /// Its key, wrapped for the recovery key.
    pub wrapped_key: Vec<u8>,
}

/// The commit record: with it, a restore point exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Names the point.
    pub point: PointId,
    /// Whose chunks it reaches.
    pub dataset: DatasetId,
    /// The run that made it.
    pub run: RunId,
    /// The session that committed it.
    pub fence: u64,
    /// BLAKE3 of the manifest.
    pub manifest_hash: [u8; 32],
    /// The repository's trusted time at the commit.
    pub committed_at: Time,
    /// Until when it cannot be removed.
    pub retain_until: Time,
    /// The wall clock at the commit, for people.
    pub wall_at: Time,
}

/// One entry of the commit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Whose log it is; the first entry and only the first.
    Identity {
        /// The cluster.
        cluster: ClusterId,
        /// The repository's node.
        node: NodeId,
    },
    /// A dataset was created.
    Dataset(Dataset),
    /// A session was opened; the frame's sequence is its fence.
    SessionOpened {
        /// The run that it was opened for.
        run: RunId,
        /// The dataset that it writes.
        dataset: DatasetId,
        /// The trusted time.
        at: Time,
    },
    /// A session was closed or has expired.
    SessionClosed {
        /// The run that it was opened for.
        run: RunId,
        /// The session's fence.
        fence: u64,
        /// The trusted time.
        at: Time,
    },
    /// A restore point was committed.
    PointCommitted(Commit),
}

impl Entry {
    /// The kind and the payload of the entry's frame.
    ///
    /// # Errors
    /// When a field is beyond its bound.
    pub fn encode(&self) -> Result<(u16, Vec<u8>), Error> {
        let mut out = Vec::with_capacity(256);
        let kind = match self {
            Entry::Identity { cluster, node } => {
                out.extend_from_slice(cluster.as_bytes());
                out.extend_from_slice(node.as_bytes());
                IDENTITY
            }
            Entry::Dataset(dataset) => {
                dataset.put(&mut out)?;
                DATASET
            }
            Entry::SessionOpened { run, dataset, at } => {
                out.extend_from_slice(run.as_bytes());
                out.extend_from_slice(dataset.as_bytes());
                out.extend_from_slice(&at.millis().to_le_bytes());
                SESSION_OPENED
            }
            Entry::SessionClosed { run, fence, at } => {
                out.extend_from_slice(run.as_bytes());
                out.extend_from_slice(&fence.to_le_bytes());
                out.extend_from_slice(&at.millis().to_le_bytes());
                SESSION_CLOSED
            }
            Entry::PointCommitted(commit) => {
                commit.put(&mut out);
                POINT_COMMITTED
            }
        };
        Ok((kind, out))
    }

    /// Reads the payload of a frame of `kind`.
    ///
    /// # Errors
    /// When the kind is of a newer release, or the bytes are no such entry.
    pub fn decode(kind: u16, payload: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader::new(WHAT, payload);
        let entry = match kind {
            IDENTITY => Entry::Identity {
                cluster: ClusterId::from_bytes(fields.array()?),
                node: NodeId::from_bytes(fields.array()?),
            },
            DATASET => Entry::Dataset(Dataset::take(&mut fields)?),
            SESSION_OPENED => Entry::SessionOpened {
                run: RunId::from_bytes(fields.array()?),
                dataset: DatasetId::from_bytes(fields.array()?),
                at: Time::from_millis(fields.u64()?),
            },
            SESSION_CLOSED => Entry::SessionClosed {
                run: RunId::from_bytes(fields.array()?),
                fence: fields.u64()?,
                at: Time::from_millis(fields.u64()?),
            },
            POINT_COMMITTED => Entry::PointCommitted(Commit::take(&mut fields)?),
            0 => return Err(fields.refuse("kind")),
            found => {
                return Err(Error::TooNew {
                    what: WHAT,
                    found,
                    known: KNOWN,
                });
            }
        };
        fields.finish()?;
        Ok(entry)
    }
}

impl Dataset {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        bounded("dataset label", self.label.len(), LABEL_BYTES_MAX)?;
        bounded(
            "wrapped dataset key",
            self.wrapped_key.len(),
            WRAPPED_KEY_BYTES_MAX,
        )?;
        out.extend_from_slice(self.id.as_bytes());
        put_blob(out, self.label.as_bytes());
        put_blob(out, &self.wrapped_key);
        Ok(())
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: DatasetId::from_bytes(fields.array()?),
            label: fields.text("label", LABEL_BYTES_MAX)?,
            wrapped_key: fields.blob(WRAPPED_KEY_BYTES_MAX)?.to_vec(),
        })
    }
}

impl Commit {
    /// The kind of its frame in the commit log.
    pub const KIND: u16 = 5;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.point.as_bytes());
        out.extend_from_slice(self.dataset.as_bytes());
        out.extend_from_slice(self.run.as_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(&self.manifest_hash);
        for time in [self.committed_at, self.retain_until, self.wall_at] {
            out.extend_from_slice(&time.millis().to_le_bytes());
        }
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            point: PointId::from_bytes(fields.array()?),
            dataset: DatasetId::from_bytes(fields.array()?),
            run: RunId::from_bytes(fields.array()?),
            fence: fields.u64()?,
            manifest_hash: fields.array()?,
            committed_at: Time::from_millis(fields.u64()?),
            retain_until: Time::from_millis(fields.u64()?),
            wall_at: Time::from_millis(fields.u64()?),
        })
    }
}

fn bounded(what: &'static str, found: usize, limit: usize) -> Result<(), Error> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::TooLong {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id<T>(make: fn([u8; 16]) -> T) -> impl Strategy<Value = T>
    where
        T: std::fmt::Debug,
    {
        any::<[u8; 16]>().prop_map(make)
    }

    fn time() -> impl Strategy<Value = Time> {
        any::<u64>().prop_map(Time::from_millis)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let ids = (
            id(PointId::from_bytes),
            id(DatasetId::from_bytes),
            id(RunId::from_bytes),
        );
        prop_oneof![
            (id(ClusterId::from_bytes), id(NodeId::from_bytes))
                .prop_map(|(cluster, node)| Entry::Identity { cluster, node }),
            (
                id(DatasetId::from_bytes),
                ".{0,64}",
                prop::collection::vec(any::<u8>(), 0..200)
            )
                .prop_map(|(id, label, wrapped_key)| {
                    Entry::Dataset(Dataset {
                        id,
                        label,
                        wrapped_key,
                    })
                }),
            (id(RunId::from_bytes), id(DatasetId::from_bytes), time())
                .prop_map(|(run, dataset, at)| Entry::SessionOpened { run, dataset, at }),
            (id(RunId::from_bytes), any::<u64>(), time())
                .prop_map(|(run, fence, at)| Entry::SessionClosed { run, fence, at }),
            (ids, any::<u64>(), any::<[u8; 32]>(), time(), time(), time()).prop_map(
                |(
                    (point, dataset, run),
                    fence,
                    manifest_hash,
                    committed_at,
                    retain_until,
                    wall_at,
                )| {
                    Entry::PointCommitted(Commit {
                        point,
                        dataset,
                        run,
                        fence,
                        manifest_hash,
                        committed_at,
                        retain_until,
                        wall_at,
                    })
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_is_read_back_and_a_cut_one_is_refused(entry in entry()) {
            let (kind, payload) = entry.encode().unwrap();
            prop_assert_eq!(Entry::decode(kind, &payload), Ok(entry));
            prop_assert!(Entry::decode(kind, &payload[..payload.len() - 1]).is_err());
            prop_assert!(Entry::decode(kind, &[payload.as_slice(), &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_have_one_encoding(
            kind in 0..8u16,
            payload in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            if let Ok(entry) = Entry::decode(kind, &payload) {
                prop_assert_eq!(entry.encode(), Ok((kind, payload)));
            }
        }
    }

    #[test]
    fn a_commit_record_fits_one_sector() {
        let commit = Commit {
            point: PointId::mint(),
            dataset: DatasetId::mint(),
            run: RunId::mint(),
            fence: 1,
            manifest_hash: [1; 32],
            committed_at: Time::default(),
            retain_until: Time::default(),
            wall_at: Time::default(),
        };
        let (kind, payload) = Entry::PointCommitted(commit).encode().unwrap();
        let frame = crate::log::encode(1, crate::log::FrameHash::GENESIS, kind, &payload).unwrap();
        assert_eq!(frame.len(), crate::log::ALIGN);
    }

    #[test]
    fn an_entry_of_a_newer_release_is_named_so() {
        let newer = Error::TooNew {
            what: WHAT,
            found: KNOWN + 1,
            known: KNOWN,
        };
        assert_eq!(Entry::decode(KNOWN + 1, b""), Err(newer));
    }
}
