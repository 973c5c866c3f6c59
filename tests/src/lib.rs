//! Drives the lab and the three roles as real processes.
//!
//! Nothing here knows how a role works inside: it starts binaries, calls the tool `stillwater`, asks
//! the lab's control endpoint what vCenter sees, and compares bytes.

pub mod cluster;
pub mod fleet;
pub mod guest;
pub mod http;
pub mod lab;
pub mod machine;
pub mod process;
mod serving;
mod site;
pub mod sparse;
pub mod volume;
pub mod vsphere_faults;
pub mod workspace;

pub use cluster::Cluster;
pub use lab::Lab;
pub use serving::Serving;
pub use site::Site;
