//! How much a transfer may hold at once, and how often it tries.

use std::time::Duration;

use stillwater_rpc::retry::Backoff;

/// About a minute in all: a repository that is restarted is back by then. Packs and calls wait alike,
/// or the less patient would end the transfer while the other still waits.
const RESTART: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(15),
    attempts: 9,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Longest chunk that the cutters in use make.
const CHUNK_BYTES: usize = 128 * KIB;
/// Longest tree node.
const NODE_BYTES: usize = stillwater_format::node::NODE_BYTES_MAX;
/// What one compressor and one decompressor keep, with the buffer for checks.
const CONTEXT_BYTES: usize = 2 * MIB;
/// What is remembered of a chunk until its pack is durable: twice 32 bytes of id, where it lies,
/// and the tables around that.
const NOTE_BYTES: usize = 192;
/// Nodes of a base that are held: of each of the levels that a disk of 64 TiB has, the one that is
/// open and those that were asked for with it.
const BASE_NODES: usize = 3 * 17;

/// The bounds of one transfer. They do not depend on the size of the disk.
///
/// A backup holds at most [`Limits::bytes_max`]:
///
/// ```text
///   requests_in_flight × request_bytes            read ahead by the transport
/// + plain_bytes                                   pieces that chunks still point into
/// + 2 × queue_items × chunk / 8                   chunks that span two pieces, which are copied
/// + (workers + 2) × (job_bytes + chunk) × 3       jobs: plain copies, sealed, being checked
/// + workers × context                             zstd contexts
/// + (workers + 3) × pack_records × note           what packs hold, until they are durable
/// + (workers + 3) × pack_node_bytes
/// + 3 × 17 × node                               the way through a base's tree, and nodes ahead
/// ```
///
/// With the defaults and two workers that is less than 80 MiB. A restore or an export holds
/// `2 × (fetches_in_flight + 2) × fetch_bytes` and the contexts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one read request.
    pub request_bytes: u32,
    /// Read requests at a time.
    pub requests_in_flight: usize,
    /// Bytes read and not yet dealt with.
    pub plain_bytes: usize,
    /// Items in each queue between two stages, and ids asked for at a time.
    pub queue_items: usize,
    /// Plain bytes that a worker takes at a time.
    pub job_bytes: usize,
    /// Threads that compress, seal and check.
    pub workers: usize,
    /// Stored bytes at which a pack is closed.
    pub pack_bytes: u64,
    /// Records at which a pack is closed.
    pub pack_records: usize,
    /// Bytes of tree nodes at which a pack is closed: they are kept until it is durable.
    pub pack_node_bytes: usize,
    /// Plain bytes that a restore asks for at a time.
    pub fetch_bytes: usize,
    /// Such requests at a time.
    pub fetches_in_flight: usize,
    /// How often and with what pauses a pack is sent before the transfer fails.
    pub pack_backoff: Backoff,
    /// The same for calls that ask or read.
    pub call_backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: MIB as u32,
            requests_in_flight: 8,
            plain_bytes: 16 * MIB,
            queue_items: 256,
            job_bytes: 512 * KIB,
            workers: 2,
            pack_bytes: 64 * MIB as u64,
            pack_records: 16 * 1024,
            pack_node_bytes: 2 * MIB,
            fetch_bytes: 2 * MIB,
            fetches_in_flight: 4,
            pack_backoff: RESTART,
            call_backoff: RESTART,
        }
    }
}

impl Limits {
    /// Most bytes that a backup holds at once.
    pub const fn bytes_max(&self) -> usize {
        self.requests_in_flight * self.request_bytes as usize
            + self.plain_bytes
            + 2 * self.queue_items * CHUNK_BYTES / 8
            + (self.workers + 2) * (self.job_bytes + CHUNK_BYTES) * 3
            + self.workers * CONTEXT_BYTES
            + (self.workers + 3) * (self.pack_records + self.job_records()) * NOTE_BYTES
            + (self.workers + 3) * (self.pack_node_bytes + NODE_BYTES)
            + BASE_NODES * NODE_BYTES
    }

    /// Records that come out of one job at most; chunks of disks have at least a block.
    const fn job_records(&self) -> usize {
        self.queue_items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_keeps_below_what_the_documents_promise() {
        let bytes = Limits::default().bytes_max();
        assert!(bytes <= 80 * MIB, "{} MiB", bytes / MIB);
    }
}
