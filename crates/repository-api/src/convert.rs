//! Wire to domain and back: checked on receipt, never on sending.

use bytes::Bytes;
use stillwater_types::PointId;
use stillwater_wire::{FieldError, alike, empty, field, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb:
    RecordType { Chunk, Node }
    Codec { Raw, Zstd }
}

empty! { pb: GetRepositoryRequest ListDatasetsRequest CloseSessionResponse }

wraps! { pb:
    message GetRepositoryResponse.repository: Repository;
    message CreateDatasetRequest.dataset: Dataset;
    message CreateDatasetResponse.dataset: Dataset;
    messages ListDatasetsResponse.datasets: Vec<Dataset>;
    message OpenSessionResponse.session: Session;
    message RenewSessionResponse.session: Session;
    message CommitPointResponse.point: Point;
    id GetPointRequest.point_id: PointId;
}

alike! { pb: PackFinish { record_count } }

impl From<Repository> for pb::Repository {
    fn from(domain: Repository) -> Self {
        let Repository {
            node_id,
            writable_bytes,
            capacity_bytes,
            stored_bytes,
            chunk_count,
            point_count,
            format_version,
        } = domain;
        Self {
            node_id: node_id.to_string(),
            writable_bytes,
            capacity_bytes,
            stored_bytes,
            chunk_count,
            point_count,
            format_version,
        }
    }
}

impl TryFrom<pb::Repository> for Repository {
    type Error = FieldError;

    fn try_from(message: pb::Repository) -> Result<Self, FieldError> {
        let pb::Repository {
            node_id,
            writable_bytes,
            capacity_bytes,
            stored_bytes,
            chunk_count,
            point_count,
            format_version,
        } = message;
        Ok(Self {
            node_id: field::id("node_id", &node_id)?,
            writable_bytes,
            capacity_bytes,
            stored_bytes,
            chunk_count,
            point_count,
            format_version,
        })
    }
}

impl From<Dataset> for pb::Dataset {
    fn from(domain: Dataset) -> Self {
        let Dataset {
            dataset_id,
            label,
            wrapped_key,
        } = domain;
        Self {
            dataset_id: dataset_id.to_string(),
            label,
            wrapped_key,
        }
    }
}

impl TryFrom<pb::Dataset> for Dataset {
    type Error = FieldError;

    fn try_from(message: pb::Dataset) -> Result<Self, FieldError> {
        let pb::Dataset {
            dataset_id,
            label,
            wrapped_key,
        } = message;
        Ok(Self {
            dataset_id: field::id("dataset_id", &dataset_id)?,
            label,
            wrapped_key: field::bytes("wrapped_key", wrapped_key, WRAPPED_KEY_BYTES_MAX)?,
        })
    }
}

impl From<Session> for pb::Session {
    fn from(domain: Session) -> Self {
        let Session {
            run_id,
            dataset_id,
            fence,
            expires_at,
        } = domain;
        Self {
            run_id: run_id.to_string(),
            dataset_id: dataset_id.to_string(),
            fence,
            expires_at: Some(field::moment(expires_at)),
        }
    }
}

impl TryFrom<pb::Session> for Session {
    type Error = FieldError;

    fn try_from(message: pb::Session) -> Result<Self, FieldError> {
        let pb::Session {
            run_id,
            dataset_id,
            fence,
            expires_at,
        } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            dataset_id: field::id("dataset_id", &dataset_id)?,
            fence,
            expires_at: field::time("expires_at", expires_at)?,
        })
    }
}

impl From<OpenSessionRequest> for pb::OpenSessionRequest {
    fn from(domain: OpenSessionRequest) -> Self {
        let OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes,
        } = domain;
        Self {
            run_id: run_id.to_string(),
            dataset_id: dataset_id.to_string(),
            expected_bytes,
        }
    }
}

impl TryFrom<pb::OpenSessionRequest> for OpenSessionRequest {
    type Error = FieldError;

    fn try_from(message: pb::OpenSessionRequest) -> Result<Self, FieldError> {
        let pb::OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes,
        } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            dataset_id: field::id("dataset_id", &dataset_id)?,
            expected_bytes,
        })
    }
}

