//! Which policies' runs start when, and whether every promise is kept.
//!
//! The decision is the pure crate `scheduler`'s. Here it is told what is so, what it decides is done by the
//! run engine, and what it finds broken becomes alarms. It makes no snapshot and moves nothing: a run that
//! it starts is a run like any other, with the same guards.

mod book;
mod facts;
#[cfg(test)]
mod fixture;
mod keeper;
mod past;
mod service;
mod told;
mod warden;

pub use book::{Book, Order};
pub(crate) use facts::datastore_of;
pub use facts::{
    Limits, Member, MemberDisk, NodesNow, Promise, Promises, ProxyNow, RepositoryNow, Ways,
};
pub use keeper::{Keeper, Shared, Starter, Taken};
pub use service::Service;
pub use warden::Warden;
