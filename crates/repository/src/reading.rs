//! Reading records: answered in the order asked, as many to a message as fit.
//!
//! One call holds at most three messages of about 1 MiB: one being read, one waiting, one sent.

use futures::stream::BoxStream;
use stillwater_format::pack::RecordId;
use stillwater_repository_api::{ReadRecordsResponse, SaltedRecord};
use stillwater_store::Store;
use stillwater_types::{DatasetId, Fault};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::record;

/// A message is sent when it has this many stored bytes; one more record fits beside them.
const MESSAGE_BYTES: usize = 1 << 20;

/// Streams the records of `ids`. A record that is missing or damaged ends the stream with its fault.
pub fn read(
    store: Store,
    dataset: DatasetId,
    ids: Vec<RecordId>,
) -> BoxStream<'static, Result<ReadRecordsResponse, Fault>> {
    let (messages, stream) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        if let Err(fault) = send(&store, dataset, &ids, &messages) {
            // The reader may have gone, and then there is nobody to tell.
            messages.blocking_send(Err(fault)).ok();
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

fn send(
    store: &Store,
    dataset: DatasetId,
    ids: &[RecordId],
    messages: &mpsc::Sender<Result<ReadRecordsResponse, Fault>>,
) -> Result<(), Fault> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let found = record::salted(store.read(dataset, *id)?)?;
        bytes += found.record.stored.len();
        records.push(found);
        if bytes >= MESSAGE_BYTES {
            bytes = 0;
            if !pass(messages, std::mem::take(&mut records)) {
                return Ok(());
            }
        }
    }
    if !records.is_empty() {
        pass(messages, records);
    }
    Ok(())
}

/// Whether the reader is still there.
fn pass(
    messages: &mpsc::Sender<Result<ReadRecordsResponse, Fault>>,
    records: Vec<SaltedRecord>,
) -> bool {
    messages
        .blocking_send(Ok(ReadRecordsResponse { records }))
        .is_ok()
}
