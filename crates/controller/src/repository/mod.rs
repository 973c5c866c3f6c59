//! Repositories as administrators see them: how sound they are, what they protect, and the tasks that
//! keep them so.
//!
//! The controller decides nothing here. It passes questions, requests and signed statements on.

mod outside;
mod service;

pub use outside::Upkeep;
pub use service::Service;
