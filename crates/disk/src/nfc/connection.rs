//! An open disk: many reads and writes in flight on one connection.
//!
//! One task has the connection. It sends what is ordered and gives what comes to whoever awaits it:
//! data of fragments goes from TLS straight to its place in the buffer of its request. Whoever stops
//! waiting leaves the request behind; it is answered into its buffer and forgotten.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Error;
use super::assembly::Assembly;
use super::error::{Act, Result, Step, Violation};
use super::fastlz;
use super::frame::{
    self, COMPRESSED_BYTES_MAX, FRAGMENT_BYTES_MAX, Fragment, HEADER_BYTES, Header, IoRequest,
    Kind, Opened, PAYLOAD_BYTES_MAX,
};
use super::options::Options;
use super::session;
use super::setup::{FIRST_OPERATION, refused};

/// Orders that wait for the task; what they hold counts as in flight.
const ORDERS_WAITING_MAX: usize = 16;

/// An open disk on a host. Dropping this closes it, in the background.
#[derive(Debug)]
pub(super) struct Connection {
    orders: mpsc::Sender<Order>,
    awaited: Arc<Awaited>,
    /// Room for requests, in fragments.
    window: Arc<Semaphore>,
    window_size: u32,
    opened: Opened,
}

/// Something to send.
#[derive(Debug)]
enum Order {
    Read(IoRequest),
    Write(IoRequest, Bytes),
    Close { operation: u32, handle: u64 },
}

impl Connection {
    /// Takes over a channel on which the disk was opened. Needs a tokio runtime.
    pub(super) fn start<S>(stream: S, opened: Opened, address: String, options: &Options) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let window_size = options.in_flight_bytes.div_ceil(FRAGMENT_BYTES_MAX).max(1);
        let window = Arc::new(Semaphore::new(window_size as usize));
        let (orders, waiting) = mpsc::channel(ORDERS_WAITING_MAX);
        let awaited = Arc::new(Awaited::default());
        let task = Task {
            awaited: Arc::clone(&awaited),
            address,
            handle: opened.handle,
            compression: options.compression,
            reply_timeout: options.timeouts.reply,
            close_timeout: options.timeouts.close,
        };
        // Not stopped with this: it ends the session in order and, within its time, itself.
        drop(tokio::spawn(task.run(stream, waiting)));
        Self {
            orders,
            awaited,
            window,
            window_size,
            opened,
        }
    }

    /// What the host said of the disk.
    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Fills `buffer` with what is at `offset`.
    pub(super) async fn read(&self, offset: u64, buffer: BytesMut) -> Result<BytesMut> {
        let length = length(buffer.len())?;
        let (reply, answer) = oneshot::channel();
        let work = Work::Read(Reading {
            assembly: Assembly::new(offset, length),
            buffer,
            reply,
        });
        let request = |operation| Order::Read(self.request(operation, offset, length));
        self.order(length, work, request).await?;
        answer.await.unwrap_or_else(|_| Err(self.awaited.why()))
    }

    /// Writes `bytes` at `offset` and waits until the host has them.
    pub(super) async fn write(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let length = length(bytes.len())?;
        let (reply, answer) = oneshot::channel();
        let request = |operation| Order::Write(self.request(operation, offset, length), bytes);
        self.order(length, Work::Write(reply), request).await?;
        answer.await.unwrap_or_else(|_| Err(self.awaited.why()))
    }

    /// Closes the disk and waits until the host says that it is closed.
    pub(super) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let handle = self.opened.handle;
        let close = |operation| Order::Close { operation, handle };
        self.order(0, Work::Close(reply), close).await?;
        answer.await.unwrap_or_else(|_| Err(self.awaited.why()))
    }

    fn request(&self, operation: u32, offset: u64, length: u32) -> IoRequest {
        IoRequest {
            operation,
            handle: self.opened.handle,
            offset,
            length,
        }
    }

    async fn order(&self, bytes: u32, work: Work, order: impl FnOnce(u32) -> Order) -> Result<()> {
        let fragments = bytes.div_ceil(FRAGMENT_BYTES_MAX).min(self.window_size);
        let window = Arc::clone(&self.window);
        let room = window
            .acquire_many_owned(fragments)
            .await
            .map_err(|_| self.awaited.why())?;
        let place = self
            .orders
            .reserve()
            .await
            .map_err(|_| self.awaited.why())?;
        // Nothing is awaited from here on: what is noted is also sent, and in the order of the numbers.
        let send = |operation| place.send(order(operation));
        self.awaited.add(work, Some(room), send)
    }
}

