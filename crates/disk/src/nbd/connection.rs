//! One connection in the transmission: many requests at once, answers in any order.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use stillwater_types::Extent;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::handshake::Export;
use super::stream::Stream;
use super::wire::{self, CHUNK_WORDS_MAX, ChunkKind, Command, REPLY_LEN, REQUEST_LEN, Reply};
use super::{Assembly, NbdError};
use crate::block::Buffer;
use crate::task::Running;

/// How long a server may take to see that we leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection. Dropping it cuts it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    slots: Arc<Semaphore>,
    patience: Duration,
    writer: Running<()>,
    _reader: Running<()>,
}

/// What a request is answered with.
pub(super) enum Answer {
    Bytes(Buffer),
    /// Lengths and flags of ranges, from the request's offset on.
    Ranges(Vec<(u32, u32)>),
    Done,
}

/// What an answer is put together in.
enum Work {
    Read(Assembly, Buffer),
    Ranges(Vec<(u32, u32)>),
    Plain,
}

struct Outgoing {
    head: [u8; REQUEST_LEN],
    payload: Bytes,
}

struct Shared {
    server: String,
    structured: bool,
    allocation: Option<u32>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why no request can be made any more.
    broken: Option<NbdError>,
    last: u64,
    pending: HashMap<u64, Pending>,
}

struct Pending {
    /// None while a part of the answer is being read.
    work: Option<Work>,
    what: String,
    /// What the server said first of what it could not do.
    error: Option<NbdError>,
    answer: oneshot::Sender<Result<Answer, NbdError>>,
    /// Held until the server has answered: who stops waiting frees nothing.
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        server: String,
        export: &Export,
        in_flight: usize,
        patience: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            server,
            structured: export.structured,
            allocation: export.allocation,
            state: Mutex::default(),
        });
        let (reading, writing) = tokio::io::split(stream);
        let (outgoing, requests) = mpsc::channel(in_flight.max(1));
        Self {
            outgoing,
            slots: Arc::new(Semaphore::new(in_flight.max(1))),
            patience,
            writer: Running::spawn(write_all(writing, requests, Arc::clone(&shared))),
            _reader: Running::spawn(read_all(reading, Arc::clone(&shared))),
            shared,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.shared.state().broken.is_some()
    }

    pub(super) async fn read(&self, extent: Extent, buffer: Buffer) -> Result<Buffer, NbdError> {
        let work = Work::Read(Assembly::new(extent), buffer);
        match self.ask(Command::READ, extent, Bytes::new(), work).await? {
            Answer::Bytes(buffer) => Ok(buffer),
            _ => Err(self.shared.why()),
        }
    }

    pub(super) async fn ranges(&self, extent: Extent) -> Result<Vec<(u32, u32)>, NbdError> {
        let work = Work::Ranges(Vec::new());
        match self
            .ask(Command::BLOCK_STATUS, extent, Bytes::new(), work)
            .await?
        {
            Answer::Ranges(ranges) => Ok(ranges),
            _ => Err(self.shared.why()),
        }
    }

    /// A request that is answered with nothing but that it was done.
    pub(super) async fn act(
        &self,
        command: Command,
        extent: Extent,
        payload: Bytes,
    ) -> Result<(), NbdError> {
        self.ask(command, extent, payload, Work::Plain).await?;
        Ok(())
    }

    /// Tells the server that this is the end, once it has all that was asked.
    pub(super) async fn close(self) {
        let Self {
            outgoing, writer, ..
        } = self;
        drop(outgoing);
        if timeout(GOODBYE, writer).await.is_err() {
            tracing::debug!(server = %self.shared.server, "the server does not see that we leave");
        }
    }

    async fn ask(
        &self,
        command: Command,
        extent: Extent,
        payload: Bytes,
        work: Work,
    ) -> Result<Answer, NbdError> {
        let length = u32::try_from(extent.length)
            .map_err(|_| NbdError::protocol("a request of ours is too large"))?;
        let slots = Arc::clone(&self.slots);
        let slot = slots.acquire_owned().await.map_err(|_| self.shared.why())?;
        // Between this and the sending nothing waits: a request is sent if it is registered.
        let place = self.outgoing.reserve().await;
        let place = place.map_err(|_| self.shared.why())?;
        let (handle, answer) = self.shared.register(what(command, extent), work, slot)?;
        place.send(Outgoing {
            head: wire::request(command, handle, extent.start, length),
            payload,
        });
        match timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.shared.why()),
            Err(_) => {
                let seconds = self.patience.as_secs();
                let silent = NbdError::Lost {
                    server: self.shared.server.clone(),
                    problem: format!("it did not answer for {seconds} s"),
                };
                self.shared.fail(&silent);
                Err(silent)
            }
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.shared.server)
            .finish_non_exhaustive()
    }
}

