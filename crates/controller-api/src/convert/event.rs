//! Events.

use stillwater_wire::{FieldError, field, mirror, words, wraps};

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
    ListEventsResponse { messages events, maybe_text next_page_token }
    WatchEventsRequest { message filter, plain after }
}

wraps! { pb: message WatchEventsResponse.event: Event; }

impl From<ListEventsRequest> for pb::ListEventsRequest {
    fn from(domain: ListEventsRequest) -> Self {
        let ListEventsRequest {
            filter,
            since,
            page_size,
            page_token,
        } = domain;
        Self {
            filter: Some(filter.into()),
            since: since.map(field::moment),
            page_size,
            page_token: page_token.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListEventsRequest> for ListEventsRequest {
    type Error = FieldError;

    fn try_from(message: pb::ListEventsRequest) -> Result<Self, FieldError> {
        let pb::ListEventsRequest {
            filter,
            since,
            page_size,
            page_token,
        } = message;
        Ok(Self {
            filter: field::maybe_message("filter", filter)?.unwrap_or_default(),
            since: field::maybe_time("since", since)?,
            page_size: field::page_size(page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX),
            page_token: field::maybe_text(page_token),
        })
    }
}
