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
    /// Of what is found: how its name is.
    pub name: Option<NamePattern>,
}

/// How a name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePattern {
    /// With `*`, `?` and `[a-z]` as shells have them.
    pub pattern: String,
    /// Whether capital and small letters are one.
    pub any_case: bool,
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
    /// A file, or a directory with everything below it, all of it.
    Tree {
        /// Whether the content of a file with several names comes with each of them.
        copies: bool,
    },
    /// What is below a directory and has a name like that; in all volumes if none is named.
    Found,
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
    /// When it was read last.
    pub accessed: Option<Moment>,
    /// How many names it has.
    pub links: u64,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
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

/// Something below the path that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its path from there on; empty for what was asked for itself.
    pub path: Vec<u8>,
    /// What is known; or why nothing is, and nothing follows.
    pub facts: Result<Facts, String>,
    /// The path by which the same file was told before: no content follows.
    pub first: Option<Vec<u8>>,
    /// Names and values of extended attributes, as Linux gives them.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Something below the path that was asked for and is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its path from there on.
    pub path: Vec<u8>,
    /// Why not.
    pub what: String,
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
    /// Something below the path. If it is a file that was not told before, its content and [`Event::End`] follow.
    Item(Item),
    /// The content of an item ends here; why it is not whole, if it is not.
    End(Option<String>),
    /// Something that is not told.
    Lost(Lost),
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
