//! Generated code, seen by nobody outside this crate.

#![allow(missing_docs, clippy::all, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/stillwater.proxy.v1.rs"));
