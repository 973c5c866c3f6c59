//! All file I/O of the store goes through these traits, so that a test can fail any call, and lose,
//! reorder or tear what was not synced.
//!
//! Paths are relative to the repository's directory. Nothing here retries: after a failed write or
//! sync the open file is dead, because the kernel may have marked its pages clean.

use std::io;
use std::path::Path;

mod real;

pub use real::RealFs;

/// How an existing file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name, if it is UTF-8; ours are, so others are not ours.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its size.
    pub capacity_bytes: u64,
    /// What an ordinary process may still write.
    pub free_bytes: u64,
}

/// What kind of storage the repository's directory is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// One that can keep what was synced.
    Lasting,
    /// One that loses everything at a restart, or cannot promise anything: its name.
    Volatile(&'static str),
}

/// A directory tree with the calls that durability is made of.
pub trait Vfs: Send + Sync + 'static {
    /// Creates a file for writing and reading; fails if the name exists.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Opens a file that exists.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;
    /// Gives a file or directory another name; fails if that name exists. Durable only after
    /// [`Vfs::sync_dir`] of the new parent.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory; fails if the name exists.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, in no order; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Name>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Tells how much room there is.
    fn room(&self) -> io::Result<Room>;
    /// Tells what kind of storage it is.
    fn medium(&self) -> io::Result<Medium>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Reads at most `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Tells the length.
    fn len(&self) -> io::Result<u64>;
    /// Sets the length and gives reserved space behind it back.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Reserves space without changing the length, so that a full disk shows before data is lost.
    /// Does nothing where the file system cannot.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Locks the file against other processes until it is closed; false if another one has it.
    fn try_lock(&self) -> io::Result<bool>;

    /// Reads exactly `buffer.len()` bytes at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = buffer.len();
        if self.read_at(buffer, offset)? == wanted {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file ends early",
        ))
    }

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }
}
