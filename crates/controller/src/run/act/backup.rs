//! Making a point of what was moved.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stillwater_format::manifest::{self, Manifest};
use stillwater_format::{Time, node};
use stillwater_repository_api::{CommitPointRequest, Point, ProposePointRequest};
use stillwater_types::{Fault, PointId, Reason};
use stillwater_vsphere::FrozenDisk;

use super::{Act, Came, missing};
use crate::point::{DiskNote, How, OpenedPoint, Quiescence, Section};
use crate::run::cause::Cause;
use crate::run::event::{BackupWork, CommittedPoint, RunEvent, Work};
use crate::run::ladder;
use crate::run::reading::Base;
use crate::run::scratch::Notes;
use crate::run::state::{Disk, Moved, Run};

impl Act {
    pub(super) async fn propose(&self) -> Came {
        let Work::Backup(work) = &self.run.work else {
            return Err(missing("backup"));
        };
        let target = self.target()?;
        let fence = self.fence()?;
        let instance = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.instance(work.vm.vcenter).await
            })
            .await?;
        let point = PointId::mint();
        let manifest = self.manifest(work, point, instance)?;
        let bytes = manifest.encode().map_err(unfit)?;
        let request = ProposePointRequest {
            run_id: self.run.id,
            fence,
            manifest: bytes.into(),
        };
        let proposed = self
            .repeat(&self.world.timing.commit, || async {
                self.world
                    .repositories
                    .propose_point(target.repository, request.clone())
                    .await
            })
            .await;
        match proposed {
            Ok(_) => Ok(vec![RunEvent::Proposed { point }]),
            Err(fault) => self.blame_base(fault).map(|event| vec![event]),
        }
    }

    /// A chunk or node that is missing although every transfer succeeded is one that was shared
    /// unread: the base is damaged. What is frozen still holds the content, so everything is read.
    fn blame_base(&self, fault: Fault) -> Result<RunEvent, Fault> {
        let mut notes = self.scratch.notes();
        let base = notes.base.as_ref().map(|base| base.manifest.point);
        let (Reason::ChunkNotFound | Reason::ChunkHashMismatch, Some(base)) = (fault.reason, base)
        else {
            return Err(fault);
        };
        self.world.bases.note_damaged(base);
        let mut readings = BTreeMap::new();
        for (key, reading) in &mut notes.readings {
            if reading.distrust_base() {
                readings.insert(*key, reading.told());
            }
        }
        if readings.is_empty() {
            return Err(fault);
        }
        let message = format!(
            "the data of point {base}, which this one was built upon, is damaged: everything was read instead; run `stillwater point verify {base}`"
        );
        Ok(RunEvent::BaseRefused {
            readings,
            cause: Cause(Fault { message, ..fault }),
        })
    }

    fn manifest(
        &self,
        work: &BackupWork,
        point: PointId,
        vcenter_instance: String,
    ) -> Result<Manifest, Fault> {
        let target = self.target()?;
        let notes = self.scratch.notes();
        let vm = notes.vm.as_ref().ok_or_else(|| missing("plan"))?;
        let frozen = notes
            .frozen
            .as_ref()
            .ok_or_else(|| missing("frozen configuration"))?;
        let taken_at = notes.taken_at.ok_or_else(|| missing("time"))?;
        let quiescence = notes.quiescence.clone().ok_or_else(|| missing("freeze"))?;
        let guest = notes.guest.clone().unwrap_or_default();
        let quiescence = Quiescence {
            hooks: guest.hooks,
            release: guest.release,
            ..quiescence
        };
        let mut section = Section {
            config_xml: frozen.config_xml.clone(),
            evidence: notes.evidence.clone(),
            disks: disk_notes(&self.run, &notes, taken_at),
            missing: self
                .run
                .missing
                .iter()
                .map(|cause| cause.0.message.clone())
                .collect(),
            excluded: work.exclude.clone(),
            foreign_snapshots: notes.foreign_snapshots.clone(),
            quiescence: Some(quiescence.clone()),
            surroundings: notes.surroundings.clone(),
            policy: work.policy.clone(),
        };
        section.fit()?;
        let disks = self
            .run
            .disks
            .values()
            .map(|disk| manifest_disk(disk, &frozen.disks, notes.base.as_ref()));
        let state = self.world.memory.state();
        let key = state
            .datasets
            .find(target.dataset)?
            .open_key(&self.world.secrets)?;
        Ok(Manifest {
            point,
            dataset: target.dataset,
            run: self.run.id,
            vm: work.vm.clone(),
            vm_name: vm.name.clone(),
            vcenter_instance,
            taken_at: Time::from_millis(
                u64::try_from(taken_at.as_millisecond()).unwrap_or_default(),
            ),
            consistency: ladder::consistency(vm.power, quiescence.achieved),
            whole: self.run.missing.is_empty(),
            disks: disks.collect::<Result<_, _>>()?,
            sealed: section.seal(&key, target.dataset, point)?,
        })
    }

    /// Commits. When the outcome stays unknown, the repository is asked whether the point is there:
    /// it alone knows.
    pub(super) async fn commit(&self) -> Came {
        let target = self.target()?;
        let point_id = self.run.proposed.ok_or_else(|| missing("proposal"))?;
        let request = CommitPointRequest {
            run_id: self.run.id,
            fence: self.fence()?,
            point_id,
        };
        let commit = &self.world.timing.commit;
        let committed = self
            .repeat(commit, || async {
                self.world
                    .repositories
                    .commit_point(target.repository, request)
                    .await
            })
            .await;
        let point = match committed {
            Ok(point) => point,
            Err(fault) => {
                let asked = self
                    .repeat(commit, || async {
                        self.world
                            .repositories
                            .get_point(target.repository, point_id)
                            .await
                    })
                    .await;
                asked.map_err(|_| fault)?.point
            }
        };
        if let Work::Backup(work) = &self.run.work {
            let bases = &self.world.bases;
            bases.committed(&work.vm, target.repository, point.point_id);
        }
        self.world.points.look_again();
        Ok(vec![RunEvent::Committed(committed_point(&point))])
    }
}

