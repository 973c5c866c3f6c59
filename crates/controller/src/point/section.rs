//! The sealed section of a manifest: the VM's configuration, and why the point is called what it is.
//!
//! JSON with a version, sealed with the dataset's key for this point. Whatever is needed to restore
//! without a controller stands here or in the manifest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_format::manifest::{Manifest, SEALED_BYTES_MAX};
use stillwater_seal::DatasetKey;
use stillwater_types::{DatasetId, Fault, NodeId, PointId, Reason};

use super::quiescence::Quiescence;
use super::surroundings::Surroundings;
use crate::run::Why;

const VERSION: u32 = 1;
/// What a manifest has room for, less what sealing adds.
const PLAIN_BYTES_MAX: usize = SEALED_BYTES_MAX - 1024;

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
    /// Snapshots of others that the VM had, as vSphere names them.
    #[serde(default)]
    pub foreign_snapshots: Vec<String>,
    /// How the VM was frozen; none in points of releases that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiescence: Option<Quiescence>,
    /// What the VM lay in and hung on; none in points of releases that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surroundings: Option<Surroundings>,
    /// The policy that wanted the point; none when a person asked for it, and in points of releases that did
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNote {
    /// The disk.
    pub key: i32,
    /// Chunks that no earlier point held.
    pub new_chunk_count: u64,
    /// How often it was given to a proxy.
    pub attempts: u32,
    /// The proxy that moved it.
    pub proxy: NodeId,
    /// How it was read; none in points of releases that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<ReadingNote>,
}

/// How a disk was read, and how far its change map can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingNote {
    /// In which way.
    pub how: How,
    /// Why all of it was read; none for an increment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What vSphere said, where that is the reason; what was odd about a map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The point that it was built upon or held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PointId>,
    /// Bytes that the change map named, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_bytes: Option<u64>,
    /// Bytes that the map calls unchanged and that were compared all the same.
    pub compared_bytes: u64,
    /// Bytes of these that had changed.
    pub lie_bytes: u64,
    /// When every byte of the disk was read last.
    pub checked_at: Timestamp,
    /// Points since then, this one included.
    pub increments: u32,
    /// How often the map of this disk was found to be wrong, and when last.
    pub lies: u32,
    /// When last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_lie_at: Option<Timestamp>,
    /// The file that was frozen.
    pub file: String,
}

/// In which way a disk was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Without an earlier point.
    Full,
    /// What changed since the base, and a sample of the rest.
    Increment,
    /// Everything, held against the base.
    Compare,
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

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            How::Full => "full",
            How::Increment => "increment",
            How::Compare => "compare",
        })
    }
}

impl Section {
    /// Leaves out what the section has no room for, the least needed first, and says so: a point must
    /// not fail for what is kept beside its disks.
    ///
    /// # Errors
    /// `BUG` when it cannot be written.
    pub fn fit(&mut self) -> Result<(), Fault> {
        if self.json()?.len() <= PLAIN_BYTES_MAX {
            return Ok(());
        }
        let around = self.surroundings.as_mut();
        if let Some(around) = around.filter(|around| around.nvram.is_some()) {
            around.nvram = None;
            let remark = "the nvram is not kept: the point has no room for it";
            around.remarks.push(remark.to_owned());
        }
        if self.json()?.len() <= PLAIN_BYTES_MAX {
            return Ok(());
        }
        let froze = self.quiescence.as_mut();
        if let Some(froze) = froze.filter(|froze| froze.archive.is_some()) {
            froze.archive = None;
            let remark = "the guest's own report is not kept: the point has no room for it";
            froze.remarks.push(remark.to_owned());
        }
        Ok(())
    }

    fn json(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec(&Written {
            version: VERSION,
            section: self,
        })
        .map_err(|error| Fault::new(Reason::Bug, format!("write a section: {error}")))
    }

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
        let json = self.json()?;
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
    use stillwater_vsphere::VssWriter;

