//! The controller's protocol: domain types, client and server adaptor.
//!
//! Generated code stays inside this crate. What arrives is checked on receipt and becomes a type of
//! [`model`]; what is sent is made from one.

mod access;
mod adaptor;
#[cfg(feature = "fuzz")]
mod arrivals;
mod client;
mod convert;
pub mod model;
mod pb;
pub mod server;
mod ticket;

pub use access::ACCESS;
pub use adaptor::{
    alarm_service, event_service, guest_credential_service, job_service, node_service,
    point_service, policy_service, probe_service, repository_service, run_service, token_service,
    vcenter_service, vm_service,
};
#[cfg(feature = "fuzz")]
pub use arrivals::arrive;
pub use client::Client;
pub use model::*;
pub use server::{
    AlarmService, EventService, GuestCredentialService, JobService, NodeService, PointService,
    PolicyService, ProbeService, RepositoryService, RunService, TokenService, VcenterService,
    VmService,
};
pub use ticket::Ticket;

/// The protocol's `google.protobuf.FileDescriptorSet`, for reflection and for tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