fn committed_point(point: &Point) -> CommittedPoint {
    CommittedPoint {
        point: point.point_id,
        sequence: point.sequence,
        committed_at: point.committed_at,
    }
}

fn disk_notes(run: &Run, notes: &Notes, taken_at: Timestamp) -> Vec<DiskNote> {
    let disks = run.disks.values();
    disks
        .filter_map(|disk| {
            let moved = disk.moved.as_ref()?;
            let key = disk.planned.key;
            Some(DiskNote {
                key,
                new_chunk_count: moved.counts.new_chunk_count,
                attempts: disk.attempts,
                proxy: moved.proxy,
                reading: notes
                    .readings
                    .get(&key)
                    .map(|reading| reading.note(&moved.findings, taken_at)),
            })
        })
        .collect()
}

/// Chunks and holes of the whole disk: what was shared unread was counted when the base was made.
fn whole_counts(disk: &Disk, moved: &Moved, base: Option<&manifest::Disk>) -> (u64, u64) {
    let Moved {
        counts, findings, ..
    } = moved;
    let is_shared = disk.reading.is_some_and(|reading| reading.how != How::Full);
    let Some(base) = base.filter(|_| is_shared) else {
        return (counts.chunk_count, counts.hole_bytes);
    };
    let kept = |base: u64, replaced: u64| base.saturating_sub(replaced);
    let chunks = kept(base.effort.chunk_count, findings.replaced_chunk_count);
    let holes = kept(base.effort.zero_bytes, findings.replaced_hole_bytes);
    (
        chunks.saturating_add(counts.chunk_count),
        holes.saturating_add(counts.hole_bytes),
    )
}

fn manifest_disk(
    disk: &Disk,
    frozen: &[FrozenDisk],
    base: Option<&OpenedPoint>,
) -> Result<manifest::Disk, Fault> {
    let key = disk.planned.key;
    let moved = disk.moved.as_ref().ok_or_else(|| missing("root"))?;
    let Moved { root, counts, .. } = moved;
    let frozen = frozen
        .iter()
        .find(|frozen| frozen.key == key)
        .ok_or_else(|| missing("frozen disk"))?;
    let base = base.and_then(|point| Base::find(point, frozen));
    let (chunk_count, zero_bytes) = whole_counts(disk, moved, base.map(|base| base.disk));
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(manifest::Disk {
        key,
        label: disk.planned.label.clone(),
        backing: frozen.backing_uuid.as_deref().and_then(text),
        change_id: frozen.change_id.as_ref().and_then(|id| text(id.as_str())),
        root: node::DiskRoot {
            length: root.length_bytes,
            cutter: root.cutter.clone(),
            top: root.top,
            level: u8::try_from(root.level).map_err(|_| {
                Fault::new(
                    Reason::ProposalRefused,
                    "a proxy told a root of an impossible level",
                )
            })?,
        },
        effort: manifest::Effort {
            read_bytes: counts.read_bytes,
            zero_bytes,
            new_bytes: counts.new_bytes,
            stored_bytes: counts.sent_bytes,
            chunk_count,
        },
    })
}

fn unfit(error: stillwater_format::Error) -> Fault {
    Fault::new(
        Reason::ProposalRefused,
        format!("write the manifest: {error}"),
    )
}
