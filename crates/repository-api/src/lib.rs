//! The repository's protocol: domain types, client and server adaptor.
//!
//! Generated code stays inside this crate. What arrives is checked on receipt and becomes a type of
//! [`model`]; what is sent is made from one.

pub mod model;

pub use model::*;
