//! Disks that vSphere attached to the very VM that this process runs in: the guest's side.
//!
//! Who attaches and detaches is not known here. A disk is found where it was put, by controller
//! and unit, and never by its name; it is used only when size and identity are the expected ones;
//! and it is let go before it is detached. The directories of the kernel are parameters, so that a
//! test can play them.

mod device;
mod error;
mod guest;
mod identity;
mod page83;
mod sysfs;

pub use device::{Device, HotAddReader, HotAddRewriter, HotAddWriter};
pub use error::HotAddError;
pub use guest::{Expected, Guest, Place, Roots, Waits};
pub use identity::{uuid_of_serial, uuids_of_product};
pub use page83::naa_ids;

#[cfg(test)]
mod tests;
