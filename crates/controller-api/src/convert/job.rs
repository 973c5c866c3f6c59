//! Jobs.

use stillwater_wire::mirror;

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
    ListJobsRequest {
        maybe_text policy,
        page[(PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)] page_size,
        maybe_text page_token,
    }
    ListJobsResponse { messages jobs, maybe_text next_page_token }
}
