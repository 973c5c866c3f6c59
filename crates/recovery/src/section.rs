//! The sealed section of a manifest.

use serde::{Deserialize, Serialize};

/// The newest version that this program reads.
const VERSION: u32 = 1;

/// What only key holders read of a point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Section {
    version: u32,
    /// The frozen VM's configuration as vSphere wrote it.
    pub config_xml: String,
    /// Facts, in the order in which they were found.
    #[serde(default)]
    pub evidence: Vec<Fact>,
    /// Disks that are not in the point, and why.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Disks that were left out because somebody asked, by key.
    #[serde(default)]
    pub excluded: Vec<i32>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub value: String,
}

impl Section {
    /// Reads the plaintext.
    ///
    /// # Errors
    /// In words, when it is no section, or one of a newer version.
    pub fn decode(plain: &[u8]) -> Result<Self, String> {
        let section: Self = serde_json::from_slice(plain).map_err(|error| error.to_string())?;
        if section.version > VERSION {
            return Err(format!(
                "it has version {}, this program reads {VERSION}",
                section.version
            ));
        }
        Ok(section)
    }
}
