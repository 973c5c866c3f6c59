//! Entries: who changed what, and when.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the words that entries are written in. Raised when the meaning of an event
/// changes; a variant that is only added needs no new version, for an older release refuses it.
pub const VERSION: u32 = 1;

/// An entry to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft<E> {
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// What happened.
    pub event: E,
}

/// An entry that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<E> {
    /// Its number, from 1 without a gap.
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// What happened.
    pub event: E,
}

#[derive(Serialize)]
struct Written<'a, E> {
    version: u32,
    at: Timestamp,
    by: &'a str,
    event: &'a E,
}

/// Read in two steps, so that an entry of a newer release is told from a damaged one.
#[derive(Deserialize)]
struct Read {
    version: u32,
    at: Timestamp,
    by: String,
    event: serde_json::Value,
}

pub(crate) fn encode<E: Serialize>(draft: &Draft<E>) -> Result<Vec<u8>, Error> {
    let Draft { at, by, event } = draft;
    let written = Written {
        version: VERSION,
        at: *at,
        by,
        event,
    };
    serde_json::to_vec(&written).map_err(Error::Encode)
}

/// Reads an entry. Its checksums fit, so whatever is not understood was written so.
pub(crate) fn decode<E: DeserializeOwned>(
    payload: &[u8],
    sequence: u64,
) -> Result<Entry<E>, Error> {
    let too_new = |error: serde_json::Error| Error::TooNew {
        sequence,
        what: error.to_string(),
    };
    let Read {
        version,
        at,
        by,
        event,
    } = serde_json::from_slice(payload).map_err(too_new)?;
    if version > VERSION {
        return Err(Error::TooNew {
            sequence,
            what: format!("version {version}"),
        });
    }
    let event = serde_json::from_value(event).map_err(too_new)?;
    Ok(Entry {
        sequence,
        at,
        by,
        event,
    })
}
