//! Damage of the medium: what two copies of everything that matters are kept for.
//!
//! One of the two may be lost at any time. So a barrier of one copy is tried with the other copy gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a medium loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The commit log's first copy.
    Log,
    /// Its second copy.
    LogCopy,
    /// The first copies of all manifests.
    Manifests,
    /// Their second copies.
    ManifestCopies,
}

impl Harm {
    /// What is gone, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "commit.log",
            Self::LogCopy => "copy/commit.log",
            Self::Manifests => "manifests",
            Self::ManifestCopies => "copy/manifests",
        }
    }

    /// Takes it from the repository in `store`, durably.
    pub fn inflict(self, store: &Path) -> Result<()> {
        let done = match self {
            Self::Log => erase(&store.join("commit.log")),
            Self::LogCopy => erase(&store.join("copy/commit.log")),
            Self::Manifests => erase_all(&store.join("manifests")),
            Self::ManifestCopies => erase_all(&store.join("copy/manifests")),
        };
        done.with_context(|| format!("damage {}", self.name()))
    }
}

/// Removes a file, if it is there, so that it stays away.
fn erase(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
        File::open(path.parent().context("it has a directory")?)?.sync_all()?;
    }
    Ok(())
}

fn erase_all(dir: &Path) -> Result<()> {
    files(dir)?.iter().try_for_each(|path| erase(path))
}

/// All files in the directories of a directory.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !dir.exists() {
        return Ok(found);
    }
    for fan in fs::read_dir(dir)? {
        for file in fs::read_dir(fan?.path())? {
            found.push(file?.path());
        }
    }
    Ok(found)
}
