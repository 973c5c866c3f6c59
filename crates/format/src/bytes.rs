//! Reading and writing little-endian fields without a single index that can panic.

use crate::Error;

/// Reads fields from the front of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Error::Short { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Error::Short { what: self.what })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes behind a `u32` count that must not exceed `limit`.
    pub(crate) fn blob(&mut self, limit: usize) -> Result<&'a [u8], Error> {
        let count = self.u32()? as usize;
        if count > limit {
            let (found, limit) = (count as u64, limit as u64);
            return Err(Error::TooLong {
                what: self.what,
                found,
                limit,
            });
        }
        self.take(count)
    }

    /// UTF-8 behind a `u32` byte count that must not exceed `limit`.
    pub(crate) fn text(&mut self, field: &'static str, limit: usize) -> Result<String, Error> {
        let bytes = self.blob(limit)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| self.refuse(field))
    }

    /// Reads the magic, or says that this is something else.
    pub(crate) fn magic(&mut self, magic: &[u8]) -> Result<(), Error> {
        if self.take(magic.len())? == magic {
            Ok(())
        } else {
            Err(Error::Magic { what: self.what })
        }
    }

    /// Bytes that the format keeps zero.
    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), Error> {
        if self.take(count)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(self.refuse("reserved"))
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.refuse("length"))
        }
    }

    pub(crate) fn refuse(&self, field: &'static str) -> Error {
        Error::Field {
            what: self.what,
            field,
        }
    }
}

/// Appends bytes behind a `u32` count.
///
/// # Panics
/// When there are 4 GiB or more: callers check the far smaller bound of their structure first.
pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    let count = u32::try_from(bytes.len()).expect("bounded by the structure that holds it");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Splits off a trailing CRC-32C and checks it.
pub(crate) fn checked<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Error::Short { what })?;
    if crc32c::crc32c(body) == u32::from_le_bytes(*crc) {
        Ok(body)
    } else {
        Err(Error::Checksum { what })
    }
}
