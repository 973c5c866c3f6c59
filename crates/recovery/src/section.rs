//! The sealed section of a manifest.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The newest version that this program reads.
const VERSION: u32 = 1;
/// Largest NVRAM that a point has.
const NVRAM_BYTES_MAX: usize = 1 << 20;

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
    /// What the VM lay in and hung on, as it is; none in points of releases that kept none.
    #[serde(default)]
    pub surroundings: Option<Value>,
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

    /// The VM's NVRAM; none when the point has none.
    ///
    /// # Errors
    /// In words, when it is damaged.
    pub fn nvram(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(nvram) = self.surroundings.as_ref().and_then(|all| all.get("nvram")) else {
            return Ok(None);
        };
        let text = |field: &str| {
            let value = nvram.get(field).and_then(Value::as_str);
            value.ok_or_else(|| format!("the nvram has no {field}"))
        };
        let packed = BASE64.decode(text("zstd")?.as_bytes());
        let packed = packed.map_err(|error| format!("the nvram is no base64: {error}"))?;
        let bytes = zstd::bulk::decompress(&packed, NVRAM_BYTES_MAX)
            .map_err(|error| format!("the nvram cannot be unpacked: {error}"))?;
        match nvram.get("bytes").and_then(Value::as_u64) == Some(bytes.len() as u64) {
            true => Ok(Some(bytes)),
            false => Err(format!("the nvram has {} bytes", bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(surroundings: &str, expected: Option<Option<&[u8]>>) {
        let plain = format!(r#"{{"version":1,"config_xml":""{surroundings}}}"#);
        let section = Section::decode(plain.as_bytes()).expect("a section");
        let found = section.nvram().ok();
        assert_eq!(
            found.as_ref().map(Option::as_deref),
            expected,
            "{surroundings}"
        );
    }

    #[test]
    fn an_nvram_is_read_as_the_format_says() {
        check("", Some(None));
        check(r#","surroundings":{}"#, Some(None));
        let nvram = |bytes: u64, zstd: &str| {
            format!(
                r#","surroundings":{{"nvram":{{"file":"[ds] a","bytes":{bytes},"zstd":"{zstd}"}}}}"#
            )
        };
        check(&nvram(3, "KLUv/SADGQAAAQID"), Some(Some(&[1, 2, 3])));
        check(&nvram(4, "KLUv/SADGQAAAQID"), None);
        check(&nvram(3, "KLUv/SADGQAAAQI="), None);
        check(&nvram(3, "?"), None);
        check(r#","surroundings":{"nvram":{}}"#, None);
    }
}
