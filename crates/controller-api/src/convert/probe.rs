//! Probes.

use stillwater_types::Fault;
use stillwater_wire::{FieldError, field, wraps};

use crate::model::*;
use crate::pb;

wraps! { pb:
    message ProbeVmResponse.probe: Probe;
}

impl From<ProbeVmRequest> for pb::ProbeVmRequest {
    fn from(domain: ProbeVmRequest) -> Self {
        let ProbeVmRequest {
            vm,
            disk_key,
            read_bytes,
        } = domain;
        Self {
            vm,
            disk_key,
            read_bytes,
        }
    }
}

impl TryFrom<pb::ProbeVmRequest> for ProbeVmRequest {
    type Error = FieldError;

    fn try_from(message: pb::ProbeVmRequest) -> Result<Self, FieldError> {
        let pb::ProbeVmRequest {
            vm,
            disk_key,
            read_bytes,
        } = message;
        if read_bytes > PROBE_BYTES_MAX {
            let why = format_args!("is {read_bytes}, at most {PROBE_BYTES_MAX} go");
            return Err(FieldError::new("read_bytes", why));
        }
        Ok(Self {
            vm: field::text("vm", vm)?,
            disk_key,
            read_bytes,
        })
    }
}

impl From<Probe> for pb::Probe {
    fn from(domain: Probe) -> Self {
        let Probe {
            proxy_name,
            disk_key,
            way,
            read_bytes,
            elapsed_micros,
            open_micros,
            latency_median_micros,
            latency_p99_micros,
            fault,
            passed_over,
        } = domain;
        Self {
            proxy_name,
            disk_key,
            way,
            read_bytes,
            elapsed_micros,
            open_micros,
            latency_median_micros,
            latency_p99_micros,
            fault: fault.map(Into::into),
            passed_over,
        }
    }
}

impl TryFrom<pb::Probe> for Probe {
    type Error = FieldError;

    fn try_from(message: pb::Probe) -> Result<Self, FieldError> {
        let pb::Probe {
            proxy_name,
            disk_key,
            way,
            read_bytes,
            elapsed_micros,
            open_micros,
            latency_median_micros,
            latency_p99_micros,
            fault,
            passed_over,
        } = message;
        Ok(Self {
            proxy_name,
            disk_key,
            way: field::text("way", way)?,
            read_bytes,
            elapsed_micros,
            open_micros,
            latency_median_micros,
            latency_p99_micros,
            fault: fault.map(Fault::from),
            passed_over,
        })
    }
}
