//! Resources as a person and as a program see them. Pure: no printing, no clock.
//!
//! JSON has the field names of the protocol, states as lowercase words, sizes in bytes and moments
//! in RFC 3339. Secrets are never shown.

pub(crate) mod alarm;
pub(crate) mod configuration;
pub(crate) mod event;
pub(crate) mod files;
pub(crate) mod guest;
pub(crate) mod in_place;
pub(crate) mod job;
pub(crate) mod node;
pub(crate) mod point;
pub(crate) mod policy;
pub(crate) mod preflight;
pub(crate) mod probe;
pub(crate) mod proxy;
pub(crate) mod readiness;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod task;
pub(crate) mod vcenter;
pub(crate) mod vm;

#[cfg(test)]
mod tests;
