//! Giving records out.
//!
//! Records are read on a thread that waits while the caller does not take what was read: one message
//! is under way and one is being made, each of at most 1 MiB and one record.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use stillwater_format::pack::{Codec, RecordId, RecordKind};
use stillwater_repository_api::{
    self as api, ReadRecordsRequest, ReadRecordsResponse, Record, RecordType, SaltedRecord,
};
use stillwater_rpc::Peer;
use stillwater_rpc::grant::Verb;
use stillwater_store::{Store, StoredRecord};
use stillwater_types::{DatasetId, Fault};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::Engine;
use crate::error::fault;
use crate::gate::Gate;
use crate::intake::draining;

/// A message is sent when it has this many bytes; with one record more it stays below 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

type Message = Result<ReadRecordsResponse, Fault>;

/// Answers reads, a bounded number at a time.
#[derive(Clone)]
pub struct Delivery {
    engine: Engine,
    gate: Gate,
    places: Arc<Semaphore>,
}

impl Delivery {
    /// Answers at most `reads` at a time.
    pub fn new(engine: Engine, gate: Gate, reads: u32) -> Self {
        Self {
            engine,
            gate,
            places: Arc::new(Semaphore::new(reads as usize)),
        }
    }

    /// Reads records in the order asked. Each is checked against its hash.
    ///
    /// # Errors
    /// When the caller may not; a record that cannot be read ends the stream.
    pub async fn give(
        &self,
        peer: &Peer,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Message>, Fault> {
        let dataset = self.gate.admit(peer, &request.authority, Verb::Read)?;
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| draining())?;
        let (sender, messages) = mpsc::channel(1);
        let store = self.engine.store().clone();
        // The thread ends by itself: when all is read, or when the caller is gone.
        drop(tokio::task::spawn_blocking(move || {
            read(&store, dataset, &request, &sender);
            drop(place);
        }));
        Ok(ReceiverStream::new(messages).boxed())
    }
}

/// Sends message after message; ends when the receiver does.
fn read(
    store: &Store,
    dataset: DatasetId,
    request: &ReadRecordsRequest,
    sender: &mpsc::Sender<Message>,
) {
    let kind = kind(request.record_type);
    let (mut records, mut bytes) = (Vec::new(), 0);
    for id in &request.ids {
        match store.read(dataset, RecordId { kind, id: *id }) {
            Ok(found) => {
                bytes += found.stored.len();
                records.push(salted(found, request.record_type));
            }
            Err(error) => {
                send(sender, Err(fault(error)));
                return;
            }
        }
        if bytes >= MESSAGE_BYTES {
            bytes = 0;
            let records = std::mem::take(&mut records);
            if !send(sender, Ok(ReadRecordsResponse { records })) {
                return;
            }
        }
    }
    if !records.is_empty() {
        send(sender, Ok(ReadRecordsResponse { records }));
    }
}

/// Waits until the caller takes it; false when the caller is gone.
fn send(sender: &mpsc::Sender<Message>, message: Message) -> bool {
    let sent = sender.blocking_send(message).is_ok();
    if !sent {
        tracing::debug!("whoever read records has gone");
    }
    sent
}

fn salted(found: StoredRecord, record_type: RecordType) -> SaltedRecord {
    let StoredRecord {
        header,
        stored,
        salt,
    } = found;
    let codec = match header.codec {
        Codec::Raw => api::Codec::Raw,
        Codec::Zstd => api::Codec::Zstd,
    };
    let record = Record {
        record_type,
        codec,
        counter: header.counter,
        plain_bytes: header.plain_len,
        id: header.id,
        stored_hash: header.stored_hash,
        stored: Bytes::from(stored),
    };
    SaltedRecord { record, salt }
}

/// What the store calls a record of this type.
pub const fn kind(record_type: RecordType) -> RecordKind {
    match record_type {
        RecordType::Chunk => RecordKind::Chunk,
        RecordType::Node => RecordKind::Node,
    }
}
