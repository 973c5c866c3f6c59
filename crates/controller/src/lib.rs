//! The controller role: orchestrates vSphere, runs, nodes and identity.
//!
//! It moves no disk bytes, keeps no chunk and deletes none: it decides, asks proxies and
//! repositories to act, and journals every decision before its side effect. Its secrets are sealed
//! at rest and no call answers with one.

pub mod dataset;
pub mod event;
pub mod memory;
pub mod node;
pub mod point;
pub mod run;
pub mod secret;
pub mod token;
pub mod vcenter;

mod resources;

pub use resources::Resources;
