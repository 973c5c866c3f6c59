//! One connection, from its greeting to its end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stillwater_types::Extent;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::export::{Errno, Export, Piece, Trouble};
use crate::negotiate::{Agreed, negotiate};
use crate::reply::{Reply, Style};
use crate::wire::{REQUEST_LEN, REQUEST_MAX, Request, command, flag};

/// Bytes of all answers and writes of one connection that are under way; the client waits beyond that.
pub const IN_FLIGHT_BYTES: u32 = 64 << 20;
/// What a request takes of that at least: its task is not free.
const REQUEST_COST: u32 = 256 << 10;

/// Serves `exports` to one client until it goes. With one export, the empty name means it.
///
/// # Errors
/// The stream breaks, or the client breaks the protocol. Failed requests are answers, not errors.
pub async fn serve<S>(mut stream: S, exports: &[Arc<dyn Export>]) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(agreed) = negotiate(&mut stream, exports).await? else {
        return Ok(());
    };
    let (reading, writing) = tokio::io::split(stream);
    // Room bounds what waits here.
    let (replies, waiting) = mpsc::channel(IN_FLIGHT_BYTES.div_ceil(REQUEST_COST) as usize);
    let connection = Arc::new(Connection {
        style: Style {
            is_structured: agreed.is_structured,
        },
        agreed,
        replies,
    });
    let writer = tokio::spawn(write(writing, waiting));
    let taken = connection.take_requests(BufReader::new(reading)).await;
    // The last task's end closes the queue, and with it the writer.
    drop(connection);
    match writer.await {
        Ok(written) => taken.and(written.map_err(Error::Stream)),
        Err(_) => Err(Error::Protocol("its writer ended")),
    }
}

struct Connection {
    agreed: Agreed,
    style: Style,
    replies: mpsc::Sender<(Reply, OwnedSemaphorePermit)>,
}

