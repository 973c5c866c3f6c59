//! How roles speak: mutual TLS identity, roles per call, grants, retry, faults as statuses.
//!
//! Knows no message of any role: the `*-api` crates bring their generated code, their
//! [`Access`] tables and convert; this crate carries calls between proven identities. It decides
//! nothing about policy beyond who may call what.

mod access;
mod ca;
mod connect;
pub mod file;
pub mod grant;
mod identity;
mod name;
mod peer;
pub mod retry;
mod serve;
pub mod signing;
mod status;
mod tls;
mod token;

pub use access::{Access, allow, gaps};
pub use ca::{ADMIN_VALIDITY, Ca, NODE_VALIDITY, Pin};
pub use connect::{CONNECT_TIMEOUT, Target, connect, connect_pinned, unreachable};
pub use identity::{Identity, PendingKey};
pub use name::Name;
pub use peer::{Caller, Peer, peer, remote};
pub use serve::{ClientCertificates, RemovedNodes, Server};
pub use status::{code, fault, status};
pub use token::{TOKEN_LIFETIME, Token};

/// The largest message either side takes; a chunk with its header stays well below it.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How many bytes a peer may send on one stream, and on one connection, before it must wait.
pub const WINDOW_BYTES: u32 = 16 << 20;
