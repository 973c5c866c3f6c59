//! The repository's protocol: domain types, client and server adaptor.
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
mod pack;
mod pb;
pub mod server;

pub use access::ACCESS;
pub use adaptor::{
    dataset_service, point_service, record_service, repository_service, retention_service,
    session_service, upkeep_service,
};
#[cfg(feature = "fuzz")]
pub use arrivals::{arrive, arrive_part};
pub use client::Client;
pub use model::*;
pub use pack::PackSender;
pub use server::{
    DatasetService, PointService, RecordService, RepositoryService, RetentionService,
    SessionService, UpkeepService,
};

/// The protocol's `google.protobuf.FileDescriptorSet`, for reflection and for tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
