//! Alarms.

use stillwater_wire::{alike, mirror, wraps};

use crate::model::*;
use crate::pb;

alike! { pb: ListAlarmsRequest { include_cleared } }

mirror! { pb:
    Alarm {
        text kind,
        plain subject,
        maybe_id vm_id,
        plain disk_key,
        maybe_id node_id,
        plain message,
        time raised_at,
        time changed_at,
        maybe_time cleared_at,
    }
}

wraps! { pb: messages ListAlarmsResponse.alarms: Vec<Alarm>; }
