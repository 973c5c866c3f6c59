//! Taking packs.
//!
//! The next message of a stream is read only when the one before is written, so HTTP/2 flow control
//! reaches back to the proxy. A pack holds one message (4 MiB), what the writer gathers (1 MiB and a
//! record) and a window of the connection (16 MiB); the count of packs at a time is bounded.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use stillwater_format::pack::{Codec, RecordHeader, RecordKind};
use stillwater_repository_api::{
    self as api, PackHeader, PackPart, PutPackResponse, Record, RecordBatch, RecordType,
};
use stillwater_rpc::Peer;
use stillwater_rpc::grant::Verb;
use stillwater_store::{PackReceipt, PackWriter};
use stillwater_types::{Fault, Reason};
use tokio::sync::Semaphore;

use crate::engine::{Engine, blocking};
use crate::error::fault;
use crate::gate::Gate;

/// How long a proxy may take for its next message. A proxy that reads a slow disk sends nothing for
/// a while; one that is gone must not hold a place for ever.
const MESSAGE_WAIT: Duration = Duration::from_secs(300);

/// Takes packs, a bounded number at a time.
#[derive(Clone)]
pub struct Intake {
    engine: Engine,
    gate: Gate,
    places: Arc<Semaphore>,
}

impl Intake {
    /// Takes at most `packs` at a time.
    pub fn new(engine: Engine, gate: Gate, packs: u32) -> Self {
        Self {
            engine,
            gate,
            places: Arc::new(Semaphore::new(packs as usize)),
        }
    }

    /// Takes one pack; when it returns, every record is durable.
    ///
    /// # Errors
    /// When the caller may not, a record is not what it says, or it cannot be stored. Nothing of
    /// the pack is kept then.
    pub async fn take(
        &self,
        peer: &Peer,
        header: PackHeader,
        mut parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        let PackHeader {
            authority,
            dataset_id,
            salt,
        } = header;
        let store = self.engine.store();
        let (key, dataset) = self
            .gate
            .admit_to_session(store, peer, &authority, Verb::Put)?;
        if dataset != dataset_id {
            return Err(Fault::new(
                Reason::GrantInvalid,
                "the grant is for another dataset",
            ));
        }
        // Closed only with the process.
        let _place = self.places.acquire().await.map_err(|_| draining())?;
        let mut writer = self
            .engine
            .call(move |store| store.begin_pack(key, &salt))
            .await?;
        let mut taken = 0;
        loop {
            match next(&mut parts).await? {
                PackPart::Batch(batch) => {
                    (writer, taken) = write(writer, batch, taken).await?;
                }
                PackPart::Finish(finish) if finish.record_count == taken => break,
                PackPart::Finish(finish) => {
                    let sent = finish.record_count;
                    let message = format!("the pack had {taken} records, its sender says {sent}");
                    return Err(Fault::new(Reason::BadField, message));
                }
            }
        }
        let receipt = blocking(move || writer.finish().map_err(fault)).await?;
        Ok(response(&receipt))
    }
}

async fn next(parts: &mut BoxStream<'static, Result<PackPart, Fault>>) -> Result<PackPart, Fault> {
    match tokio::time::timeout(MESSAGE_WAIT, parts.next()).await {
        Ok(Some(part)) => part,
        Ok(None) => Err(Fault::new(
            Reason::BadField,
            "the pack ended without a finish",
        )),
        Err(_) => {
            let message = format!("no part of the pack came for {} s", MESSAGE_WAIT.as_secs());
            Err(Fault::new(Reason::Deadline, message))
        }
    }
}

/// Writes a batch on a thread that may block; the writer goes there and comes back.
async fn write(
    mut writer: PackWriter,
    batch: RecordBatch,
    taken: u32,
) -> Result<(PackWriter, u32), Fault> {
    blocking(move || {
        let mut taken = taken;
        for record in &batch.records {
            writer
                .append(&header(record), &record.stored)
                .map_err(fault)?;
            taken = taken.saturating_add(1);
        }
        Ok((writer, taken))
    })
    .await
}

/// The record's header as it will be stored; the engine checks every field of it.
fn header(record: &Record) -> RecordHeader {
    let kind = match record.record_type {
        RecordType::Chunk => RecordKind::Chunk,
        RecordType::Node => RecordKind::Node,
    };
    let codec = match record.codec {
        api::Codec::Raw => Codec::Raw,
        api::Codec::Zstd => Codec::Zstd,
    };
    RecordHeader {
        kind,
        codec,
        slot: 0,
        counter: record.counter,
        plain_len: record.plain_bytes,
        // Longer ones are refused by their length before this number counts.
        stored_len: u32::try_from(record.stored.len()).unwrap_or(u32::MAX),
        id: record.id,
        stored_hash: record.stored_hash,
    }
}

fn response(receipt: &PackReceipt) -> PutPackResponse {
    let PackReceipt {
        pack,
        stored_bytes,
        known_count,
        ..
    } = *receipt;
    PutPackResponse {
        pack_id: pack,
        stored_bytes,
        known_count,
    }
}

/// What whoever comes too late is told.
pub fn draining() -> Fault {
    Fault::new(
        Reason::Draining,
        "the repository is shutting down; try again in a moment",
    )
}
