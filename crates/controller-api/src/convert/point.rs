//! Restore points.

use bytes::Bytes;
use stillwater_types::{PointId, TreeId};
use stillwater_wire::{FieldError, alike, field, mirror, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: Consistency { Crash, FileSystem, Application, Offline } }

alike! { pb:
    EvidenceLine { name, value }
    PointTag { category, name }
    PointAttribute { name, value }
    PointPolicy { disk_key, policy }
}

wraps! { pb:
    id GetPointRequest.point_id: PointId;
    id GetPointConfigurationRequest.point_id: PointId;
}

impl From<PointConfiguration> for pb::GetPointConfigurationResponse {
    fn from(domain: PointConfiguration) -> Self {
        let PointConfiguration {
            config_xml,
            surroundings,
        } = domain;
        Self {
            config_xml,
            surroundings: surroundings.map(Into::into),
        }
    }
}

impl TryFrom<pb::GetPointConfigurationResponse> for PointConfiguration {
    type Error = FieldError;

    fn try_from(message: pb::GetPointConfigurationResponse) -> Result<Self, FieldError> {
        let pb::GetPointConfigurationResponse {
            config_xml,
            surroundings,
        } = message;
        Ok(Self {
            config_xml,
            surroundings: field::maybe_message("surroundings", surroundings)?,
        })
    }
}

mirror! { pb:
    ListPointsRequest {
        maybe_text vm,
        page[(PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)] page_size,
        maybe_text page_token,
    }
    Point {
        id point_id,
        id vm_id,
        plain vm_name,
        id run_id,
        plain repository_name,
        time committed_at,
        time retain_until,
        word consistency,
        plain complete,
        messages disks,
        plain missing,
        maybe_message verification,
    }
    PointVerification { id run_id, time verified_at, plain damaged_bytes }
    Evidence { messages lines }
    ListPointsResponse { messages points, maybe_text next_page_token }
    GetPointResponse {
        message point,
        message evidence,
        messages readings,
        maybe_message quiescence,
    }
    Surroundings {
        plain vcenter,
        maybe_text folder,
        maybe_text resource_pool,
        maybe_text host,
        maybe_text cluster,
        plain datastores,
        messages networks,
        messages tags,
        messages attributes,
        maybe_text home_policy,
        messages disk_policies,
        maybe_text nvram_file,
        plain nvram,
        plain remarks,
    }
    PointNetwork {
        plain name,
        plain kind,
        plain reference,
        maybe_text portgroup_key,
        maybe_text switch_uuid,
    }
    QuiesceTry { word level, plain problem }
    QuiesceWriter { plain name, maybe_text failure, plain component_count }
    Quiescence {
        words asked,
        word achieved,
        messages tries,
        plain tools,
        plain quiesced,
        messages writers,
        plain stun_micros,
        plain freeze_millis,
        plain has_report,
        plain remarks,
        messages hooks,
        maybe_message hook_release,
    }
    DiskReading {
        plain disk_key,
        plain how,
        plain reason,
        plain remarks,
        maybe_id base_point_id,
        plain changed_bytes,
        plain compared_bytes,
        plain lie_bytes,
        time checked_at,
        plain points_since,
        plain lie_count,
        maybe_time last_lie_at,
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
