//! Ways to a frozen disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way to a frozen disk, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Attached to the VM that a proxy runs in.
    HotAdd,
    /// A file of a datastore that a proxy has mounted.
    File,
    /// Through port 902 of its host.
    Nfc,
    /// Through a command of a proxy that serves it over NBD.
    Nbd,
    /// Through the HTTPS folder of its datastore.
    Folder,
}

impl Way {
    /// All of them, the nearest first.
    pub const ALL: [Way; 5] = [Way::HotAdd, Way::File, Way::Nfc, Way::Nbd, Way::Folder];

    /// Its word in files, runs and points.
    pub const fn as_str(self) -> &'static str {
        match self {
            Way::HotAdd => "hotadd",
            Way::File => "file",
            Way::Nfc => "nfc",
            Way::Nbd => "nbd",
            Way::Folder => "folder",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to a disk: write hotadd, file, nfc, nbd or folder")]
pub struct NoWay(String);

impl FromStr for Way {
    type Err = NoWay;

    fn from_str(word: &str) -> Result<Self, NoWay> {
        let named = Way::ALL.into_iter().find(|way| way.as_str() == word);
        named.ok_or_else(|| NoWay(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_one_word_in_files_and_in_lists() {
        for way in Way::ALL {
            assert_eq!(way.as_str().parse(), Ok(way));
            let written = toml::Value::try_from(way).unwrap();
            assert_eq!(written.as_str(), Some(way.as_str()));
        }
        assert!("san".parse::<Way>().is_err());
    }
}
