//! The sealed section of a manifest: the VM's configuration, and why the point is called what it is.
//!
//! JSON with a version, sealed with the dataset's key for this point. Whatever is needed to restore
//! without a controller stands here or in the manifest.

use serde::{Deserialize, Serialize};
use stillwater_format::manifest::Manifest;
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, Fault, NodeId, PointId, Reason};

const VERSION: u32 = 1;

/// What only key holders read of a point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The frozen VM's configuration as vSphere wrote it, with type names.
    pub config_xml: String,
    /// Facts, in the order in which they were found.
    pub evidence: Vec<EvidenceNote>,
    /// What the manifest has no room for, by disk.
    pub disks: Vec<DiskNote>,
    /// Disks that are not in the point, and why.
    pub missing: Vec<String>,
    /// Disks that were left out because somebody asked, by key.
    pub excluded: Vec<i32>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceNote {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub value: String,
}

/// How a disk was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNote {
    /// The disk.
    pub key: i32,
    /// Chunks that no earlier point held.
    pub new_chunk_count: u64,
    /// How often it was given to a proxy.
    pub attempts: u32,
    /// The proxy that moved it.
    pub proxy: NodeId,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(flatten)]
    section: &'a Section,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Section {
    /// Seals the section for one point.
    ///
    /// # Errors
    /// `BUG` when it cannot be written or the system gives no random bytes.
    pub fn seal(
        &self,
        key: &DatasetKey,
        dataset: DatasetId,
        point: PointId,
    ) -> Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(&Written {
            version: VERSION,
            section: self,
        })
        .map_err(|error| Fault::new(Reason::Bug, format!("write a section: {error}")))?;
        Ok(key.seal_manifest(dataset, point.as_bytes(), &json)?)
    }

    /// Opens the section of a manifest.
    ///
    /// # Errors
    /// `SECRET_UNREADABLE`, `FORMAT_TOO_NEW`, `MANIFEST_UNREADABLE`.
    pub fn open(key: &DatasetKey, manifest: &Manifest) -> Result<Self, Fault> {
        let Manifest {
            dataset,
            point,
            sealed,
            ..
        } = manifest;
        let json = key.open_manifest(*dataset, point.as_bytes(), sealed)?;
        let unreadable = |error: serde_json::Error| {
            Fault::new(
                Reason::ManifestUnreadable,
                format!("read a sealed section: {error}"),
            )
            .with("point", point)
        };
        let Version { version } = serde_json::from_slice(&json).map_err(unreadable)?;
        if version > VERSION {
            return Err(Fault::new(
                Reason::FormatTooNew,
                "the point's section was written by a newer release; upgrade the controller",
            ));
        }
        serde_json::from_slice(&json).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docs/format.md says of the plaintext.
    const DOCUMENTED: &str = r#"{"version":1,"config_xml":"<config/>","evidence":[{"name":"quiesced","value":"false"}],"disks":[{"key":2000,"new_chunk_count":3,"attempts":1,"proxy":"04040404-0404-0404-0404-040404040404"}],"missing":["disk 2001"],"excluded":[2002]}"#;

    fn section() -> Section {
        Section {
            config_xml: "<config/>".into(),
            evidence: vec![EvidenceNote {
                name: "quiesced".into(),
                value: "false".into(),
            }],
            disks: vec![DiskNote {
                key: 2000,
                new_chunk_count: 3,
                attempts: 1,
                proxy: NodeId::from_bytes([4; 16]),
            }],
            missing: vec!["disk 2001".into()],
            excluded: vec![2002],
        }
    }

    #[test]
    fn the_section_is_written_as_the_format_says() {
        let (dataset, point) = (DatasetId::mint(), PointId::mint());
        let key = DatasetKey::generate().unwrap();
        let sealed = section().seal(&key, dataset, point).unwrap();
        let json = key
            .open_manifest(dataset, point.as_bytes(), &sealed)
            .unwrap();
        assert_eq!(std::str::from_utf8(&json).unwrap(), DOCUMENTED);
        assert!(
            key.open_manifest(dataset, PointId::mint().as_bytes(), &sealed)
                .is_err()
        );
    }

    #[test]
    fn fields_of_a_later_release_are_ignored() {
        let later = DOCUMENTED.replace("\"missing\"", "\"later\":[1],\"missing\"");
        assert_eq!(serde_json::from_str::<Section>(&later).unwrap(), section());
    }
}
