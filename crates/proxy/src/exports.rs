//! Exports: stored disks that wait for an administrator's tool to read them.

mod range;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use stillwater_proxy_api::{
    CloseExportResponse, EXPORT_DATA_BYTES_MAX, ExportData, ExportFinish, ExportHeader, ExportPart,
    OpenExportRequest, OpenExportResponse, Ticket,
};
use stillwater_types::{ExportId, Fault, Reason};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::slots::{Slot, Slots};
use crate::transfer::{Limits, PartReader, Progress, Sink, Stored};
use crate::transfers::stored;

/// An export that neither controller nor reader has touched for so long is forgotten: whoever
/// opened it is gone, and its key must not stay.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// A reader of parts that is silent for so long is gone; it says that it is there three times meanwhile.
const QUIET: Duration = Duration::from_secs(90);
/// Messages that wait for a slow reader.
const WAITING: usize = 2;

type Parts = BoxStream<'static, Result<ExportPart, Fault>>;

/// Keeps exports ready; clones share them.
#[derive(Clone)]
pub struct Exports {
    reach: Arc<dyn Reach>,
    slots: Slots,
    limits: Limits,
    metrics: Metrics,
    open: Arc<Mutex<HashMap<ExportId, Arc<Export>>>>,
}

struct Export {
    ticket: Ticket,
    stored: Arc<Stored>,
    parts: PartReader,
    /// Whether somebody reads parts, so that the tree's nodes are worth keeping.
    warmed: AtomicBool,
    /// When a part was last asked for.
    range_at: Mutex<Option<Instant>>,
    /// Whether a reader got the finish.
    completed: AtomicBool,
    reading: AtomicBool,
    touched: Mutex<Instant>,
    closed: CancellationToken,
    _slot: Slot,
}

impl Exports {
    /// No exports yet.
    pub fn new(reach: Arc<dyn Reach>, slots: Slots, limits: Limits, metrics: Metrics) -> Self {
        Self {
            reach,
            slots,
            limits,
            metrics,
            open: Arc::default(),
        }
    }

    /// Makes an export ready, or tells whether the one with this id was read.
    ///
    /// # Errors
    /// `BAD_FIELD`, `NO_PROXY_SLOT`, `DRAINING`.
    pub fn open(&self, request: OpenExportRequest) -> Result<OpenExportResponse, Fault> {
        let OpenExportRequest {
            export_id,
            store,
            root,
            ticket,
        } = request;
        let mut open = self.lock();
        if let Some(export) = open.get(&export_id) {
            export.touch();
            return Ok(OpenExportResponse {
                completed: export.is_completed(),
                reading: export.is_being_read(),
            });
        }
        let stored = Arc::new(stored(&*self.reach, &store, &root, self.limits)?);
        let export = Export {
            ticket,
            parts: PartReader::new(Arc::clone(&stored)),
            warmed: AtomicBool::new(false),
            range_at: Mutex::default(),
            stored,
            completed: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            touched: Mutex::new(Instant::now()),
            closed: CancellationToken::new(),
            _slot: self.slots.take()?,
        };
        open.insert(export_id, Arc::new(export));
        tracing::info!(export.id = %export_id, run.id = %store.run_id, "export opened");
        Ok(OpenExportResponse {
            completed: false,
            reading: false,
        })
    }

    /// Streams an export to whoever has its ticket. One reader at a time; one that broke off may
    /// begin again, but after a finish the ticket is used up.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`, `GRANT_INVALID`. Those of the reading come in the stream.
    pub fn read(&self, export_id: ExportId, ticket: &Ticket) -> Result<Parts, Fault> {
        let export = self.admit(export_id, ticket)?;
        if export.is_completed() {
            return refused("the ticket was used: the disk was read to its end");
        }
        if export.reading.swap(true, Ordering::AcqRel) {
            return refused("the ticket is being used by another reader");
        }
        Ok(export.stream(Reading(Arc::clone(&export)), self.metrics.clone()))
    }

    /// The export, for whoever shows its ticket.
    fn admit(&self, export_id: ExportId, ticket: &Ticket) -> Result<Arc<Export>, Fault> {
        let export = self.lock().get(&export_id).cloned();
        let unknown = || {
            Fault::new(
                Reason::TransferNotFound,
                "the export is not open, start it again",
            )
        };
        let export = export.ok_or_else(unknown)?;
        if export.ticket != *ticket {
            return refused("the ticket is not that of the export");
        }
        Ok(export)
    }

