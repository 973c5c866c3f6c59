//! Numbers out of bytes that a guest wrote.

use crate::{Error, Result};

/// Bytes of a structure, with the words to complain about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    structure: &'static str,
    at: u64,
}

macro_rules! number {
    ($name:ident, $kind:ty, $from:ident) => {
        pub fn $name(&self, at: usize) -> Result<$kind> {
            self.array(at).map(<$kind>::$from)
        }
    };
}

impl<'a> View<'a> {
    pub const fn new(bytes: &'a [u8], structure: &'static str, at: u64) -> Self {
        Self {
            bytes,
            structure,
            at,
        }
    }

    number!(u8, u8, from_le_bytes);
    number!(le16, u16, from_le_bytes);
    number!(le32, u32, from_le_bytes);
    number!(le64, u64, from_le_bytes);
    number!(be16, u16, from_be_bytes);
    number!(be32, u32, from_be_bytes);
    number!(be64, u64, from_be_bytes);

    pub const fn length(&self) -> usize {
        self.bytes.len()
    }

    pub const fn all(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn bytes(&self, at: usize, length: usize) -> Result<&'a [u8]> {
        at.checked_add(length)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| self.damaged("it ends too early"))
    }

    pub fn array<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        self.bytes(at, N)?
            .try_into()
            .map_err(|_| self.damaged("it ends too early"))
    }

    /// What begins at `at` and goes on for `length` bytes.
    pub fn part(&self, at: usize, length: usize) -> Result<Self> {
        let bytes = self.bytes(at, length)?;
        Ok(Self { bytes, ..*self })
    }

    /// What begins at `at`.
    pub fn rest(&self, at: usize) -> Result<Self> {
        let bytes = self
            .bytes
            .get(at..)
            .ok_or_else(|| self.damaged("it ends too early"))?;
        Ok(Self { bytes, ..*self })
    }

    pub const fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            structure: self.structure,
            at: self.at,
            what,
        }
    }

    pub fn check(&self, holds: bool, what: &'static str) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(self.damaged(what))
        }
    }
}

/// A fixed field of text, up to its first zero.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|&byte| byte == 0).next()?;
    let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// A UUID as everybody writes it; none if all is zero.
pub(crate) fn uuid(bytes: [u8; 16]) -> Option<String> {
    if bytes == [0; 16] {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

/// A GUID whose first three fields are little-endian, as Microsoft and GPT store it.
pub(crate) fn guid(bytes: [u8; 16]) -> Option<String> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let [i, j, k, l, m, n, o, p] = rest;
    uuid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// UTF-16 as bytes: UTF-8, and an unpaired surrogate in the three bytes that it would have (WTF-8), so that
/// two names that differ never become one.
pub(crate) fn wide(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(letter) => {
                let mut buffer = [0; 4];
                bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
            }
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                bytes.extend_from_slice(&[
                    0xe0 | (unit >> 12) as u8,
                    0x80 | ((unit >> 6) & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]);
            }
        }
    }
    bytes
}

/// Little-endian UTF-16 as bytes.
pub(crate) fn wide_bytes(bytes: &[u8]) -> Vec<u8> {
    wide(
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&pair| u16::from_le_bytes(pair)),
    )
}
