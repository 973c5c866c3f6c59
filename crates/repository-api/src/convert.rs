//! Wire to domain and back: checked on receipt, never on sending.

use bytes::Bytes;
use stillwater_types::PointId;
use stillwater_wire::{FieldError, alike, empty, field, mirror, words, wraps};

use crate::model::*;
use crate::pb;

mod upkeep;

words! { pb:
    RecordType { Chunk, Node }
    Codec { Raw, Zstd }
}

empty! { pb:
    GetRepositoryRequest
    ListDatasetsRequest
    CloseSessionResponse
    DeletePointResponse
}

wraps! { pb:
    message GetRepositoryResponse.repository: Repository;
    message CreateDatasetRequest.dataset: Dataset;
    message CreateDatasetResponse.dataset: Dataset;
    messages ListDatasetsResponse.datasets: Vec<Dataset>;
    message OpenSessionResponse.session: Session;
    message RenewSessionResponse.session: Session;
    message CommitPointResponse.point: Point;
    message LockPointResponse.point: Point;
    id GetPointRequest.point_id: PointId;
    id DeletePointRequest.point_id: PointId;
}

alike! { pb: PackFinish { record_count } }

mirror! { pb:
    ListPointsRequest {
        page[(PAGE_SIZE_MAX, PAGE_SIZE_MAX)] page_size,
        maybe_text page_token,
    }
    Repository {
        id node_id,
        plain writable_bytes,
        plain capacity_bytes,
        plain stored_bytes,
        plain chunk_count,
        plain point_count,
        plain format_version,
        message health,
    }
    Dataset { id dataset_id, plain label, bytes[WRAPPED_KEY_BYTES_MAX] wrapped_key }
    Session { id run_id, id dataset_id, plain fence, time expires_at }
    OpenSessionRequest { id run_id, id dataset_id, plain expected_bytes }
    RenewSessionRequest { id run_id, plain fence }
    CloseSessionRequest { id run_id, plain fence }
    Authority { bytes[GRANT_BYTES_MAX] grant, id run_id, plain fence }
    PackHeader { message authority, id dataset_id, hash salt }
    Point {
        id point_id,
        id dataset_id,
        id run_id,
        plain sequence,
        time committed_at,
        time retain_until,
        hash manifest_hash,
    }
    ProposePointRequest { id run_id, plain fence, bytes[MANIFEST_BYTES_MAX] manifest }
    ProposePointResponse { hash manifest_hash, plain walked_count }
    CommitPointRequest { id run_id, plain fence, id point_id }
    ListPointsResponse { messages points, maybe_text next_page_token }
    GetPointResponse { message point, bytes[MANIFEST_BYTES_MAX] manifest }
}

impl From<FindRecordsRequest> for pb::FindRecordsRequest {
    fn from(domain: FindRecordsRequest) -> Self {
        let FindRecordsRequest {
            authority,
            record_type,
            ids,
        } = domain;
        Self {
            authority: Some(authority.into()),
            r#type: number(record_type),
            ids: joined(&ids),
        }
    }
}

impl TryFrom<pb::FindRecordsRequest> for FindRecordsRequest {
    type Error = FieldError;

    fn try_from(message: pb::FindRecordsRequest) -> Result<Self, FieldError> {
        let pb::FindRecordsRequest {
            authority,
            r#type,
            ids,
        } = message;
        Ok(Self {
            authority: field::message("authority", authority)?,
            record_type: field::word("type", r#type)?,
            ids: field::hashes("ids", &ids, FIND_IDS_MAX)?,
        })
    }
}

impl From<FindRecordsResponse> for pb::FindRecordsResponse {
    fn from(domain: FindRecordsResponse) -> Self {
        let FindRecordsResponse { found } = domain;
        Self {
            found: found.into_iter().map(u8::from).collect(),
        }
    }
}

impl TryFrom<pb::FindRecordsResponse> for FindRecordsResponse {
    type Error = FieldError;