    /// Ends an export and whoever reads it.
    pub fn close(&self, export_id: ExportId) -> CloseExportResponse {
        let export = self.lock().remove(&export_id);
        let completed = export.is_some_and(|export| {
            export.closed.cancel();
            tracing::info!(export.id = %export_id, completed = export.is_completed(), "export closed");
            export.is_completed()
        });
        CloseExportResponse { completed }
    }

    /// Forgets exports that nobody has touched for long, with their keys and slots.
    pub fn forget_abandoned(&self) {
        self.lock().retain(|export_id, export| {
            let abandoned = export.is_abandoned();
            if abandoned {
                tracing::warn!(export.id = %export_id, "export was left open by everybody, closing it");
            }
            !abandoned
        });
    }

    /// Ends all of them.
    pub fn close_all(&self) {
        self.lock()
            .drain()
            .for_each(|(_, export)| export.closed.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExportId, Arc<Export>>> {
        // Nothing panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused<T>(why: &str) -> Result<T, Fault> {
    Err(Fault::new(Reason::GrantInvalid, why))
}

/// Ends with the stream, however that ends: another reader may come then.
struct Reading(Arc<Export>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.touch();
        self.0.reading.store(false, Ordering::Release);
    }
}

impl Export {
    fn is_completed(&self) -> bool {
        self.completed.load(Ordering::Acquire)
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether a reader has its stream open, or asked for a part not long ago.
    fn is_being_read(&self) -> bool {
        let range_at = *self.range_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.reading.load(Ordering::Acquire) || range_at.is_some_and(|at| at.elapsed() < QUIET)
    }

    fn is_abandoned(&self) -> bool {
        let touched = *self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_being_read() && touched.elapsed() > IDLE
    }

    /// Reads in a task of its own, a few messages ahead of the reader; dropping the stream ends it.
    fn stream(&self, reading: Reading, metrics: Metrics) -> Parts {
        let (sender, receiver) = mpsc::channel(WAITING);
        let export = Arc::clone(&reading.0);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let sent = sender.clone();
            let closed = export.closed.clone();
            let outcome = closed
                .run_until_cancelled(export.send(sender, &metrics))
                .await;
            let fault = match outcome {
                Some(Ok(())) => return,
                Some(Err(error)) => error.fault(),
                None => Fault::new(Reason::RunCancelled, "the export was closed"),
            };
            if sent.send(Err(fault)).await.is_err() {
                tracing::debug!("the reader of an export has gone before it heard the fault");
            }
        }));
        let state = (receiver, reading, task, false);
        let parts = stream::unfold(
            state,
            |(mut receiver, reading, task, finished)| async move {
                if finished {
                    // Only asked for once the finish was taken.
                    reading.0.completed.store(true, Ordering::Release);
                    return None;
                }
                let part: Result<ExportPart, Fault> = receiver.recv().await?;
                let finished = matches!(part, Ok(ExportPart::Finish(_)));
                Some((part, (receiver, reading, task, finished)))
            },
        );
        parts.boxed()
    }

    async fn send(
        &self,
        sender: mpsc::Sender<Result<ExportPart, Fault>>,
        metrics: &Metrics,
    ) -> Result<()> {
        let length_bytes = self.stored.root.length;
        let progress = Progress::new(length_bytes);
        let mut out = Out {
            sender,
            pending: BytesMut::new(),
            offset: 0,
            data_bytes: 0,
        };
        out.send(ExportPart::Header(ExportHeader { length_bytes }))
            .await?;
        self.stored.run(&mut out, &progress).await?;
        out.flush().await?;
        metrics.exported(&progress.snapshot());
        let data_bytes = out.data_bytes;
        out.send(ExportPart::Finish(ExportFinish { data_bytes }))
            .await
    }
}

/// Joins chunks to messages of up to a mebibyte, which gRPC carries at the least cost.
struct Out {
    sender: mpsc::Sender<Result<ExportPart, Fault>>,
    pending: BytesMut,
    /// Where `pending` begins.
    offset: u64,
    data_bytes: u64,
}

impl Out {
    async fn send(&self, part: ExportPart) -> Result<()> {
        self.sender
            .send(Ok(part))
            .await
            .map_err(|_| Error::ReaderGone)
    }

    async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let data = self.pending.split().freeze();
        self.data_bytes += data.len() as u64;
        let offset_bytes = self.offset;
        self.send(ExportPart::Data(ExportData { offset_bytes, data }))
            .await
    }
}

#[async_trait]
impl Sink for Out {
    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        let joins = self.offset + self.pending.len() as u64 == offset
            && self.pending.len() + bytes.len() <= EXPORT_DATA_BYTES_MAX;
        if !joins {
            self.flush().await?;
            self.offset = offset;
            self.pending.reserve(EXPORT_DATA_BYTES_MAX);
        }
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