impl From<RenewSessionRequest> for pb::RenewSessionRequest {
    fn from(domain: RenewSessionRequest) -> Self {
        let RenewSessionRequest { run_id, fence } = domain;
        Self {
            run_id: run_id.to_string(),
            fence,
        }
    }
}

impl TryFrom<pb::RenewSessionRequest> for RenewSessionRequest {
    type Error = FieldError;

    fn try_from(message: pb::RenewSessionRequest) -> Result<Self, FieldError> {
        let pb::RenewSessionRequest { run_id, fence } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            fence,
        })
    }
}

impl From<CloseSessionRequest> for pb::CloseSessionRequest {
    fn from(domain: CloseSessionRequest) -> Self {
        let CloseSessionRequest { run_id, fence } = domain;
        Self {
            run_id: run_id.to_string(),
            fence,
        }
    }
}

impl TryFrom<pb::CloseSessionRequest> for CloseSessionRequest {
    type Error = FieldError;

    fn try_from(message: pb::CloseSessionRequest) -> Result<Self, FieldError> {
        let pb::CloseSessionRequest { run_id, fence } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            fence,
        })
    }
}

impl From<Authority> for pb::Authority {
    fn from(domain: Authority) -> Self {
        let Authority {
            grant,
            run_id,
            fence,
        } = domain;
        Self {
            grant,
            run_id: run_id.to_string(),
            fence,
        }
    }
}

impl TryFrom<pb::Authority> for Authority {
    type Error = FieldError;

    fn try_from(message: pb::Authority) -> Result<Self, FieldError> {
        let pb::Authority {
            grant,
            run_id,
            fence,
        } = message;
        Ok(Self {
            grant: field::bytes("grant", grant, GRANT_BYTES_MAX)?,
            run_id: field::id("run_id", &run_id)?,
            fence,
        })
    }
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

impl From<PackHeader> for pb::PackHeader {
    fn from(domain: PackHeader) -> Self {
        let PackHeader {
            authority,
            dataset_id,
            salt,
        } = domain;
        Self {
            authority: Some(authority.into()),
            dataset_id: dataset_id.to_string(),
            salt: Bytes::copy_from_slice(&salt),
        }
    }
}

impl TryFrom<pb::PackHeader> for PackHeader {
    type Error = FieldError;

