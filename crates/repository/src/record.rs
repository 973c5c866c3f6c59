//! Records between the wire's words and the store's.

use bytes::Bytes;
use stillwater_format::pack::{Codec as StoredCodec, RecordHeader, RecordId, RecordKind};
use stillwater_repository_api::{Codec, Record, RecordType, SaltedRecord};
use stillwater_store::StoredRecord;
use stillwater_types::{Fault, Reason};

pub(crate) const fn kind(record_type: RecordType) -> RecordKind {
    match record_type {
        RecordType::Chunk => RecordKind::Chunk,
        RecordType::Node => RecordKind::Node,
    }
}

pub(crate) fn ids(record_type: RecordType, ids: &[[u8; 32]]) -> Vec<RecordId> {
    let kind = kind(record_type);
    ids.iter().map(|id| RecordId { kind, id: *id }).collect()
}

/// A record's header as the store checks it; whether it fits the bytes is for the store to say.
pub(crate) fn header(record: &Record) -> Result<RecordHeader, Fault> {
    let too_long = |_| Fault::new(Reason::BadField, "a record is too long");
    Ok(RecordHeader {
        kind: kind(record.record_type),
        codec: match record.codec {
            Codec::Raw => StoredCodec::Raw,
            Codec::Zstd => StoredCodec::Zstd,
        },
        // The pack that is being written has one salt, in slot 0.
        slot: 0,
        counter: record.counter,
        plain_len: record.plain_bytes,
        stored_len: u32::try_from(record.stored.len()).map_err(too_long)?,
        id: record.id,
        stored_hash: record.stored_hash,
    })
}

/// A stored record as it is sent.
pub(crate) fn salted(found: StoredRecord) -> Result<SaltedRecord, Fault> {
    let StoredRecord {
        header,
        stored,
        salt,
    } = found;
    let record_type = match header.kind {
        RecordKind::Chunk => RecordType::Chunk,
        RecordKind::Node => RecordType::Node,
        RecordKind::Salt => return Err(Fault::new(Reason::Bug, "a salt was asked for")),
    };
    let codec = match header.codec {
        StoredCodec::Raw => Codec::Raw,
        StoredCodec::Zstd => Codec::Zstd,
    };
    let record = Record {
        record_type,
        codec,
        counter: header.counter,
        plain_bytes: header.plain_len,
        id: header.id,
        stored_hash: header.stored_hash,
        stored: Bytes::from(stored),
    };
    Ok(SaltedRecord { record, salt })
}