fn length(bytes: usize) -> Result<u32> {
    let length = u32::try_from(bytes).map_err(io::Error::other);
    length.map_err(Error::lost)
}

/// A read that is being answered.
#[derive(Debug)]
struct Reading {
    assembly: Assembly,
    buffer: BytesMut,
    reply: oneshot::Sender<Result<BytesMut>>,
}

/// What a reply is for.
#[derive(Debug)]
enum Work {
    Read(Reading),
    Write(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
    /// Nobody wants to know.
    Goodbye,
}

impl Work {
    fn act(&self) -> Act {
        match self {
            Work::Read(_) => Act::Read,
            Work::Write(_) => Act::Write,
            Work::Close(_) | Work::Goodbye => Act::Close,
        }
    }

    /// Whoever waited may be gone by now; that is their affair.
    fn fail(self, error: Error) {
        match self {
            Work::Read(reading) => drop(reading.reply.send(Err(error))),
            Work::Write(reply) | Work::Close(reply) => drop(reply.send(Err(error))),
            Work::Goodbye => {}
        }
    }

    fn succeed(self) {
        match self {
            Work::Read(reading) => drop(reading.reply.send(Ok(reading.buffer))),
            Work::Write(reply) | Work::Close(reply) => drop(reply.send(Ok(()))),
            Work::Goodbye => {}
        }
    }
}

/// A request without its (whole) answer.
#[derive(Debug)]
struct Pending {
    work: Work,
    since: Instant,
    /// Held until the host has answered, whether or not somebody still waits.
    room: Option<OwnedSemaphorePermit>,
}

/// All requests that the host has yet to answer.
#[derive(Debug)]
struct Awaited(Mutex<State>);

#[derive(Debug)]
struct State {
    next: u32,
    pending: HashMap<u32, Pending>,
    ended: Option<Error>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self(Mutex::new(State {
            next: FIRST_OPERATION,
            pending: HashMap::new(),
            ended: None,
        }))
    }
}

impl Awaited {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request and lets `send` have its number, before anybody else has the next one.
    fn add<T>(
        &self,
        work: Work,
        room: Option<OwnedSemaphorePermit>,
        send: impl FnOnce(u32) -> T,
    ) -> Result<T> {
        let mut state = self.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let operation = state.next;
        state.next = operation.wrapping_add(1);
        let since = Instant::now();
        let pending = Pending { work, since, room };
        state.pending.insert(operation, pending);
        Ok(send(operation))
    }

    fn take(&self, operation: u32) -> Result<Pending, Violation> {
        let pending = self.state().pending.remove(&operation);
        pending.ok_or(Violation::UnknownOperation(operation))
    }

    fn put_back(&self, operation: u32, pending: Pending) {
        self.state().pending.insert(operation, pending);
    }

    /// Since when the oldest request waits.
    fn oldest(&self) -> Option<Instant> {
        let state = self.state();
        state.pending.values().map(|pending| pending.since).min()
    }

    /// Fails all that is awaited and will be.
    fn end(&self, error: &Error) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| error.clone());
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        for pending in pending.into_values() {
            pending.work.fail(error.clone());
        }
    }

    fn why(&self) -> Error {
        let ended = self.state().ended.clone();
        ended.unwrap_or(Error::Closed)
    }
}

