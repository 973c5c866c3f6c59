//! The side of whoever asks: starts the reader, gives it bytes, takes what it says.

use std::io;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::answer::{Cause, Event, Job};
use crate::frame::{Ask, BYTES, CONTENT, EVENT, FAILURE, JOB, READ, put, take};

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader could not be started.
    #[error("start the reader of guests' files")]
    Start(#[source] io::Error),
    /// It ended before it had said all: it met something that it cannot take, or one of its limits.
    #[error("the reader of guests' files ended early: {0}")]
    Ended(String),
    /// It said what nobody should.
    #[error("the reader of guests' files says what makes no sense")]
    Nonsense,
    /// It could not do what it was asked for, and says why.
    #[error("{text}")]
    Failed {
        /// Of what sort that is.
        cause: Cause,
        /// Why, in words.
        text: String,
    },
    /// Whoever takes the events could not.
    #[error("take what was read")]
    Taken(#[source] io::Error),
}

/// Fills bytes of a disk, named by its place in the job, from an offset on.
pub type ReadDisk<'a> = dyn FnMut(usize, u64, &mut [u8]) -> io::Result<()> + 'a;

/// A reader in a process of its own.
pub struct Session {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Session {
    /// Starts the program `stillwater-files`, which takes nothing of this process with it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> Result<Self, Error> {
        let mut child = Command::new(program)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::Start)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or_else(|| Error::Start(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { child, to, from })
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Does `job`: `read` fills bytes of a disk, `take_event` gets what the reader says until it has said all.
    ///
    /// # Errors
    /// When the reader ends, speaks nonsense or cannot do it, and when `take_event` fails.
    pub fn run(
        mut self,
        job: &Job,
        read: &mut ReadDisk<'_>,
        take_event: &mut dyn FnMut(Event) -> io::Result<()>,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(job).map_err(|_| Error::Nonsense)?;
        self.put(JOB, &bytes)?;
        loop {
            let (letter, bytes) = match take(&mut self.from) {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Error::Nonsense);
                }
                Err(_) => return Err(self.ended()),
            };
            let event = match letter {
                READ => {
                    self.answer(job, &bytes, read)?;
                    continue;
                }
                CONTENT => Event::Bytes(bytes),
                EVENT => serde_json::from_slice(&bytes).map_err(|_| Error::Nonsense)?,
                _ => return Err(Error::Nonsense),
            };
            match event {
                Event::Done => return Ok(()),
                Event::Failed { cause, text } => return Err(Error::Failed { cause, text }),
                event => take_event(event).map_err(Error::Taken)?,
            }
        }
    }

    fn put(&mut self, letter: u8, bytes: &[u8]) -> Result<(), Error> {
        put(&mut self.to, letter, bytes).map_err(|_| self.ended())
    }

    /// Only bytes of the disks of the job are given.
    fn answer(&mut self, job: &Job, bytes: &[u8], read: &mut ReadDisk<'_>) -> Result<(), Error> {
        let ask = Ask::parse(bytes).ok_or(Error::Nonsense)?;
        let length = job.disks.get(ask.disk as usize).ok_or(Error::Nonsense)?;
        let end = ask.offset.checked_add(ask.length.into());
        if end.is_none_or(|end| end > *length) {
            return Err(Error::Nonsense);
        }
        let mut buffer = vec![0; ask.length as usize];
        match read(ask.disk as usize, ask.offset, &mut buffer) {
            Ok(()) => self.put(BYTES, &buffer),
            Err(error) => self.put(FAILURE, error.to_string().as_bytes()),
        }
    }

    fn ended(&mut self) -> Error {
        match self.child.wait() {
            Ok(status) => Error::Ended(status.to_string()),
            Err(error) => Error::Ended(error.to_string()),
        }
    }
}
