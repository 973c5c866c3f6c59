//! Disks behind a datastore's HTTPS folder.
//!
//! The only transport that needs nothing but vCenter's own port. Only for disks that are one flat
//! file: chains of deltas, raw mappings, vSAN and vVols have no such file and are refused.

pub(crate) mod descriptor;
mod reader;
mod server;
mod writer;

pub use reader::FolderReader;
pub use writer::FolderWriter;

#[cfg(test)]
mod tests;