/// What the task knows.
struct Task {
    awaited: Arc<Awaited>,
    address: String,
    handle: u64,
    compression: bool,
    reply_timeout: Duration,
    close_timeout: Duration,
}

impl Task {
    async fn run<S>(self, stream: S, orders: mpsc::Receiver<Order>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reads, writes) = tokio::io::split(stream);
        let mut receiving = pin!(self.receive(reads));
        let sending = pin!(self.send(writes, orders));
        let error = tokio::select! {
            error = &mut receiving => error,
            sent = sending => match sent {
                Ok(()) => {
                    // What the host says at the end is only waited for, for what is still to come.
                    drop(tokio::time::timeout(self.close_timeout, receiving).await);
                    Error::Closed
                }
                Err(error) => Error::lost(error),
            },
        };
        if !matches!(error, Error::Closed) {
            tracing::debug!(address = %self.address, %error, "an nfc session broke");
        }
        self.awaited.end(&error);
    }

    /// Sends orders until nobody can give any more, then says goodbye.
    async fn send<W>(&self, mut writes: W, mut orders: mpsc::Receiver<Order>) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let mut is_open = true;
        while let Some(order) = orders.recv().await {
            match order {
                Order::Read(request) => {
                    writes.write_all(&request.read(self.compression)).await?;
                }
                Order::Write(request, bytes) => write(&mut writes, &request, bytes).await?,
                Order::Close { operation, handle } => {
                    is_open = false;
                    let frame = frame::close_file(operation, handle);
                    writes.write_all(&frame).await?;
                }
            }
            if orders.is_empty() {
                writes.flush().await?;
            }
        }
        self.say_goodbye(&mut writes, is_open).await
    }

    async fn say_goodbye<W>(&self, writes: &mut W, is_open: bool) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let operation = || {
            let added = self.awaited.add(Work::Goodbye, None, |operation| operation);
            added.map_err(io::Error::other)
        };
        if is_open {
            let frame = frame::close_file(operation()?, self.handle);
            writes.write_all(&frame).await?;
        }
        let frame = frame::close_session(operation()?);
        writes.write_all(&frame).await?;
        writes.write_all(&session::complete()).await?;
        writes.flush().await?;
        writes.shutdown().await
    }

    /// Receives until the connection breaks; says why it did.
    async fn receive<R: AsyncRead + Unpin>(&self, reads: R) -> Error {
        let mut receiver = Receiver {
            task: self,
            reads,
            payload: [0; PAYLOAD_BYTES_MAX],
            compressed: Vec::new(),
        };
        loop {
            if let Err(error) = receiver.frame().await {
                return error;
            }
        }
    }

    fn timed_out(&self) -> Error {
        Error::TimedOut {
            address: self.address.clone(),
            step: Step::Reply,
        }
    }
}

/// Sends a write in fragments, each behind its frame.
async fn write<W>(writes: &mut W, request: &IoRequest, mut bytes: Bytes) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut at = 0;
    while !bytes.is_empty() {
        let fragment = bytes.split_to(bytes.len().min(FRAGMENT_BYTES_MAX as usize));
        let length = fragment.len() as u32;
        let frame = request.write_fragment(at, length);
        let mut both = Buf::chain(frame.as_slice(), fragment);
        writes.write_all_buf(&mut both).await?;
        at += length;
    }
    Ok(())
}

/// Reads frames and gives each to whom it belongs.
struct Receiver<'a, R> {
    task: &'a Task,
    reads: R,
    payload: [u8; PAYLOAD_BYTES_MAX],
    /// Data of a compressed fragment; grows once, when the first one comes.
    compressed: Vec<u8>,
}

/// Whether a request has its whole answer.
enum Progress {
    Whole,
    Part,
}

