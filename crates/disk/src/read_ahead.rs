//! Reading ahead of whoever consumes.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use stillwater_types::{Extent, ExtentSet};

use crate::task::Running;
use crate::{DiskReader, Error, Result};

/// Reads `extents` in ascending order with up to `in_flight` requests of `request_bytes` at once.
///
/// Yields `(offset, bytes)` in ascending order; pieces never cross from one extent to the next.
/// Ends after the first error. Requests begin at the first poll and go on while the consumer is
/// busy. Memory is bounded by `request_bytes × in_flight`, beside the piece that the consumer
/// holds: a request that was answered and not consumed counts as in flight. Dropping the stream
/// stops the requests. Needs a tokio runtime.
pub fn read_ahead(
    reader: Arc<dyn DiskReader>,
    extents: ExtentSet,
    request_bytes: u32,
    in_flight: usize,
) -> impl Stream<Item = Result<(u64, Bytes)>> + Send + Unpin + 'static {
    let extents: Vec<Extent> = extents.iter().collect();
    let pieces = extents
        .into_iter()
        .flat_map(move |extent| pieces(extent, request_bytes));
    let requests = stream::iter(pieces).map(move |extent| {
        let reader = Arc::clone(&reader);
        Running::spawn(async move { fetch(&*reader, extent).await })
    });
    // The runtime stops tasks only when it ends, and then nobody consumes: none is no end of data
    // that anybody could see.
    let answers = requests
        .buffered(in_flight.max(1))
        .filter_map(future::ready);
    answers
        .scan(false, |failed, answer| {
            let go_on = !*failed;
            *failed = answer.is_err();
            future::ready(go_on.then_some(answer))
        })
        .boxed()
}

async fn fetch(reader: &dyn DiskReader, extent: Extent) -> Result<(u64, Bytes)> {
    let bytes = reader.read(extent).await?;
    if bytes.len() as u64 != extent.length {
        // Every transport checks this itself; a mistake would shift all that follows.
        return Err(Error::WrongSize {
            extent,
            found: bytes.len() as u64,
        });
    }
    Ok((extent.start, bytes))
}

fn pieces(extent: Extent, request_bytes: u32) -> impl Iterator<Item = Extent> + Send {
    let step = u64::from(request_bytes.max(1));
    (0..extent.length.div_ceil(step)).map(move |index| {
        let start = extent.start + index * step;
        Extent::new(start, step.min(extent.end() - start))
    })
}

#[cfg(test)]
mod tests;
