//! What is asked of the reader, and what it answers.

use serde::{Deserialize, Serialize};

/// What a session is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The lengths of the disks, in bytes.
    pub disks: Vec<u64>,
    /// The volume to look at; none is the only one that can be read.
    pub volume: Option<String>,
    /// The path there, in bytes as the guest has them.
    pub path: Vec<u8>,
    /// What of it is wanted.
    pub wanted: Wanted,
}

/// What of a path is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// All volumes, whatever the path.
    Volumes,
    /// The names of a directory, or the one of a file, with what is known of each.
    Names,
    /// The content of a file.
    Content,
}

/// A volume on the disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Its name, by which it is asked for.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it holds, in a word or a sentence.
    pub contents: String,
    /// Whether files in it can be read.
    pub readable: bool,
    /// The label of its file system.
    pub label: Option<String>,
    /// What is not shown of any file in it.
    pub losses: Vec<String>,
}

/// A moment, from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Whole seconds.
    pub seconds: i64,
    /// What goes beyond them.
    pub nanoseconds: u32,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its kind: `file`, `directory`, `link` and so on.
    pub kind: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Permission bits, where there are any.
    pub mode: Option<u32>,
    /// Its owner's number.
    pub owner: Option<u32>,
    /// Its group's number.
    pub group: Option<u32>,
    /// When its content changed last.
    pub modified: Option<Moment>,
    /// Where it leads, if it is a link.
    pub target: Option<Vec<u8>>,
    /// What of it is not shown.
    pub losses: Vec<String>,
}

/// A name, and what is known of what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name, in bytes as the guest has them.
    pub name: Vec<u8>,
    /// What is known; or why nothing is.
    pub facts: Result<Facts, String>,
}

/// Why something could not be read, as far as what to do next depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// There is no such file or volume.
    Missing,
    /// What was asked for does not fit what is there.
    Asked,
    /// This reader cannot, or the guest's structures are damaged or beyond the limits.
    Unreadable,
    /// The bytes of a disk could not be had.
    Disk,
}

/// What a session says, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A volume: each that there is, or the one that names and content are of.
    Volume(VolumeFacts),
    /// A name.
    Entry(Entry),
    /// The file whose content follows.
    File(Facts),
    /// Bytes of a file, in order.
    #[serde(skip)]
    Bytes(Vec<u8>),
    /// So many zeros of a file, which the guest does not store.
    Zeros(u64),
    /// It did not work.
    Failed {
        /// Of what sort that is.
        cause: Cause,
        /// Why, in words.
        text: String,
    },
    /// All was said.
    Done,
}
