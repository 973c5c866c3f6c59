//! Reads partitions, logical volumes and file systems of guests' disks, over whatever gives the bytes.
//!
//! Nothing is ever written, nothing of the host is used: no loop device, no mount, no file, no clock. What
//! cannot be shown as the guest sees it is named as a [`Loss`] or refused; wrong bytes are never given.
//!
//! Every byte here was written by a guest that may be hostile. Structures are read with their bounds checked,
//! no length field is believed beyond the [`Limits`], and no chain is followed without an end. It is meant to
//! run in a process that can do nothing else all the same.

mod btrfs;
mod content;
mod detect;
mod error;
mod ext4;
mod fat;
mod file_system;
mod limits;
mod loss;
mod lvm;
mod ntfs;
mod partition;
mod source;
mod view;
mod volume;
mod walk;
mod xfs;

pub use content::{Content, Run};
pub use detect::{Contents, FileSystemKind};
pub use error::{Error, Result};
pub use file_system::{
    Attribute, Cursor, Description, Entry, FileSystem, Kind, Metadata, Node, Page, Stream, Time,
};
pub use limits::Limits;
pub use loss::Loss;
pub use source::{BlockSource, Disk};
pub use volume::{Place, Volume, volumes};
pub use walk::{Links, resolve};
