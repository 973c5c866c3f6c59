//! What the repository acknowledged and when, kept outside the disk whose power is cut.

use serde::{Deserialize, Serialize};
use stillwater_types::{DatasetId, PointId, RunId};

/// Before the log began.
const BEFORE: u64 = 0;

/// Something that was asked of the repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// How many entries the log of writes had before it was asked.
    pub begun: u64,
    /// How many it had when the answer was there; none if there was no answer.
    pub acked: Option<u64>,
    /// What it was.
    pub deed: Deed,
}

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Chunk or node.
    pub is_node: bool,
    /// Its id.
    pub id: [u8; 32],
    /// BLAKE3 of its stored bytes.
    pub hash: [u8; 32],
}

/// What was asked, with what the answer promised.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Deed {
    /// The repository was made.
    Init,
    /// A start came as far as answering calls, with this superblock.
    Start {
        /// The superblock's generation.
        generation: u64,
    },
    /// A dataset was created.
    Dataset(DatasetId),
    /// A session was opened.
    Open {
        /// Its run.
        run: RunId,
        /// Its fence; zero without an answer.
        fence: u64,
    },
    /// A session was closed.
    Close {
        /// Its run.
        run: RunId,
    },
    /// A pack was sent.
    Put {
        /// The run.
        run: RunId,
        /// What it held.
        records: Vec<Sent>,
    },
    /// A point was proposed.
    Propose {
        /// The run.
        run: RunId,
        /// The session's fence.
        fence: u64,
        /// The point.
        point: PointId,
        /// BLAKE3 of its manifest.
        manifest: [u8; 32],
    },
    /// A point was committed.
    Commit {
        /// The point.
        point: PointId,
        /// Its place in the commit log; zero without an answer.
        sequence: u64,
    },
    /// A point was deleted.
    Delete {
        /// The point.
        point: PointId,
    },
    /// Garbage was collected.
    Collect,
    /// The clocks were moved on by more than a session lasts.
    Wait,
}

/// All that was asked, in the order in which it was begun.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Witness {
    /// The events.
    pub events: Vec<Event>,
    /// By how much the clocks were moved on in all.
    pub waited_millis: u64,
    /// How many packs were removed.
    pub removed_count: u64,
    /// Bytes of packs of which what is live was copied to others.
    #[serde(default)]
    pub copied_bytes: u64,
}

impl Witness {
    /// Takes down that something is asked; answers where.
    pub fn begin(&mut self, begun: u64, deed: Deed) -> usize {
        self.events.push(Event {
            begun,
            acked: None,
            deed,
        });
        self.events.len() - 1
    }

    /// Takes down that it was answered.
    pub fn ack(&mut self, event: usize, acked: u64, deed: Deed) {
        if let Some(event) = self.events.get_mut(event) {
            event.acked = Some(acked);
            event.deed = deed;
        }
    }

    /// What was acknowledged when the log had `prefix` entries: it must be there.
    pub fn promised(&self, prefix: u64) -> impl Iterator<Item = &Deed> {
        let acked = move |event: &&Event| event.acked.is_some_and(|acked| acked <= prefix);
        self.events.iter().filter(acked).map(|event| &event.deed)
    }

    /// What was asked before the log had `prefix` entries: only that can be there.
    pub fn asked(&self, prefix: u64) -> impl Iterator<Item = &Deed> {
        let begun = move |event: &&Event| event.begun < prefix || event.begun == BEFORE;
        self.events.iter().filter(begun).map(|event| &event.deed)
    }

    /// Where answers came.
    pub fn acks(&self) -> Vec<u64> {
        self.events.iter().filter_map(|event| event.acked).collect()
    }

    /// The same as seen by a disk that lost power after `prefix` entries and starts a new log.
    pub fn after_cut(&self, prefix: u64) -> Self {
        let asked = |event: &&Event| event.begun < prefix || event.begun == BEFORE;
        let events = self.events.iter().filter(asked);
        let carried = events.map(|event| Event {
            begun: BEFORE,
            acked: event.acked.filter(|acked| *acked <= prefix).map(|_| BEFORE),
            deed: event.deed.clone(),
        });
        Self {
            events: carried.collect(),
            waited_millis: self.waited_millis,
            removed_count: 0,
            copied_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_before_a_cut_is_promised_after_it() {
        let mut witness = Witness::default();
        for (begun, acked) in [(1, Some(5)), (6, Some(9)), (7, None), (12, Some(13))] {
            let event = witness.begin(begun, Deed::Collect);
            if let Some(acked) = acked {
                witness.ack(event, acked, Deed::Collect);
            }
        }
        assert_eq!(witness.promised(8).count(), 1);
        assert_eq!(witness.asked(8).count(), 3);
        let after = witness.after_cut(8);
        for prefix in [0, 100] {
            assert_eq!(after.promised(prefix).count(), 1);
            assert_eq!(after.asked(prefix).count(), 3);
        }
        assert_eq!(after.after_cut(0).asked(0).count(), 3);
    }
}
