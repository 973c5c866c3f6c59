//! Writing a flat file as one upload.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use reqwest::Body;
use stillwater_types::Extent;
use stillwater_vsphere::DataAccess;
use tokio::sync::mpsc;

use super::server::{RemoteFile, STALL_TIMEOUT};
use crate::task::Running;
use crate::{DiskWriter, Error, Result};

/// Pieces that wait for the connection. Memory is bounded by this many of the caller's pieces.
const WAITING_MAX: usize = 4;
/// How much of a hole is sent at once; the same bytes again and again.
const ZEROS: usize = 1024 * 1024;
/// A server may have to flush a whole disk before it answers.
const FINISH_TIMEOUT: Duration = Duration::from_secs(600);

/// Writes a flat disk as one upload of its whole length: the folder takes no parts. Holes are sent
/// as zeros.
#[derive(Debug)]
pub struct FolderWriter {
    file: RemoteFile,
    length: u64,
    position: u64,
    zeros: Bytes,
    upload: Upload,
}

#[derive(Debug)]
enum Upload {
    /// Nothing was written yet: a connection that waits for its first byte would be cut.
    NotStarted,
    Running {
        pieces: mpsc::Sender<Bytes>,
        outcome: Running<Result<()>>,
    },
    /// An error was returned; there is no way back.
    Failed,
}

impl FolderWriter {
    /// Opens the new, empty disk whose descriptor is `path`, and checks that it is one flat extent
    /// of `length` bytes.
    pub async fn open(access: &DataAccess, path: &str, length: u64) -> Result<Self> {
        let file = RemoteFile::flat(access, path, length).await?;
        let zeros = Bytes::from(vec![0; ZEROS]);
        Ok(Self {
            file,
            length,
            position: 0,
            zeros,
            upload: Upload::NotStarted,
        })
    }

    fn start(&mut self) {
        let (pieces, waiting) = mpsc::channel(WAITING_MAX);
        let next = |mut waiting: mpsc::Receiver<Bytes>| async move {
            let piece = waiting.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), waiting))
        };
        let body = Body::wrap_stream(stream::unfold(waiting, next));
        let (file, length) = (self.file.clone(), self.length);
        let outcome = Running::spawn(async move { file.replace(length, body).await });
        self.upload = Upload::Running { pieces, outcome };
    }

    async fn send(&mut self, piece: Bytes) -> Result<()> {
        if matches!(self.upload, Upload::NotStarted) {
            self.start();
        }
        let Upload::Running { pieces, .. } = &self.upload else {
            return Err(self.failed("it failed before"));
        };
        let bytes = piece.len() as u64;
        match tokio::time::timeout(STALL_TIMEOUT, pieces.send(piece)).await {
            Ok(Ok(())) => {
                self.position += bytes;
                Ok(())
            }
            Ok(Err(_)) => Err(self.why().await),
            Err(_) => {
                self.upload = Upload::Failed;
                Err(self.failed("the server takes no more bytes"))
            }
        }
    }

    /// Why the upload ended before its body.
    async fn why(&mut self) -> Error {
        match std::mem::replace(&mut self.upload, Upload::Failed) {
            Upload::Running { outcome, .. } => match outcome.join().await {
                Some(Err(error)) => self.write_error(error),
                Some(Ok(())) => self.failed("the server answered before it had all"),
                None => self.failed("the upload was stopped"),
            },
            Upload::NotStarted | Upload::Failed => self.failed("it failed before"),
        }
    }

    async fn fill(&mut self, until: u64) -> Result<()> {
        while self.position < until {
            let bytes = usize::try_from(until - self.position)
                .unwrap_or(ZEROS)
                .min(ZEROS);
            self.send(self.zeros.slice(..bytes)).await?;
        }
        Ok(())
    }

    fn failed(&self, problem: &str) -> Error {
        Error::WriteFailed {
            path: self.file.path.clone(),
            problem: problem.to_owned(),
        }
    }

    /// What is a failed read elsewhere is a failed write here.
    fn write_error(&self, error: Error) -> Error {
        match error {
            Error::Transport { .. } | Error::Status { .. } => self.failed(&error.chain()),
            error => error,
        }
    }
}

#[async_trait]
impl DiskWriter for FolderWriter {
    fn length(&self) -> u64 {
        self.length
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        if offset < self.position {
            return Err(Error::NotAscending {
                offset,
                position: self.position,
            });
        }
        let extent = Extent::new(offset, bytes.len() as u64);
        if offset
            .checked_add(extent.length)
            .is_none_or(|end| end > self.length)
        {
            return Err(Error::BeyondDisk {
                extent,
                length: self.length,
            });
        }
        self.fill(offset).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.send(bytes).await
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.fill(self.length).await?;
        let upload = std::mem::replace(&mut self.upload, Upload::Failed);
        let Upload::Running { pieces, outcome } = upload else {
            return Err(self.failed("nothing was written"));
        };
        drop(pieces);
        match tokio::time::timeout(FINISH_TIMEOUT, outcome.join()).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => return Err(self.write_error(error)),
            Ok(None) => return Err(self.failed("the upload was stopped")),
            Err(_) => return Err(self.failed("the server does not answer")),
        }
        // An answer proves only that the server is content: ask how much it has.
        let there = self
            .file
            .length()
            .await
            .map_err(|error| self.write_error(error))?;
        self.file.expect_length(self.length, there)
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        match std::mem::replace(&mut self.upload, Upload::Failed) {
            Upload::Running { outcome, .. } => outcome.stop().await,
            Upload::NotStarted | Upload::Failed => {}
        }
        Ok(())
    }
}
