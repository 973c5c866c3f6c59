//! Taking a pack in: a stream of batches becomes one durable pack, or nothing.
//!
//! A batch is written on a blocking thread before the next is taken from the stream, so HTTP/2 flow
//! control stops a proxy that is faster than the disk. One stream holds at most its HTTP/2 window,
//! one message of 4 MiB, and 1 MiB that the engine gathers before it writes.

use futures::{Stream, StreamExt};
use stillwater_repository_api::{PackFinish, PackPart, PutPackResponse, RecordBatch};
use stillwater_store::{PackReceipt, PackWriter};
use stillwater_types::{Fault, Reason};

use crate::record;

/// Writes the batches of `parts` and ends the pack with its finish.
///
/// # Errors
/// Why nothing of the pack was kept.
pub async fn ingest(
    mut writer: PackWriter,
    mut parts: impl Stream<Item = Result<PackPart, Fault>> + Unpin,
) -> Result<PutPackResponse, Fault> {
    let mut record_count = 0u64;
    while let Some(part) = parts.next().await {
        match part? {
            PackPart::Batch(batch) => {
                record_count += batch.records.len() as u64;
                writer = blocking(move || append(writer, batch)).await?;
            }
            PackPart::Finish(finish) => return end(writer, record_count, finish).await,
        }
    }
    Err(Fault::new(
        Reason::BadField,
        "the pack ended without a finish: send it again",
    ))
}

fn append(mut writer: PackWriter, batch: RecordBatch) -> Result<PackWriter, Fault> {
    for record in &batch.records {
        writer.append(&record::header(record)?, &record.stored)?;
    }
    Ok(writer)
}

async fn end(
    writer: PackWriter,
    record_count: u64,
    finish: PackFinish,
) -> Result<PutPackResponse, Fault> {
    if u64::from(finish.record_count) != record_count {
        let text = "the pack has another count of records than its finish says";
        return Err(Fault::new(Reason::BadField, text)
            .with("sent", finish.record_count)
            .with("came", record_count));
    }
    let receipt = blocking(move || Ok(writer.finish()?)).await?;
    let PackReceipt {
        pack,
        stored_bytes,
        stored_count,
        known_count,
    } = receipt;
    tracing::debug!(pack.id = %pack, stored_bytes, stored_count, known_count, "pack is durable");
    Ok(PutPackResponse {
        pack_id: pack,
        stored_bytes,
        known_count,
    })
}

/// Runs what blocks on the disk where it holds up nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let panicked = |_| Fault::new(Reason::Bug, "a call panicked: look at the repository's log");
    tokio::task::spawn_blocking(act).await.map_err(panicked)?
}
