//! What the frames of the commit log say.
//!
//! The log is the repository's ordered truth: a dataset, a session or a restore point exists if and
//! only if its frame does. What is removed, and who demanded what, is decided here before it is done.

use stillwater_types::{ClusterId, DatasetId, NodeId, PointId, RunId};

mod authority;
mod packs;

pub use authority::{Action, AdminKey, STATEMENT_BYTES_MAX, Signed, Statement, StatementId};
pub use packs::{Decision, Fate, Loss, NAMED_MAX};

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
const POINT_LOCKED: u16 = 6;
const POINT_DELETED: u16 = 7;
const PACKS_DECIDED: u16 = 8;
const RECORDS_LOST: u16 = 9;
const CYCLE_ENDED: u16 = 10;
const ADMIN_ADDED: u16 = 11;
const ADMIN_REMOVED: u16 = 12;
const SIGNED: u16 = 13;
const FLOOR_SET: u16 = 14;
const SWEEP_ALLOWED: u16 = 15;
const TIME_ADVANCED: u16 = 16;
/// The newest kind that this program reads.
const KNOWN: u16 = TIME_ADVANCED;

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
    /// A restore point was locked for longer.
    PointLocked {
        /// The point.
        point: PointId,
        /// Until when it cannot be removed; an earlier time than the one that counts has no effect.
        until: Time,
        /// The trusted time.
        at: Time,
    },
    /// A restore point was deleted.
    PointDeleted {
        /// The point.
        point: PointId,
        /// The trusted time.
        at: Time,
    },
    /// What becomes of packs was decided.
    Packs(Decision),
    /// Records were lost to damage.
    RecordsLost(Loss),
    /// A cycle of garbage collection went through.
    CycleEnded(Cycle),
    /// An administrator of the repository is accepted.
    AdminAdded {
        /// The key.
        key: AdminKey,
        /// A name for people.
        label: String,
        /// The trusted time.
        at: Time,
    },
    /// An administrator of the repository is accepted no longer.
    AdminRemoved {
        /// The key.
        key: AdminKey,
        /// The trusted time.
        at: Time,
    },
    /// An administrator signed a statement.
    Signed {
        /// The statement.
        signed: Signed,
        /// The trusted time.
        at: Time,
    },
    /// The floor of retention took effect.
    FloorSet {
        /// For how long every new point is locked at least.
        millis: u64,
        /// The trusted time.
        at: Time,
    },
    /// The next cycle may condemn an unusual amount.
    SweepAllowed {
        /// The most bytes.
        bytes: u64,
        /// The trusted time.
        at: Time,
    },
    /// Trusted time was moved forward.
    TimeAdvanced {
        /// To here.
        to: Time,
        /// The trusted time before.
        at: Time,
    },
}

/// What a cycle of garbage collection found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cycle {
    /// The trusted time at its end.
    pub at: Time,
    /// Bytes of records that something reaches.
    pub live_bytes: u64,
    /// Bytes in all packs.
    pub stored_bytes: u64,
    /// Bytes of packs that it condemned.
    pub condemned_bytes: u64,
    /// Bytes of packs that it would have condemned, had it been allowed; zero if it was.
    pub held_bytes: u64,
    /// Bytes of packs that it removed.
    pub removed_bytes: u64,
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
            Entry::PointLocked { point, until, at } => {
                out.extend_from_slice(point.as_bytes());
                put_times(&mut out, [*until, *at]);
                POINT_LOCKED
            }
            Entry::PointDeleted { point, at } => {
                out.extend_from_slice(point.as_bytes());
                put_times(&mut out, [*at]);
                POINT_DELETED
            }
            Entry::Packs(decision) => {
                decision.put(&mut out)?;
                PACKS_DECIDED
            }
            Entry::RecordsLost(loss) => {
                loss.put(&mut out)?;
                RECORDS_LOST
            }
            Entry::CycleEnded(cycle) => {
                cycle.put(&mut out);
                CYCLE_ENDED
            }
            Entry::AdminAdded { key, label, at } => {
                bounded("label of an administrator", label.len(), LABEL_BYTES_MAX)?;
                out.extend_from_slice(key);
                put_blob(&mut out, label.as_bytes());
                put_times(&mut out, [*at]);
                ADMIN_ADDED
            }
            Entry::AdminRemoved { key, at } => {
                out.extend_from_slice(key);
                put_times(&mut out, [*at]);
                ADMIN_REMOVED
            }
            Entry::Signed { signed, at } => {
                signed.put(&mut out)?;
                put_times(&mut out, [*at]);
                SIGNED
            }
            Entry::FloorSet { millis, at } => {
                out.extend_from_slice(&millis.to_le_bytes());
                put_times(&mut out, [*at]);
                FLOOR_SET
            }
            Entry::SweepAllowed { bytes, at } => {
                out.extend_from_slice(&bytes.to_le_bytes());
                put_times(&mut out, [*at]);
                SWEEP_ALLOWED
            }
            Entry::TimeAdvanced { to, at } => {
                put_times(&mut out, [*to, *at]);
                TIME_ADVANCED
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
            POINT_LOCKED => Entry::PointLocked {
                point: PointId::from_bytes(fields.array()?),
                until: Time::from_millis(fields.u64()?),
                at: Time::from_millis(fields.u64()?),
            },
            POINT_DELETED => Entry::PointDeleted {
                point: PointId::from_bytes(fields.array()?),
                at: Time::from_millis(fields.u64()?),
            },
            PACKS_DECIDED => Entry::Packs(Decision::take(&mut fields)?),
            RECORDS_LOST => Entry::RecordsLost(Loss::take(&mut fields)?),
            CYCLE_ENDED => Entry::CycleEnded(Cycle::take(&mut fields)?),
            ADMIN_ADDED => Entry::AdminAdded {
                key: fields.array()?,
                label: fields.text("label", LABEL_BYTES_MAX)?,
                at: Time::from_millis(fields.u64()?),
            },
            ADMIN_REMOVED => Entry::AdminRemoved {
                key: fields.array()?,
                at: Time::from_millis(fields.u64()?),
            },
            SIGNED => Entry::Signed {
                signed: Signed::take(&mut fields)?,
                at: Time::from_millis(fields.u64()?),
            },
            FLOOR_SET => Entry::FloorSet {
                millis: fields.u64()?,
                at: Time::from_millis(fields.u64()?),
            },
            SWEEP_ALLOWED => Entry::SweepAllowed {
                bytes: fields.u64()?,
                at: Time::from_millis(fields.u64()?),
            },
            TIME_ADVANCED => Entry::TimeAdvanced {
                to: Time::from_millis(fields.u64()?),
                at: Time::from_millis(fields.u64()?),
            },
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

impl Cycle {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            at,
            live_bytes,
            stored_bytes,
            condemned_bytes,
            held_bytes,
            removed_bytes,
        } = *self;
        put_times(out, [at]);
        for bytes in [
            live_bytes,
            stored_bytes,
            condemned_bytes,
            held_bytes,
            removed_bytes,
        ] {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            at: Time::from_millis(fields.u64()?),
            live_bytes: fields.u64()?,
            stored_bytes: fields.u64()?,
            condemned_bytes: fields.u64()?,
            held_bytes: fields.u64()?,
            removed_bytes: fields.u64()?,
        })
    }
}

fn put_times<const N: usize>(out: &mut Vec<u8>, times: [Time; N]) {
    for time in times {
        out.extend_from_slice(&time.millis().to_le_bytes());
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
mod tests;
