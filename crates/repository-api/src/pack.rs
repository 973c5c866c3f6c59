//! A pack on its way to a repository.

use std::time::Duration;

use stillwater_types::{Fault, Reason};
use stillwater_wire::ask::Ask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Response, Status};

use crate::model::*;
use crate::pb;

/// How long the repository may take to make a whole pack durable once it has all of it.
const FINISH_DEADLINE: Duration = Duration::from_secs(300);

/// Longer than any pack takes; what guards a stalled one is the connection's keep-alive.
const PACK_DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);

/// Sends one pack. Dropped before [`PackSender::finish`] answered, nothing of the pack is kept.
#[derive(Debug)]
pub struct PackSender {
    parts: mpsc::Sender<pb::PutPackRequest>,
    answer: AbortOnDropHandle<Result<PutPackResponse, Fault>>,
    record_count: u32,
}

/// The call's body as tonic takes it.
pub(crate) type Parts = ReceiverStream<pb::PutPackRequest>;

impl PackSender {
    /// Begins a pack; `put` makes the call with the body it is given.
    pub(crate) fn begin<C>(header: PackHeader, ask: Ask, put: impl FnOnce(Parts) -> C) -> Self
    where
        C: Future<Output = Result<Response<pb::PutPackResponse>, Status>> + Send + 'static,
    {
        // One batch waits while one is on its way: what is slower, network or repository, stops
        // the sender.
        let (parts, waiting) = mpsc::channel(1);
        parts
            .try_send(header.into())
            .expect("a new channel has room for one");
        let call = put(ReceiverStream::new(waiting));
        let answer = tokio::spawn(ask.within(PACK_DEADLINE).one(call));
        Self {
            parts,
            answer: AbortOnDropHandle::new(answer),
            record_count: 0,
        }
    }

    /// Sends records in the order in which they were sealed; waits while the repository is behind.
    ///
    /// # Errors
    /// The repository's refusal as soon as it is known; the pack is lost then.
    pub async fn send(&mut self, batch: RecordBatch) -> Result<(), Fault> {
        let too_many = || Fault::new(Reason::Bug, "a pack cannot count its records");
        let count = u32::try_from(batch.records.len()).map_err(|_| too_many())?;
        self.record_count = self.record_count.checked_add(count).ok_or_else(too_many)?;
        self.pass(PackPart::Batch(batch)).await
    }

    /// Ends the pack and waits until every record of it is durable.
    ///
    /// # Errors
    /// The repository's refusal; nothing of the pack is kept then. After `DEADLINE` and after a
    /// broken connection it may be kept: records are found by their ids, so it can be sent again.
    pub async fn finish(mut self) -> Result<PutPackResponse, Fault> {
        let record_count = self.record_count;
        self.pass(PackPart::Finish(PackFinish { record_count }))
            .await?;
        let Self { parts, answer, .. } = self;
        drop(parts);
        match tokio::time::timeout(FINISH_DEADLINE, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Fault::new(
                Reason::Deadline,
                format!(
                    "the pack was not durable within {} seconds",
                    FINISH_DEADLINE.as_secs()
                ),
            )),
        }
    }

    async fn pass(&mut self, part: PackPart) -> Result<(), Fault> {
        let part = pb::PutPackRequest::from(part);
        tokio::select! {
            biased;
            answer = &mut self.answer => Err(early(answer.unwrap_or_else(|_| Err(lost())))),
            sent = self.parts.send(part) => match sent {
                Ok(()) => Ok(()),
                Err(_) => {
                    let answer = (&mut self.answer).await;
                    Err(early(answer.unwrap_or_else(|_| Err(lost()))))
                }
            },
        }
    }
}

fn early(answer: Result<PutPackResponse, Fault>) -> Fault {
    match answer {
        Err(fault) => fault,
        Ok(_) => Fault::new(
            Reason::NotSupported,
            "the repository answered before the pack ended",
        ),
    }
}

fn lost() -> Fault {
    Fault::new(Reason::Bug, "the call that carried a pack panicked")
}
