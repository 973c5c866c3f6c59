//! Events.

use stillwater_wire::{mirror, words, wraps};

use crate::model::*;
use crate::pb;

words! { pb: EventSeverity { Info, Warning, Error } }

mirror! { pb:
    Event {
        plain number,
        text kind,
        word severity,
        time at,
        text by,
        maybe_text by_name,
        plain message,
        maybe_id vm_id,
        maybe_text vm_name,
        maybe_id run_id,
        maybe_id point_id,
        maybe_id node_id,
        maybe_text policy,
        maybe_text alarm,
    }
    EventFilter {
        plain kinds,
        maybe_word severity,
        maybe_text vm,
        maybe_id run_id,
        maybe_text policy,
    }
    ListEventsRequest {
        message_or_default filter,
        maybe_time since,
        page[(PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)] page_size,
        maybe_text page_token,
    }
    ListEventsResponse { messages events, maybe_text next_page_token }
    WatchEventsRequest { message filter, plain after }
}

wraps! { pb: message WatchEventsResponse.event: Event; }
