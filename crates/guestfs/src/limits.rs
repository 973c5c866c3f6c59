//! How much a guest's disk may make a reader take.

/// Bounds of memory and work. What goes beyond is an error, never a guess.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries of one page of a directory, about: a page ends with the block in which this is reached.
    pub page_entries: usize,
    /// The longest directory, in bytes or what comes near it.
    pub directory_bytes: u64,
    /// Pieces of one file.
    pub pieces: usize,
    /// Bytes of metadata that are held at a time: a journal's changes, a volume group's description.
    pub metadata_bytes: u64,
    /// Bytes of one extended attribute, link target or reparse point.
    pub value_bytes: u64,
    /// Components of a path, and the depth of trees inside a file system.
    pub depth: usize,
    /// Symbolic links that one path may lead over.
    pub links: usize,
    /// Volumes on all disks.
    pub volumes: usize,
    /// Bytes of the page cache of one disk.
    pub cache_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            page_entries: 1024,
            directory_bytes: 1 << 30,
            pieces: 1 << 20,
            metadata_bytes: 256 << 20,
            value_bytes: 1 << 20,
            depth: 512,
            links: 40,
            volumes: 1024,
            cache_bytes: 32 << 20,
        }
    }
}
