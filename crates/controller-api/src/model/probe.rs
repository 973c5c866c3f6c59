//! How fast proxies reach the disks of a VM.

use stillwater_types::Fault;

/// Most bytes that a probe reads by each way.
pub const PROBE_BYTES_MAX: u64 = 4 << 30;

/// Asks how fast proxies reach a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeVmRequest {
    /// Id, name or inventory path of the VM.
    pub vm: String,
    /// The disk's device key; the VM's first disk when none.
    pub disk_key: Option<i32>,
    /// How much is read by each way, at most [`PROBE_BYTES_MAX`]; 64 MiB when 0.
    pub read_bytes: u64,
}

/// One way of one proxy to one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The proxy.
    pub proxy_name: String,
    /// The disk's device key.
    pub disk_key: i32,
    /// Such as `nfc`.
    pub way: String,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// From the first request to the last answer.
    pub elapsed_micros: u64,
    /// Until the disk was open.
    pub open_micros: u64,
    /// How long one request took that was sent while no other was under way.
    pub latency_median_micros: u64,
    /// The same of the slowest in a hundred.
    pub latency_p99_micros: u64,
    /// Why the way failed; the figures are zero then.
    pub fault: Option<Fault>,
    /// Why the way cannot be gone and was not tried; the figures are zero then, too.
    pub passed_over: Option<String>,
}