    use super::super::quiescence::QuiesceTry;
    use super::super::surroundings::{Attribute, Network, Nvram, Policy, Tag};
    use super::*;
    use crate::guest::{HookEnd, HookRun, Phase, Release};
    use crate::run::Level;

    /// What docs/format.md says of the plaintext.
    const DOCUMENTED: &str = r#"{"version":1,"config_xml":"<config/>","evidence":[{"name":"quiesced","value":"false"}],"disks":[{"key":2000,"new_chunk_count":3,"attempts":1,"proxy":"04040404-0404-0404-0404-040404040404","reading":{"how":"compare","why":"tracking-reset","remarks":["odd"],"base":"05050505-0505-0505-0505-050505050505","changed_bytes":4096,"compared_bytes":8192,"lie_bytes":512,"checked_at":"2026-11-22T10:00:00Z","increments":2,"lies":1,"last_lie_at":"2026-11-22T11:00:00Z","file":"[ds] web/web.vmdk"}}],"missing":["disk 2001"],"excluded":[2002],"foreign_snapshots":["snapshot-7"],"quiescence":{"asked":["application","crash"],"achieved":"file-system","tries":[{"level":"application","problem":"no"}],"tools":"Running, Current","quiesced":true,"archive":"UEs=","writers":[{"name":"SqlServerWriter","failure":"VSS_WS_FAILED_AT_FREEZE","component_count":3}],"stun_micros":1500,"freeze_millis":2000,"remarks":["odd"],"hooks":[{"name":"hold","phase":"before","end":{"code":0},"started_at":"2026-11-22T10:00:00Z","ended_at":"2026-11-22T10:00:01Z","output":"held","truncated":false}],"release":{"by_watchdog":true,"at":"2026-11-22T10:05:00Z"}},"surroundings":{"vcenter":"VMware vCenter Server 8.0.2","folder":"/DC0/vm/shop","resource_pool":"/DC0/host/C0/Resources","host":"esx-1","cluster":"C0","datastores":["ds"],"networks":[{"name":"web","kind":"DistributedVirtualPortgroup","reference":"dvportgroup-7","portgroup_key":"dvportgroup-7","switch_uuid":"50 1f"}],"tags":[{"category":"tier","name":"gold"}],"attributes":[{"name":"owner","value":"sales"}],"home_policy":"aa6d5a82","disk_policies":[{"key":2000,"policy":"aa6d5a83"}],"nvram":{"file":"[ds] web/web.nvram","bytes":3,"zstd":"KLUv/SADGQAAAQID"},"remarks":["no answer"]},"policy":"shop"}"#;

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
                reading: Some(ReadingNote {
                    how: How::Compare,
                    why: Some(Why::TrackingReset),
                    remarks: vec!["odd".into()],
                    base: Some(PointId::from_bytes([5; 16])),
                    changed_bytes: Some(4096),
                    compared_bytes: 8192,
                    lie_bytes: 512,
                    checked_at: "2026-11-22T10:00:00Z".parse().unwrap(),
                    increments: 2,
                    lies: 1,
                    last_lie_at: Some("2026-11-22T11:00:00Z".parse().unwrap()),
                    file: "[ds] web/web.vmdk".into(),
                }),
            }],
            missing: vec!["disk 2001".into()],
            excluded: vec![2002],
            foreign_snapshots: vec!["snapshot-7".into()],
            quiescence: Some(Quiescence {
                asked: vec![Level::Application, Level::Crash],
                achieved: Level::FileSystem,
                tries: vec![QuiesceTry {
                    level: Level::Application,
                    problem: "no".into(),
                }],
                tools: "Running, Current".into(),
                quiesced: true,
                archive: Some("UEs=".into()),
                writers: vec![VssWriter {
                    name: "SqlServerWriter".into(),
                    failure: Some("VSS_WS_FAILED_AT_FREEZE".into()),
                    component_count: 3,
                }],
                stun_micros: Some(1500),
                freeze_millis: Some(2000),
                remarks: vec!["odd".into()],
                hooks: vec![HookRun {
                    name: "hold".into(),
                    phase: Phase::Before,
                    end: HookEnd::Code(0),
                    started_at: "2026-11-22T10:00:00Z".parse().unwrap(),
                    ended_at: "2026-11-22T10:00:01Z".parse().unwrap(),
                    output: "held".into(),
                    truncated: false,
                }],
                release: Some(Release {
                    by_watchdog: true,
                    at: "2026-11-22T10:05:00Z".parse().unwrap(),
                }),
            }),
            surroundings: Some(surroundings()),
            policy: Some("shop".into()),
        }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            vcenter: "VMware vCenter Server 8.0.2".into(),
            folder: Some("/DC0/vm/shop".into()),
            resource_pool: Some("/DC0/host/C0/Resources".into()),
            host: Some("esx-1".into()),
            cluster: Some("C0".into()),
            datastores: vec!["ds".into()],
            networks: vec![Network {
                name: "web".into(),
                kind: "DistributedVirtualPortgroup".into(),
                reference: "dvportgroup-7".into(),
                portgroup_key: Some("dvportgroup-7".into()),
                switch_uuid: Some("50 1f".into()),
            }],
            tags: vec![Tag {
                category: "tier".into(),
                name: "gold".into(),
            }],
            attributes: vec![Attribute {
                name: "owner".into(),
                value: "sales".into(),
            }],
            home_policy: Some("aa6d5a82".into()),
            disk_policies: vec![Policy {
                key: 2000,
                policy: "aa6d5a83".into(),
            }],
            nvram: Nvram::pack("[ds] web/web.nvram", &[1, 2, 3]).ok(),
            remarks: vec!["no answer".into()],
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

    #[track_caller]
    fn check_fit(config_bytes: usize, nvram: bool, archive: bool) {
        let mut section = section();
        let quiescence = section.quiescence.as_mut().unwrap();
        quiescence.archive = Some("U".repeat(700 << 10));
        section.surroundings.as_mut().unwrap().nvram = Some(Nvram {
            zstd: "K".repeat(300 << 10),
            ..surroundings().nvram.unwrap()
        });
        section.config_xml = "x".repeat(config_bytes);
        section.fit().unwrap();
        let Surroundings {
            nvram: kept,
            remarks,
            ..
        } = section.surroundings.clone().unwrap();
        let quiescence = section.quiescence.clone().unwrap();
        assert_eq!(
            (kept.is_some(), quiescence.archive.is_some()),
            (nvram, archive)
        );
        let told = remarks.iter().chain(&quiescence.remarks);
        let told = told.filter(|remark| remark.contains("no room")).count();
        assert_eq!(told, usize::from(!nvram) + usize::from(!archive));
        let key = DatasetKey::generate().unwrap();
        let sealed = section.seal(&key, DatasetId::mint(), PointId::mint());
        assert!(sealed.unwrap().len() <= SEALED_BYTES_MAX);
    }

    #[test]
    fn what_a_section_has_no_room_for_is_left_out_and_told() {
        check_fit(100 << 10, true, true);
        check_fit(600 << 10, false, true);
        check_fit(1200 << 10, false, false);
    }

    #[test]
    fn a_section_of_the_first_release_is_read() {
        let first = r#"{"version":1,"config_xml":"","evidence":[],"disks":[{"key":2000,"new_chunk_count":3,"attempts":1,"proxy":"04040404-0404-0404-0404-040404040404"}],"missing":[],"excluded":[]}"#;
        let section: Section = serde_json::from_str(first).unwrap();
        assert_eq!(section.disks[0].reading, None);
        assert!(section.foreign_snapshots.is_empty() && section.surroundings.is_none());
    }

    #[test]
    fn fields_of_a_later_release_are_ignored() {
        let later = DOCUMENTED.replace("\"missing\"", "\"later\":[1],\"missing\"");
        assert_eq!(serde_json::from_str::<Section>(&later).unwrap(), section());
    }
}
