//! Parts of an export, for a reader that serves the disk to others.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use stillwater_proxy_api::{
    EXPORT_DATA_BYTES_MAX, ExportArea, ExportData, ExportFinish, ExportRangePart,
    ReadExportRangeRequest, Ticket,
};
use stillwater_types::{ExportId, Extent, Fault, Reason};
use tokio::time::Instant;

use super::{Export, Exports, refused};

/// Parts of one request that are read at a time.
const PARTS_IN_FLIGHT: usize = 2;

type Parts = BoxStream<'static, Result<ExportRangePart, Fault>>;

impl Exports {
    /// Streams a part of an export to whoever has its ticket; many at a time.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`, `GRANT_INVALID`, `BAD_FIELD`. Those of the reading come in the stream.
    pub fn read_range(&self, request: &ReadExportRangeRequest) -> Result<Parts, Fault> {
        let export = self.admit(request.export_id, &request.ticket)?;
        if export.is_completed() {
            return refused("the ticket was used: its reader has finished");
        }
        let range = Extent::new(request.offset_bytes, u64::from(request.length_bytes));
        let end = range.start.checked_add(range.length);
        if end.is_none_or(|end| end > export.stored.root.length) {
            let text = "the part lies beyond the end of the disk";
            return Err(Fault::new(Reason::BadField, text).with("field", "offset_bytes"));
        }
        export.note_range();
        Ok(match request.areas_only {
            true => export.areas_of(range),
            false => {
                export.warm();
                export.parts_of(range)
            }
        })
    }

    /// Takes an export for completed.
    ///
    /// # Errors
    /// `TRANSFER_NOT_FOUND`, `GRANT_INVALID`.
    pub fn finish(&self, export_id: ExportId, ticket: &Ticket) -> Result<(), Fault> {
        let export = self.admit(export_id, ticket)?;
        export.completed.store(true, Ordering::Release);
        Ok(())
    }
}

impl Export {
    /// Somebody is there.
    fn note_range(&self) {
        self.touch();
        *self.range_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Reads the tree ahead of its readers, once.
    fn warm(self: &Arc<Self>) {
        if self.warmed.swap(true, Ordering::AcqRel) {
            return;
        }
        let export = Arc::clone(self);
        tokio::spawn(async move {
            let warming = export.parts.warm();
            if let Some(Err(error)) = export.closed.run_until_cancelled(warming).await {
                tracing::debug!(%error, "the tree of an export could not be read ahead");
            }
        });
    }

    fn parts_of(self: Arc<Self>, range: Extent) -> Parts {
        let step = self.parts.part_bytes();
        let starts =
            (range.start..range.end()).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let parts: Vec<Extent> = starts
            .map(|start| Extent::new(start, step.min(range.end() - start)))
            .collect();
        let read = stream::iter(parts)
            .map(move |part| {
                let export = Arc::clone(&self);
                async move { export.part(part).await }
            })
            .buffered(PARTS_IN_FLIGHT);
        let data = read
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten();
        finished(data.boxed())
    }

    fn areas_of(self: Arc<Self>, range: Extent) -> Parts {
        let areas = async move {
            let read = self
                .closed
                .run_until_cancelled(self.parts.areas(range))
                .await;
            match read {
                Some(read) => read.map_err(|error| error.fault()),
                None => Err(closed()),
            }
        };
        let parts = |areas: Vec<Extent>| {
            let area = |area: Extent| {
                ExportRangePart::Area(ExportArea {
                    offset_bytes: area.start,
                    length_bytes: area.length,
                })
            };
            let finish = ExportRangePart::Finish(ExportFinish { data_bytes: 0 });
            let parts: Vec<_> = areas
                .into_iter()
                .map(area)
                .chain([finish])
                .map(Ok)
                .collect();
            stream::iter(parts)
        };
        stream::once(areas).map_ok(parts).try_flatten().boxed()
    }

    async fn part(&self, part: Extent) -> Result<Vec<ExportData>, Fault> {
        let read = self.closed.run_until_cancelled(self.parts.read(part)).await;
        match read {
            Some(read) => read.map(joined).map_err(|error| error.fault()),
            None => Err(closed()),
        }
    }
}

fn closed() -> Fault {
    Fault::new(Reason::RunCancelled, "the export was closed")
}

/// The data, and behind it how much that was.
fn finished(data: BoxStream<'static, Result<ExportData, Fault>>) -> Parts {
    let state = Some((data, 0));
    stream::unfold(state, |state| async {
        let (mut data, sum) = state?;
        match data.next().await {
            Some(Ok(part)) => {
                let sum = sum + part.data.len() as u64;
                Some((Ok(ExportRangePart::Data(part)), Some((data, sum))))
            }
            Some(Err(fault)) => Some((Err(fault), None)),
            None => {
                let finish = ExportFinish { data_bytes: sum };
                Some((Ok(ExportRangePart::Finish(finish)), None))
            }
        }
    })
    .boxed()
}

/// Neighbours in one message, up to what a message may carry; a lonely piece is not copied.
fn joined(pieces: Vec<(u64, Bytes)>) -> Vec<ExportData> {
    let mut out = Vec::new();
    let mut run: Vec<(u64, Bytes)> = Vec::new();
    let mut run_bytes = 0;
    for (offset, bytes) in pieces {
        let end = run.last().map(|(at, last)| at + last.len() as u64);
        if end.is_some_and(|end| end != offset) || run_bytes + bytes.len() > EXPORT_DATA_BYTES_MAX {
            out.extend(message(&mut run));
            run_bytes = 0;
        }
        run_bytes += bytes.len();
        run.push((offset, bytes));
    }
    out.extend(message(&mut run));
    out
}

fn message(run: &mut Vec<(u64, Bytes)>) -> Option<ExportData> {
    let offset_bytes = run.first()?.0;
    let data = match run.as_slice() {
        [(_, only)] => only.clone(),
        several => {
            let mut joined =
                BytesMut::with_capacity(several.iter().map(|(_, bytes)| bytes.len()).sum());
            several
                .iter()
                .for_each(|(_, bytes)| joined.extend_from_slice(bytes));
            joined.freeze()
        }
    };
    run.clear();
    Some(ExportData { offset_bytes, data })
}

#[cfg(test)]
mod tests;