    fn try_from(message: pb::FindRecordsResponse) -> Result<Self, FieldError> {
        let pb::FindRecordsResponse { found } = message;
        let answer = |byte: &u8| match byte {
            0 => Ok(false),
            1 => Ok(true),
            // Taking it for found would leave a hole in a point.
            other => Err(FieldError::new(
                "found",
                format_args!("has no meaning for {other}"),
            )),
        };
        Ok(Self {
            found: found.iter().map(answer).collect::<Result<_, _>>()?,
        })
    }
}

impl From<RecordBatch> for pb::RecordBatch {
    fn from(domain: RecordBatch) -> Self {
        let RecordBatch { records } = domain;
        Self {
            records: records.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::RecordBatch> for RecordBatch {
    type Error = FieldError;

    fn try_from(message: pb::RecordBatch) -> Result<Self, FieldError> {
        let pb::RecordBatch { records } = message;
        Ok(Self {
            records: field::messages("records", records)?,
        })
    }
}

impl From<PackHeader> for pb::PutPackRequest {
    fn from(header: PackHeader) -> Self {
        Self {
            part: Some(pb::put_pack_request::Part::Header(header.into())),
        }
    }
}

impl TryFrom<pb::PutPackRequest> for PackHeader {
    type Error = FieldError;

    fn try_from(message: pb::PutPackRequest) -> Result<Self, FieldError> {
        let pb::PutPackRequest { part } = message;
        match field::choice("part", part)? {
            pb::put_pack_request::Part::Header(header) => {
                Self::try_from(header).map_err(|error| error.within("header"))
            }
            pb::put_pack_request::Part::Batch(_) | pb::put_pack_request::Part::Finish(_) => {
                Err(FieldError::new("part", "must be the header first"))
            }
        }
    }
}

impl From<PackPart> for pb::PutPackRequest {
    fn from(domain: PackPart) -> Self {
        let part = match domain {
            PackPart::Batch(batch) => pb::put_pack_request::Part::Batch(batch.into()),
            PackPart::Finish(finish) => pb::put_pack_request::Part::Finish(finish.into()),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<pb::PutPackRequest> for PackPart {
    type Error = FieldError;

    fn try_from(message: pb::PutPackRequest) -> Result<Self, FieldError> {
        let pb::PutPackRequest { part } = message;
        match field::choice("part", part)? {
            pb::put_pack_request::Part::Batch(batch) => RecordBatch::try_from(batch)
                .map(Self::Batch)
                .map_err(|error| error.within("batch")),
            pb::put_pack_request::Part::Finish(finish) => {
                PackFinish::try_from(finish).map(Self::Finish)
            }
            pb::put_pack_request::Part::Header(_) => {
                Err(FieldError::new("part", "must not be a second header"))
            }
        }
    }
}

impl From<Record> for pb::Record {
    fn from(domain: Record) -> Self {
        let Record {
            record_type,
            codec,
            counter,
            plain_bytes,
            id,
            stored_hash,
            stored,
        } = domain;
        Self {
            r#type: number(record_type),
            codec: number(codec),
            counter,
            plain_bytes,
            id: Bytes::copy_from_slice(&id),
            stored_hash: Bytes::copy_from_slice(&stored_hash),
            stored,
        }
    }
}

impl TryFrom<pb::Record> for Record {
    type Error = FieldError;

    fn try_from(message: pb::Record) -> Result<Self, FieldError> {
        let pb::Record {
            r#type,
            codec,
            counter,
            plain_bytes,
            id,
            stored_hash,
            stored,
        } = message;
        let record_type = field::word("type", r#type)?;
        if record_type == RecordType::Node && counter != 0 {
            return Err(FieldError::new("counter", "must be zero for a node"));
        }
        Ok(Self {
            record_type,
            codec: field::word("codec", codec)?,
            counter,
            plain_bytes,
            id: field::hash("id", &id)?,
            stored_hash: field::hash("stored_hash", &stored_hash)?,
            stored: field::bytes("stored", stored, MESSAGE_BYTES_MAX)?,
        })
    }
}

impl From<PutPackResponse> for pb::PutPackResponse {
    fn from(domain: PutPackResponse) -> Self {
        let PutPackResponse {
            pack_id,
            stored_bytes,
            known_count,
        } = domain;
        Self {
            pack_id: pack_id.to_string(),
            stored_bytes,
            known_count,
        }
    }
}

impl TryFrom<pb::PutPackResponse> for PutPackResponse {
    type Error = FieldError;

    fn try_from(message: pb::PutPackResponse) -> Result<Self, FieldError> {
        let pb::PutPackResponse {
            pack_id,
            stored_bytes,
            known_count,
        } = message;
        Ok(Self {
            pack_id: field::id("pack_id", &pack_id)?,
            stored_bytes,
            known_count,
        })
    }
}

impl From<ReadRecordsRequest> for pb::ReadRecordsRequest {
    fn from(domain: ReadRecordsRequest) -> Self {
        let ReadRecordsRequest {
            authority,
            record_type,
            ids,
        } = domain;
        Self {
            authority: Some(authority.into()),
            r#type: number(record_type),
            ids: joined(&ids),
        }
    }
}

impl TryFrom<pb::ReadRecordsRequest> for ReadRecordsRequest {
    type Error = FieldError;

    fn try_from(message: pb::ReadRecordsRequest) -> Result<Self, FieldError> {
        let pb::ReadRecordsRequest {
            authority,
            r#type,
            ids,
        } = message;
        Ok(Self {
            authority: field::message("authority", authority)?,
            record_type: field::word("type", r#type)?,
            ids: field::hashes("ids", &ids, READ_IDS_MAX)?,
        })
    }
}

impl From<ReadRecordsResponse> for pb::ReadRecordsResponse {
    fn from(domain: ReadRecordsResponse) -> Self {
        let ReadRecordsResponse { records } = domain;
        Self {
            records: records.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::ReadRecordsResponse> for ReadRecordsResponse {
    type Error = FieldError;

    fn try_from(message: pb::ReadRecordsResponse) -> Result<Self, FieldError> {
        let pb::ReadRecordsResponse { records } = message;
        Ok(Self {
            records: field::messages("records", records)?,
        })
    }
}

impl From<SaltedRecord> for pb::SaltedRecord {
    fn from(domain: SaltedRecord) -> Self {
        let SaltedRecord { record, salt } = domain;
        let salt = salt
            .map(|salt| Bytes::copy_from_slice(&salt))
            .unwrap_or_default();
        Self {
            record: Some(record.into()),
            salt,
        }
    }
}

impl TryFrom<pb::SaltedRecord> for SaltedRecord {
    type Error = FieldError;

    fn try_from(message: pb::SaltedRecord) -> Result<Self, FieldError> {
        let pb::SaltedRecord { record, salt } = message;
        let record: Record = field::message("record", record)?;
        let salt = match record.record_type {
            RecordType::Chunk => Some(field::hash("salt", &salt)?),
            RecordType::Node if salt.is_empty() => None,
            RecordType::Node => return Err(FieldError::new("salt", "must be empty for a node")),
        };
        Ok(Self { record, salt })
    }
}

fn number(word: impl stillwater_wire::Word) -> i32 {
    word.number()
}

fn joined(ids: &[[u8; 32]]) -> Bytes {
    Bytes::from(ids.concat())
}

#[cfg(test)]
mod tests;
