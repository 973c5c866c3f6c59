//! Policies.

use stillwater_wire::{alike, empty, mirror, wraps};

use crate::model::*;
use crate::pb;

alike! { pb: PolicyChange { key, before, after, is_weaker } }

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
