//! The file of a pack that is being written, in `tmp/` until it is revealed.

use std::path::{Path, PathBuf};

use stillwater_format::pack::{Builder, Entry, Header, RecordHeader};

use super::PackHost;
use crate::vfs::{File, Vfs};
use crate::{Error, durable};

/// Records are gathered until this many bytes are there, then written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Space is reserved in steps of this, so that a full disk shows before data is sent in vain.
const RESERVE_BYTES: u64 = 8 << 20;

/// Bytes of a pack on their way to the disk. After an error it is dead: whoever holds it abandons it.
pub(crate) struct Draft {
    /// None once it is revealed or abandoned.
    file: Option<Box<dyn File>>,
    tmp: PathBuf,
    header: Header,
    builder: Builder,
    buffer: Vec<u8>,
    written: u64,
    reserved: u64,
}

impl Draft {
    /// Begins a file, if there is room.
    pub(crate) fn begin(host: &dyn PackHost, header: Header, tmp: PathBuf) -> Result<Self, Error> {
        host.check_room(RESERVE_BYTES)?;
        let created = host.vfs().create_new(&tmp);
        let file = created.map_err(Error::io("create", &tmp))?;
        let (builder, first) = Builder::begin(&header);
        Ok(Self {
            file: Some(file),
            tmp,
            header,
            builder,
            buffer: first.to_vec(),
            written: 0,
            reserved: 0,
        })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// How long the pack would be with this record and its end.
    pub(crate) fn len_with(&self, next: &RecordHeader) -> u64 {
        self.builder.len_with(next)
    }

    /// Adds a record.
    pub(crate) fn append(
        &mut self,
        host: &dyn PackHost,
        header: &RecordHeader,
        stored: &[u8],
    ) -> Result<(), Error> {
        let bytes = self.builder.append(header, stored);
        self.buffer
            .extend_from_slice(&bytes.map_err(Error::malformed)?);
        self.buffer.extend_from_slice(stored);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush(host)
        } else {
            Ok(())
        }
    }

    /// Writes the end and makes all of it durable, still under its name in `tmp/`. Answers the pack's
    /// table and its length.
    pub(crate) fn sync(&mut self, host: &dyn PackHost) -> Result<(Vec<Entry>, u64), Error> {
        let (spent, _) = Builder::begin(&self.header);
        let (end, entries) = std::mem::replace(&mut self.builder, spent).finish();
        self.buffer.extend_from_slice(&end);
        self.flush(host)?;
        let file = self.file.as_ref().ok_or(Error::Poisoned)?;
        file.set_len(self.written)
            .map_err(Error::io("cut", &self.tmp))?;
        file.sync().map_err(Error::io("sync", &self.tmp))?;
        Ok((entries, self.written))
    }

    /// Lets go of the file after it was given its name.
    pub(crate) fn revealed(&mut self) {
        self.file = None;
    }

    /// Closes and removes the file, unless it was revealed.
    pub(crate) fn abandon(&mut self, vfs: &dyn Vfs) {
        if self.file.take().is_some() {
            durable::discard(vfs, &self.tmp);
        }
    }

    fn flush(&mut self, host: &dyn PackHost) -> Result<(), Error> {
        let file = self.file.as_ref().ok_or(Error::Poisoned)?;
        let end = self.written + self.buffer.len() as u64;
        while self.reserved < end {
            host.check_room(RESERVE_BYTES)?;
            let outcome = file.reserve(self.reserved, RESERVE_BYTES);
            outcome.map_err(Error::io("reserve space for", &self.tmp))?;
            self.reserved += RESERVE_BYTES;
        }
        file.write_at(&self.buffer, self.written)
            .map_err(Error::io("write", &self.tmp))?;
        self.written = end;
        self.buffer.clear();
        Ok(())
    }
}
