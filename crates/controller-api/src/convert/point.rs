//! Restore points.

use bytes::Bytes;
use stillwater_types::{PointId, TreeId};
use stillwater_wire::{FieldError, Word, alike, field, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: Consistency { Crash, FileSystem, Application, Offline } }

alike! { pb: EvidenceLine { name, value } }

wraps! { pb: id GetPointRequest.point_id: PointId; }

impl From<Point> for pb::Point {
    fn from(domain: Point) -> Self {
        let Point {
            point_id,
            vm_id,
            vm_name,
            run_id,
            repository_name,
            committed_at,
            retain_until,
            consistency,
            complete,
            disks,
            missing,
        } = domain;
        Self {
            point_id: point_id.to_string(),
            vm_id: vm_id.to_string(),
            vm_name,
            run_id: run_id.to_string(),
            repository_name,
            committed_at: Some(field::moment(committed_at)),
            retain_until: Some(field::moment(retain_until)),
            consistency: consistency.number(),
            complete,
            disks: disks.into_iter().map(Into::into).collect(),
            missing,
        }
    }
}

impl TryFrom<pb::Point> for Point {
    type Error = FieldError;

    fn try_from(message: pb::Point) -> Result<Self, FieldError> {
        let pb::Point {
            point_id,
            vm_id,
            vm_name,
            run_id,
            repository_name,
            committed_at,
            retain_until,
            consistency,
            complete,
            disks,
            missing,
        } = message;
        Ok(Self {
            point_id: field::id("point_id", &point_id)?,
            vm_id: field::id("vm_id", &vm_id)?,
            vm_name,
            run_id: field::id("run_id", &run_id)?,
            repository_name,
            committed_at: field::time("committed_at", committed_at)?,
            retain_until: field::time("retain_until", retain_until)?,
            consistency: field::word("consistency", consistency)?,
            complete,
            disks: field::messages("disks", disks)?,
            missing,
        })
    }
}

impl From<PointDisk> for pb::PointDisk {
    fn from(domain: PointDisk) -> Self {
        let PointDisk {
            key,
            label,
            length_bytes,
            root,
            read_bytes,
            new_bytes,
            stored_bytes,
            hole_bytes,
            chunk_count,
            new_chunk_count,
        } = domain;
        Self {
            key,
            label,
            length_bytes,
            root: Bytes::copy_from_slice(root.as_bytes()),
            read_bytes,
            new_bytes,
            stored_bytes,
            hole_bytes,
            chunk_count,
            new_chunk_count,
        }
    }
}

impl TryFrom<pb::PointDisk> for PointDisk {
    type Error = FieldError;

    fn try_from(message: pb::PointDisk) -> Result<Self, FieldError> {
        let pb::PointDisk {
            key,
            label,
            length_bytes,
            root,
            read_bytes,
            new_bytes,
            stored_bytes,
            hole_bytes,
            chunk_count,
            new_chunk_count,
        } = message;
        Ok(Self {
            key,
            label,
            length_bytes,
            root: TreeId::from_bytes(field::hash("root", &root)?),
            read_bytes,
            new_bytes,
            stored_bytes,
            hole_bytes,
            chunk_count,
            new_chunk_count,
        })
    }
}

impl From<Evidence> for pb::Evidence {
    fn from(domain: Evidence) -> Self {
        let Evidence { lines } = domain;
        Self {
            lines: lines.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Evidence> for Evidence {
    type Error = FieldError;

    fn try_from(message: pb::Evidence) -> Result<Self, FieldError> {
        let pb::Evidence { lines } = message;
        Ok(Self {
            lines: field::messages("lines", lines)?,
        })
    }
}

impl From<ListPointsRequest> for pb::ListPointsRequest {
    fn from(domain: ListPointsRequest) -> Self {
        let ListPointsRequest {
            vm,
            page_size,
            page_token,
        } = domain;
        Self {
            vm: vm.unwrap_or_default(),
            page_size,
            page_token: page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListPointsRequest> for ListPointsRequest {
    type Error = FieldError;

    fn try_from(message: pb::ListPointsRequest) -> Result<Self, FieldError> {
        let pb::ListPointsRequest {
            vm,
            page_size,
            page_token,
        } = message;
        Ok(Self {
            vm: field::maybe_text(vm),
            page_size: field::page_size(page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX),
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
        let GetPointResponse { point, evidence } = domain;
        Self {
            point: Some(point.into()),
            evidence: Some(evidence.into()),
        }
    }
}

impl TryFrom<pb::GetPointResponse> for GetPointResponse {
    type Error = FieldError;

    fn try_from(message: pb::GetPointResponse) -> Result<Self, FieldError> {
        let pb::GetPointResponse { point, evidence } = message;
        Ok(Self {
            point: field::message("point", point)?,
            evidence: field::message("evidence", evidence)?,
        })
    }
}