fn what(command: Command, extent: Extent) -> String {
    let Extent { start, length } = extent;
    match command {
        Command::READ => format!("read {start}+{length}"),
        Command::WRITE => format!("write {start}+{length}"),
        Command::WRITE_ZEROES => format!("zero {start}+{length}"),
        Command::BLOCK_STATUS => format!("tell what {start}+{length} holds"),
        Command::FLUSH => "flush".to_owned(),
        Command(other) => format!("do {other}"),
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no answer.
    fn why(&self) -> NbdError {
        let broken = self.state().broken.clone();
        broken.unwrap_or_else(|| NbdError::Lost {
            server: self.server.clone(),
            problem: "it was given up".into(),
        })
    }

    /// Answers all requests with an error, and all that are still to come. The first reason stays.
    fn fail(&self, error: &NbdError) {
        let mut state = self.state();
        state.broken.get_or_insert_with(|| error.clone());
        for (_, pending) in state.pending.drain() {
            // Who asked may wait no longer.
            drop(pending.answer.send(Err(error.clone())));
        }
    }

    fn register(
        &self,
        what: String,
        work: Work,
        slot: OwnedSemaphorePermit,
    ) -> Result<(u64, oneshot::Receiver<Result<Answer, NbdError>>), NbdError> {
        let mut state = self.state();
        if let Some(broken) = &state.broken {
            return Err(broken.clone());
        }
        state.last = state.last.wrapping_add(1);
        let (answer, receiver) = oneshot::channel();
        let handle = state.last;
        let pending = Pending {
            work: Some(work),
            what,
            error: None,
            answer,
            _slot: slot,
        };
        state.pending.insert(handle, pending);
        Ok((handle, receiver))
    }

    /// Takes what an answer is put together in, while a part of it is read.
    fn take(&self, handle: u64) -> Result<Work, NbdError> {
        let mut state = self.state();
        let pending = state.pending.get_mut(&handle);
        let work = pending.and_then(|pending| pending.work.take());
        work.ok_or_else(|| NbdError::protocol("it answers what was not asked"))
    }

    fn put_back(&self, handle: u64, work: Work) {
        if let Some(pending) = self.state().pending.get_mut(&handle) {
            pending.work = Some(work);
        }
    }

    fn note(&self, handle: u64, number: u32, words: &str) {
        if let Some(pending) = self.state().pending.get_mut(&handle) {
            let problem = match words {
                "" => wire::errno(number),
                words => format!("{}: {words}", wire::errno(number)),
            };
            let what = pending.what.clone();
            pending.error.get_or_insert(NbdError::Server {
                what,
                problem,
                is_full: number == wire::NO_SPACE,
            });
        }
    }

    /// The server has answered all of a request.
    fn complete(&self, handle: u64, work: Work) -> Result<(), NbdError> {
        let Some(pending) = self.state().pending.remove(&handle) else {
            return Ok(());
        };
        let short = || {
            NbdError::protocol(format!(
                "it answers only parts when asked to {}",
                pending.what
            ))
        };
        let (answer, fault) = match (pending.error, work) {
            (Some(error), _) => (Err(error), None),
            (None, Work::Read(assembly, buffer)) if assembly.is_whole() => {
                (Ok(Answer::Bytes(buffer)), None)
            }
            (None, Work::Ranges(ranges)) if !ranges.is_empty() => {
                (Ok(Answer::Ranges(ranges)), None)
            }
            (None, Work::Plain) => (Ok(Answer::Done), None),
            (None, Work::Read(..) | Work::Ranges(_)) => (Err(short()), Some(short())),
        };
        drop(pending.answer.send(answer));
        fault.map_or(Ok(()), Err)
    }
}

async fn write_all(
    stream: WriteHalf<Box<dyn Stream>>,
    mut requests: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
) {
    let mut stream = BufWriter::new(stream);
    let outcome: io::Result<()> = async {
        while let Some(Outgoing { head, payload }) = requests.recv().await {
            stream.write_all(&head).await?;
            stream.write_all(&payload).await?;
            if requests.is_empty() {
                stream.flush().await?;
            }
        }
        let goodbye = wire::request(Command::DISCONNECT, 0, 0, 0);
        stream.write_all(&goodbye).await?;
        stream.shutdown().await
    }
    .await;
    if let Err(error) = outcome {
        shared.fail(&NbdError::lost(&shared.server, &error));
    }
}

async fn read_all(stream: ReadHalf<Box<dyn Stream>>, shared: Arc<Shared>) {
    let mut replies = Replies {
        // Content is larger than this and goes past it, right to where it belongs.
        stream: BufReader::with_capacity(4096, stream),
        shared: &shared,
    };
    let error = loop {
        if let Err(error) = replies.next().await {
            break error;
        }
    };
    shared.fail(&error);
}

struct Replies<'a, S> {
    stream: BufReader<S>,
    shared: &'a Shared,
}