impl<R: AsyncRead + Unpin> Receiver<'_, R> {
    async fn frame(&mut self) -> Result<()> {
        let header = self.header().await?;
        let payload = self.payload.get_mut(..header.payload_bytes as usize);
        let payload = payload.unwrap_or_default();
        read_exact(self.task, &mut self.reads, payload).await?;
        let mut pending = self.task.awaited.take(header.operation)?;
        match self.apply(&header, &mut pending.work).await {
            Ok(Progress::Whole) => {
                pending.work.succeed();
                drop(pending.room);
            }
            Ok(Progress::Part) => self.task.awaited.put_back(header.operation, pending),
            Err(error) => {
                pending.work.fail(error.clone());
                // That one request cannot be had ends only that request.
                return match error {
                    Error::Refused { .. } => Ok(()),
                    error => Err(error),
                };
            }
        }
        Ok(())
    }

    /// Waits for the next frame, for as long as the host owes nothing.
    async fn header(&mut self) -> Result<Header> {
        let waiting_since = Instant::now();
        let limit = self.task.reply_timeout;
        let mut header = [0; HEADER_BYTES];
        let mut reading = pin!(self.reads.read_exact(&mut header));
        loop {
            let outcome = tokio::time::timeout(limit / 4, &mut reading).await;
            if let Ok(outcome) = outcome {
                outcome.map_err(Error::lost)?;
                break;
            }
            let oldest = self.task.awaited.oldest();
            if oldest.is_some_and(|since| since.max(waiting_since).elapsed() >= limit) {
                return Err(self.task.timed_out());
            }
        }
        Ok(Header::decode(&header)?)
    }

    /// Applies a frame to the request that it answers.
    async fn apply(&mut self, header: &Header, work: &mut Work) -> Result<Progress> {
        let length = header.payload_bytes as usize;
        let payload = self.payload.get(..length).unwrap_or_default();
        match (header.kind, work) {
            (Kind::Error, work) => Err(refused(work.act(), payload)),
            (Kind::Io, Work::Read(reading)) => {
                let fragment = Fragment::decode(payload, self.task.handle)?;
                self.fragment(&fragment, reading).await
            }
            (Kind::Io, Work::Write(_)) => {
                frame::check_written(payload)?;
                Ok(Progress::Whole)
            }
            (Kind::CloseFile, Work::Close(_))
            | (Kind::CloseFile | Kind::CloseSession, Work::Goodbye) => Ok(Progress::Whole),
            (kind, _) => Err(Violation::WrongReply {
                operation: header.operation,
                found: kind.number(),
            }
            .into()),
        }
    }

    /// Reads the data of a fragment to its place.
    async fn fragment(&mut self, fragment: &Fragment, reading: &mut Reading) -> Result<Progress> {
        let place = reading.assembly.place(fragment)?;
        let place = reading.buffer.get_mut(place);
        let place = place.ok_or_else(|| fragment.wrong_size())?;
        if fragment.is_compressed {
            self.compressed.resize(COMPRESSED_BYTES_MAX as usize, 0);
            let extra = self.compressed.get_mut(..fragment.extra_bytes as usize);
            let extra = extra.ok_or_else(|| fragment.wrong_size())?;
            read_exact(self.task, &mut self.reads, extra).await?;
            fastlz::decompress(extra, place).map_err(Violation::FastLz)?;
        } else {
            read_exact(self.task, &mut self.reads, place).await?;
        }
        match reading.assembly.is_whole() {
            true => Ok(Progress::Whole),
            false => Ok(Progress::Part),
        }
    }
}

/// Reads what the host has begun to send.
async fn read_exact<R: AsyncRead + Unpin>(task: &Task, reads: &mut R, to: &mut [u8]) -> Result<()> {
    let reading = tokio::time::timeout(task.reply_timeout, reads.read_exact(to)).await;
    match reading {
        Ok(outcome) => outcome.map(drop).map_err(Error::lost),
        Err(_) => Err(task.timed_out()),
    }
}