impl Connection {
    /// Takes requests and answers each in a task of its own, in any order.
    async fn take_requests<R>(self: &Arc<Self>, mut reading: R) -> Result<(), Error>
    where
        R: AsyncRead + Unpin,
    {
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES as usize));
        let mut tasks = JoinSet::new();
        loop {
            let mut head = [0; REQUEST_LEN];
            match reading.read_exact(&mut head).await {
                Ok(_) => {}
                // A client that hangs up between requests has said all that it wants.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
            let request = Request::decode(head)?;
            if request.command == command::DISCONNECT {
                break;
            }
            let cost = cost(&request);
            let Ok(permit) = Arc::clone(&room).acquire_many_owned(cost).await else {
                break;
            };
            let payload = payload(&mut reading, &request).await?;
            let connection = Arc::clone(self);
            tasks.spawn(async move { connection.answer(request, payload, permit).await });
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn answer(&self, request: Request, payload: Bytes, permit: OwnedSemaphorePermit) {
        let Request { handle, .. } = request;
        let answered = self.act(request, payload).await;
        let reply = answered.unwrap_or_else(|trouble| {
            tracing::warn!(
                offset = request.offset,
                length = request.length,
                command = request.command,
                error = trouble.message,
                "an nbd request failed"
            );
            let in_chunks = matches!(request.command, command::READ | command::BLOCK_STATUS);
            self.style.failed(handle, &trouble, in_chunks)
        });
        if self.replies.send((reply, permit)).await.is_err() {
            tracing::debug!("an nbd client has gone before it was answered");
        }
    }

    async fn act(&self, request: Request, payload: Bytes) -> Result<Reply, Trouble> {
        let Request {
            flags,
            command,
            handle,
            offset,
            ..
        } = request;
        let export = &*self.agreed.export;
        match command {
            command::FLUSH => return Ok(self.style.done(handle)),
            command::WRITE | command::TRIM | command::WRITE_ZEROES if !export.is_writable() => {
                return Err(Trouble::new(
                    Errno::Permission,
                    "the disk cannot be written",
                ));
            }
            _ => {}
        }
        let range = range(&request, export.length())?;
        match command {
            command::READ => {
                let pieces = exactly(export.read(range).await?, range.length)?;
                let in_one = flags & flag::DONT_FRAGMENT != 0;
                Ok(self.style.read(handle, offset, &pieces, in_one))
            }
            command::WRITE => export
                .write(offset, payload)
                .await
                .map(|()| self.style.done(handle)),
            command::WRITE_ZEROES => export.zero(range).await.map(|()| self.style.done(handle)),
            // Both are advice.
            command::TRIM | command::CACHE => Ok(self.style.done(handle)),
            command::BLOCK_STATUS if self.agreed.has_allocation => {
                let told = export.holes(range).await?;
                let most = if flags & flag::ONE != 0 { 1 } else { 4096 };
                let ranges = within(&told, range.length, most)?;
                Ok(self.style.status(handle, &ranges))
            }
            _ => Err(Trouble::new(
                Errno::Invalid,
                "no such command was agreed on",
            )),
        }
    }
}

/// What a request takes of the room.
fn cost(request: &Request) -> u32 {
    let carries = matches!(request.command, command::READ | command::WRITE);
    let bytes = if carries {
        request.length.min(REQUEST_MAX)
    } else {
        0
    };
    bytes.max(REQUEST_COST)
}

/// What follows a write.
async fn payload<R>(reading: &mut R, request: &Request) -> Result<Bytes, Error>
where
    R: AsyncRead + Unpin,
{
    if request.command != command::WRITE {
        return Ok(Bytes::new());
    }
    if request.length > REQUEST_MAX {
        return Err(Error::Protocol("it writes more than a request may have"));
    }
    let mut bytes = BytesMut::zeroed(request.length as usize);
    reading.read_exact(&mut bytes).await?;
    Ok(bytes.freeze())
}

/// The range of a request, if it lies in the disk and may be answered.
fn range(request: &Request, length: u64) -> Result<Extent, Trouble> {
    let carries = matches!(request.command, command::READ | command::WRITE);
    if carries && request.length > REQUEST_MAX {
        return Err(Trouble::new(
            Errno::Overflow,
            "a request has more than 32 MiB",
        ));
    }
    let end = request.offset.checked_add(u64::from(request.length));
    match end {
        Some(end) if end <= length && request.length > 0 => {
            Ok(Extent::new(request.offset, u64::from(request.length)))
        }
        _ => Err(Trouble::new(
            Errno::Invalid,
            "a request lies beyond the disk, or is empty",
        )),
    }
}

/// An export that answers other than asked for would shift everything behind it.
fn exactly(pieces: Vec<Piece>, length: u64) -> Result<Vec<Piece>, Trouble> {
    let told: u64 = pieces.iter().map(Piece::length).sum();
    if told == length && pieces.iter().all(|piece| piece.length() > 0) {
        return Ok(pieces);
    }
    Err(Trouble::new(
        Errno::Io,
        format!("{told} bytes were read where {length} were asked for"),
    ))
}

/// At most so many ranges, none beyond the request.
fn within(told: &[(u64, bool)], length: u64, most: usize) -> Result<Vec<(u64, bool)>, Trouble> {
    let mut left = length;
    let mut ranges = Vec::new();
    for (bytes, is_hole) in told.iter().filter(|(bytes, _)| *bytes > 0).take(most) {
        let bytes = left.min(*bytes);
        if bytes > 0 {
            ranges.push((bytes, *is_hole));
        }
        left -= bytes;
    }
    if ranges.is_empty() {
        return Err(Trouble::new(Errno::Io, "nothing is known of the range"));
    }
    Ok(ranges)
}

/// Writes answers as they come; a part that is not full waits for the next one unless none is ready.
async fn write<W>(
    writing: W,
    mut waiting: mpsc::Receiver<(Reply, OwnedSemaphorePermit)>,
) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut writing = BufWriter::with_capacity(64 << 10, writing);
    while let Some((reply, _permit)) = waiting.recv().await {
        for part in reply {
            writing.write_all(&part).await?;
        }
        if waiting.is_empty() {
            writing.flush().await?;
        }
    }
    writing.flush().await
}
