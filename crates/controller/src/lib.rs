//! The controller role: orchestrates vSphere, runs, nodes and identity.
//!
//! It moves no disk bytes, keeps no chunk and deletes none: it decides, asks proxies and
//! repositories to act, and journals every decision before its side effect. Its secrets are sealed
//! at rest and no call answers with one.

pub mod alarm;
pub mod charter;
pub mod command;
pub mod config;
pub mod dataset;
pub mod error;
pub mod event;
mod grpc;
pub mod guest;
pub mod home;
pub mod init;
pub mod inventory;
pub mod kek;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod notice;
mod page;
pub mod point;
pub mod policy;
pub mod preflight;
pub mod repository;
mod resources;
pub mod restore;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod serve;
pub mod token;
pub mod vcenter;

pub use resources::Resources;