    fn try_from(message: pb::PackHeader) -> Result<Self, FieldError> {
        let pb::PackHeader {
            authority,
            dataset_id,
            salt,
        } = message;
        Ok(Self {
            authority: field::message("authority", authority)?,
            dataset_id: field::id("dataset_id", &dataset_id)?,
            salt: field::hash("salt", &salt)?,
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

impl From<Point> for pb::Point {
    fn from(domain: Point) -> Self {
        let Point {
            point_id,
            dataset_id,
            run_id,
            sequence,
            committed_at,
            retain_until,
            manifest_hash,
        } = domain;
        Self {
            point_id: point_id.to_string(),
            dataset_id: dataset_id.to_string(),
            run_id: run_id.to_string(),
            sequence,
            committed_at: Some(field::moment(committed_at)),
            retain_until: Some(field::moment(retain_until)),
            manifest_hash: Bytes::copy_from_slice(&manifest_hash),
        }
    }
}

impl TryFrom<pb::Point> for Point {
    type Error = FieldError;

    fn try_from(message: pb::Point) -> Result<Self, FieldError> {
        let pb::Point {
            point_id,
            dataset_id,
            run_id,
            sequence,
            committed_at,
            retain_until,
            manifest_hash,
        } = message;
        Ok(Self {
            point_id: field::id("point_id", &point_id)?,
            dataset_id: field::id("dataset_id", &dataset_id)?,
            run_id: field::id("run_id", &run_id)?,
            sequence,
            committed_at: field::time("committed_at", committed_at)?,
            retain_until: field::time("retain_until", retain_until)?,
            manifest_hash: field::hash("manifest_hash", &manifest_hash)?,
        })
    }
}

impl From<ProposePointRequest> for pb::ProposePointRequest {
    fn from(domain: ProposePointRequest) -> Self {
        let ProposePointRequest {
            run_id,
            fence,
            manifest,
        } = domain;
        Self {
            run_id: run_id.to_string(),
            fence,
            manifest,
        }
    }
}

impl TryFrom<pb::ProposePointRequest> for ProposePointRequest {
    type Error = FieldError;

    fn try_from(message: pb::ProposePointRequest) -> Result<Self, FieldError> {
        let pb::ProposePointRequest {
            run_id,
            fence,
            manifest,
        } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            fence,
            manifest: field::bytes("manifest", manifest, MANIFEST_BYTES_MAX)?,
        })
    }
}

impl From<ProposePointResponse> for pb::ProposePointResponse {
    fn from(domain: ProposePointResponse) -> Self {
        let ProposePointResponse {
            manifest_hash,
            walked_count,
        } = domain;
        Self {
            manifest_hash: Bytes::copy_from_slice(&manifest_hash),
            walked_count,
        }
    }
}

impl TryFrom<pb::ProposePointResponse> for ProposePointResponse {
    type Error = FieldError;

    fn try_from(message: pb::ProposePointResponse) -> Result<Self, FieldError> {
        let pb::ProposePointResponse {
            manifest_hash,
            walked_count,
        } = message;
        Ok(Self {
            manifest_hash: field::hash("manifest_hash", &manifest_hash)?,
            walked_count,
        })
    }
}

impl From<CommitPointRequest> for pb::CommitPointRequest {
    fn from(domain: CommitPointRequest) -> Self {
        let CommitPointRequest {
            run_id,
            fence,
            point_id,
        } = domain;
        Self {
            run_id: run_id.to_string(),
            fence,
            point_id: point_id.to_string(),
        }
    }
}

impl TryFrom<pb::CommitPointRequest> for CommitPointRequest {
    type Error = FieldError;

    fn try_from(message: pb::CommitPointRequest) -> Result<Self, FieldError> {
        let pb::CommitPointRequest {
            run_id,
            fence,
            point_id,
        } = message;
        Ok(Self {
            run_id: field::id("run_id", &run_id)?,
            fence,
            point_id: field::id("point_id", &point_id)?,
        })
    }
}

impl From<ListPointsRequest> for pb::ListPointsRequest {
    fn from(domain: ListPointsRequest) -> Self {
        let ListPointsRequest {
            page_size,
            page_token,
        } = domain;
        Self {
            page_size,
            page_token: page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListPointsRequest> for ListPointsRequest {
    type Error = FieldError;

    fn try_from(message: pb::ListPointsRequest) -> Result<Self, FieldError> {
        let pb::ListPointsRequest {
            page_size,
            page_token,
        } = message;
        Ok(Self {
            page_size: field::page_size(page_size, PAGE_SIZE_MAX, PAGE_SIZE_MAX),
            page_token: field::maybe_text(page_token),
        })
    }
}

impl From<ListPointsResponse> for pb::ListPointsResponse {
    fn from(domain: ListPointsResponse) -> Self {
        let ListPointsResponse {
            points,
            next_page_token,
        } = domain;
        Self {
            points: points.into_iter().map(Into::into).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListPointsResponse> for ListPointsResponse {
    type Error = FieldError;

    fn try_from(message: pb::ListPointsResponse) -> Result<Self, FieldError> {
        let pb::ListPointsResponse {
            points,
            next_page_token,
        } = message;
        Ok(Self {
            points: field::messages("points", points)?,
            next_page_token: field::maybe_text(next_page_token),
        })
    }
}

impl From<GetPointResponse> for pb::GetPointResponse {
    fn from(domain: GetPointResponse) -> Self {
        let GetPointResponse { point, manifest } = domain;
        Self {
            point: Some(point.into()),
            manifest,
        }
    }
}

impl TryFrom<pb::GetPointResponse> for GetPointResponse {
    type Error = FieldError;

    fn try_from(message: pb::GetPointResponse) -> Result<Self, FieldError> {
        let pb::GetPointResponse { point, manifest } = message;
        Ok(Self {
            point: field::message("point", point)?,
            manifest: field::bytes("manifest", manifest, MANIFEST_BYTES_MAX)?,
        })
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