impl<S: AsyncRead + Unpin> Replies<'_, S> {
    async fn next(&mut self) -> Result<(), NbdError> {
        let mut head = [0; REPLY_LEN];
        self.fill(&mut head).await?;
        match Reply::decode(&head)? {
            Reply::Simple { handle, error } => self.simple(handle, error).await,
            Reply::Chunk { handle, done, kind } => {
                let work = self.shared.take(handle)?;
                let work = self.chunk(handle, done, kind, work).await?;
                match done {
                    true => self.shared.complete(handle, work),
                    false => {
                        self.shared.put_back(handle, work);
                        Ok(())
                    }
                }
            }
        }
    }

    async fn simple(&mut self, handle: u64, error: u32) -> Result<(), NbdError> {
        let mut work = self.shared.take(handle)?;
        match &mut work {
            _ if error != 0 => self.shared.note(handle, error, ""),
            Work::Plain => {}
            Work::Read(assembly, buffer) if !self.shared.structured => {
                let place = assembly.rest()?;
                self.fill(part(buffer, place)?).await?;
            }
            _ => return Err(NbdError::protocol("it answers a read without chunks")),
        }
        self.shared.complete(handle, work)
    }

    async fn chunk(
        &mut self,
        handle: u64,
        done: bool,
        kind: ChunkKind,
        mut work: Work,
    ) -> Result<Work, NbdError> {
        if !self.shared.structured {
            return Err(NbdError::protocol("it answers in chunks unasked"));
        }
        let length = self.stream.read_u32().await;
        let length = length.map_err(|error| NbdError::lost(&self.shared.server, &error))?;
        match (kind, &mut work) {
            (ChunkKind::NONE, _) if length == 0 && done => {}
            (ChunkKind::DATA, Work::Read(assembly, buffer)) if length > 8 => {
                let place = assembly.part(self.number().await?, u64::from(length) - 8)?;
                self.fill(part(buffer, place)?).await?;
            }
            (ChunkKind::HOLE, Work::Read(assembly, buffer)) if length == 12 => {
                let offset = self.number().await?;
                let mut bytes = [0; 4];
                self.fill(&mut bytes).await?;
                let place = assembly.part(offset, u64::from(u32::from_be_bytes(bytes)))?;
                part(buffer, place)?.fill(0);
            }
            (ChunkKind::BLOCK_STATUS, Work::Ranges(ranges)) if ranges.is_empty() => {
                let words = self.words(length).await?;
                let (context, found) = wire::block_status(&words)?;
                if Some(context) != self.shared.allocation {
                    return Err(NbdError::protocol("it tells what it was not asked about"));
                }
                *ranges = found;
            }
            (kind, _) if kind.is_error() => {
                let (number, words) = wire::chunk_error(&self.words(length).await?)?;
                self.shared.note(handle, number, &words);
            }
            _ => {
                return Err(NbdError::protocol(
                    "it answers with a chunk that does not fit",
                ));
            }
        }
        Ok(work)
    }

    async fn words(&mut self, length: u32) -> Result<Vec<u8>, NbdError> {
        if length > CHUNK_WORDS_MAX {
            return Err(NbdError::protocol(format!("a chunk has {length} bytes")));
        }
        let mut words = vec![0; length as usize];
        self.fill(&mut words).await?;
        Ok(words)
    }

    async fn number(&mut self) -> Result<u64, NbdError> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes).await?;
        Ok(u64::from_be_bytes(bytes))
    }

    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NbdError> {
        match self.stream.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NbdError::lost(&self.shared.server, &error)),
        }
    }
}

/// Where content belongs. The place was checked by the assembly; a buffer has room for all of it.
fn part(buffer: &mut Buffer, place: Range<usize>) -> Result<&mut [u8], NbdError> {
    let part = buffer.as_mut().get_mut(place);
    part.ok_or_else(|| NbdError::protocol("it answers a part that was not asked for"))
}
