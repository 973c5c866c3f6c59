//! The proxy's protocol: domain types, client and server adaptor.
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
mod secret;
pub mod server;

pub use access::ACCESS;
pub use adaptor::{export_service, probe_service, transfer_service};
#[cfg(feature = "fuzz")]
pub use arrivals::arrive;
pub use client::Client;
pub use model::*;
pub use secret::{DatasetKey, Ticket};
pub use server::{ExportService, ProbeService, TransferService};

/// The protocol's `google.protobuf.FileDescriptorSet`, for reflection and for tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
