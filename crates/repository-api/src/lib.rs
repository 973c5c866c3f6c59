//! The repository's protocol: domain types, client and server adaptor.
//!
//! Generated code stays inside this crate. What arrives is checked on receipt and becomes a type of
//! [`model`]; what is sent is made from one.

mod access;
pub mod model;
pub mod server;

pub use access::ACCESS;
pub use model::*;
pub use server::{DatasetService, PointService, RecordService, RepositoryService, SessionService};
