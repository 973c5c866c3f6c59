//! A disk to a pipe, whose reader must be told by itself when it ends early.
//!
//! A stream that breaks off is never finished: raw bytes are fewer than the disk has, a
//! `streamOptimized` VMDK lacks its footer; and the tool's exit code says so.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};

use stillwater_types::{Fault, Reason};

use super::vmdk_stream::VmdkStream;
use crate::arguments::DiskFormat;

/// What a disk in a stream is called in its descriptor.
const NAME: &str = "disk.vmdk";
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A pipe to write to.
pub(crate) struct Pipe {
    out: Box<dyn Write + Send>,
    is_raw: bool,
}

/// A pipe that is being written.
pub(super) struct PipeWriter {
    out: Box<dyn Write + Send>,
    content: Content,
}

enum Content {
    Raw { at: u64, length: u64 },
    Stream(Box<VmdkStream>),
}

impl Pipe {
    /// Writes to standard output.
    pub fn stdout(format: DiskFormat) -> Result<Self, Fault> {
        if io::stdout().is_terminal() {
            let text = "standard output is a terminal; name a file with --to, or pipe it on";
            return Err(Fault::new(Reason::BadField, text));
        }
        Self::to(BufWriter::with_capacity(1 << 20, io::stdout()), format)
    }

    /// Writes to anything that only goes forward.
    pub fn to(out: impl Write + Send + 'static, format: DiskFormat) -> Result<Self, Fault> {
        let is_raw = match format {
            DiskFormat::Raw => true,
            DiskFormat::VmdkStream => false,
            DiskFormat::Vmdk | DiskFormat::Qcow2 => {
                let text = "this format has tables at its beginning that are known at its end; write it to a file, or take --format raw or vmdk-stream";
                return Err(Fault::new(Reason::BadField, text));
            }
        };
        let out = Box::new(out);
        Ok(Self { out, is_raw })
    }

    pub(super) fn open(mut self, length: u64) -> Result<PipeWriter, Fault> {
        let content = match self.is_raw {
            true => Content::Raw { at: 0, length },
            false => VmdkStream::begin(&mut *self.out, length, NAME)
                .map(|stream| Content::Stream(Box::new(stream)))
                .map_err(|err| failed(&err))?,
        };
        Ok(PipeWriter {
            out: self.out,
            content,
        })
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("is_raw", &self.is_raw)
            .finish_non_exhaustive()
    }
}

impl PipeWriter {
    /// Writes bytes of the disk; offsets ascend.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let out = &mut *self.out;
        let written = match &mut self.content {
            Content::Raw { at, .. } => zeros(out, offset.saturating_sub(*at))
                .and_then(|()| out.write_all(bytes))
                .map(|()| *at = offset + bytes.len() as u64),
            Content::Stream(stream) => stream.write(out, offset, bytes),
        };
        written.map_err(|err| failed(&err))
    }

    /// Writes the end, which nothing but a whole disk has.
    pub fn finish(mut self) -> Result<(), Fault> {
        let out = &mut *self.out;
        let ended = match self.content {
            Content::Raw { at, length } => zeros(out, length.saturating_sub(at)),
            Content::Stream(stream) => stream.finish(out),
        };
        ended.and_then(|()| out.flush()).map_err(|err| failed(&err))
    }
}

fn zeros(out: &mut dyn Write, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let now = count.min(ZEROS.len() as u64);
        out.write_all(ZEROS.get(..now as usize).unwrap_or(&ZEROS))?;
        count -= now;
    }
    Ok(())
}

fn failed(err: &io::Error) -> Fault {
    Fault::new(
        Reason::DiskWriteFailed,
        format!("write to standard output: {err}"),
    )
}
