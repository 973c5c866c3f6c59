//! Jobs.

use stillwater_wire::{FieldError, field, mirror};

use crate::model::*;
use crate::pb;

mirror! { pb:
    Job {
        text policy,
        id vm_id,
        plain vm_name,
        plain promise,
        plain rpo_seconds,
        maybe_time last_point_at,
        plain achieved_p50_seconds,
        plain achieved_p99_seconds,
        plain achieved_most_seconds,
        maybe_time due_at,
        maybe_time deadline,
        maybe_id run_id,
        maybe_text waits_for,
        maybe_time broken_since,
        maybe_text broken_by,
        plain failure_count,
        plain pace,
    }
    ListJobsResponse { messages jobs, maybe_text next_page_token }
}

impl From<ListJobsRequest> for pb::ListJobsRequest {
    fn from(domain: ListJobsRequest) -> Self {
        let ListJobsRequest {
            policy,
            page_size,
            page_token,
        } = domain;
        Self {
            policy: policy.unwrap_or_default(),
            page_size,
            page_token: page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListJobsRequest> for ListJobsRequest {
    type Error = FieldError;

    fn try_from(message: pb::ListJobsRequest) -> Result<Self, FieldError> {
        let pb::ListJobsRequest {
            policy,
            page_size,
            page_token,
        } = message;
        Ok(Self {
            policy: field::maybe_text(policy),
            page_size: field::page_size(page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX),
            page_token: field::maybe_text(page_token),
        })
    }
}
