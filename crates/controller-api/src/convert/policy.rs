//! Policies.

use stillwater_wire::{alike, empty, mirror, wraps};

use crate::model::*;
use crate::pb;

alike! { pb:
    PolicyChange { key, before, after, is_weaker }
    SimulatePolicyRequest { name, file, days }
}

mirror! { pb:
    Policy {
        text name,
        plain promise,
        plain repository,
        plain priority,
        time since,
        time changed_at,
        plain file,
    }
    ApplyPolicyRequest { text file, plain dry_run }
    ApplyPolicyResponse { text name, plain is_new, messages changes, plain enter, plain leave }
    PolicyMember { id vm_id, plain path, plain is_in, plain why }
    SimulatePolicyResponse { text name, messages days, messages kept }
    SimulatedDay {
        text date,
        time over_at,
        plain made_count,
        plain kept_count,
        maybe_time oldest_at,
    }
    SimulatedPoint { time at, plain why }
    ListPolicyPointsRequest { text policy, plain vm }
    ListPolicyPointsResponse { messages points, plain left_off_count }
    PolicyPoint {
        id point_id,
        id vm_id,
        plain vm_name,
        plain repository_name,
        time at,
        plain is_expired,
        plain why,
        maybe_time gone_by,
        plain refusal,
    }
}

empty! { pb: ListPoliciesRequest RemovePolicyResponse }

wraps! { pb:
    messages ListPoliciesResponse.policies: Vec<Policy>;
    text GetPolicyRequest.name: String;
    message GetPolicyResponse.policy: Policy;
    text RemovePolicyRequest.name: String;
    text ListPolicyMembersRequest.policy: String;
    messages ListPolicyMembersResponse.members: Vec<PolicyMember>;
}
