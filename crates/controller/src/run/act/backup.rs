//! Freezing a VM, and making a point of what was moved.

use stillwater_format::manifest::{self, Manifest};
use stillwater_format::{Time, node};
use stillwater_repository_api::{CommitPointRequest, Point, ProposePointRequest};
use stillwater_types::{ExtentSet, Fault, PointId, Reason, VmId};
use stillwater_vsphere::{FrozenDisk, Power, Vm};

use super::{Act, Came, missing};
use crate::point::{DiskNote, Section};
use crate::run::cause::Cause;
use crate::run::event::{BackupWork, CommittedPoint, RunEvent, Work};
use crate::run::state::{Disk, Moved};

impl Act {
    pub(super) async fn create_snapshot(&self) -> Came {
        let vm_id = self.vm()?;
        let held = self.run.snapshot.as_ref().ok_or_else(|| missing("lease"))?;
        let warnings = self.track_changes(vm_id).await;
        // Not repeated here: a snapshot whose answer was lost is looked for by its lease when the
        // run cleans up, and the adapter does so before it asks again.
        let made = self
            .world
            .vsphere
            .create_snapshot(vm_id, &held.lease)
            .await?;
        let mut notes = self.scratch.notes();
        notes.taken_at = Some(self.world.clock.now());
        notes.note("snapshot", &made.snapshot);
        notes.note("quiesce asked", "none");
        notes.note("quiesced", made.is_quiesced.to_string());
        Ok(vec![RunEvent::SnapshotCreated {
            snapshot: made.snapshot,
            warnings,
        }])
    }

    /// Turns change tracking on if that is safe: with snapshots there, vSphere would track from a
    /// wrong base and say nothing. The backup's own snapshot makes it take effect.
    async fn track_changes(&self, vm_id: &VmId) -> Vec<Cause> {
        let wanted = |vm: &Vm| vm.cbt_supported && !vm.cbt_enabled && vm.snapshots.is_empty();
        if !self.scratch.notes().vm.as_ref().is_some_and(wanted) {
            return Vec::new();
        }
        match self.world.vsphere.enable_tracking(vm_id).await {
            Ok(()) => {
                self.scratch
                    .notes()
                    .note("change tracking", "turned on by this run");
                Vec::new()
            }
            Err(fault) => {
                tracing::warn!(run.id = %self.run.id, vm.id = %vm_id, %fault, "change tracking is off");
                vec![Cause(Fault {
                    message: format!("change tracking could not be turned on: {}", fault.message),
                    ..fault
                })]
            }
        }
    }

    pub(super) async fn map(&self) -> Came {
        let vm = self.vm()?;
        let held = self
            .run
            .snapshot
            .as_ref()
            .and_then(|held| held.snapshot.as_ref());
        let snapshot = held.ok_or_else(|| missing("snapshot"))?;
        let frozen = self
            .repeat(&self.world.timing.call, || async {
                self.world.vsphere.snapshot_config(vm, snapshot).await
            })
            .await?;
        for key in self.run.disks.keys() {
            let disk = frozen
                .disks
                .iter()
                .find(|disk| disk.key == *key)
                .ok_or_else(|| {
                    Fault::new(
                        Reason::DiskNotFound,
                        "a planned disk is not in the snapshot; start the run again",
                    )
                    .with("vm", vm)
                    .with("disk", key)
                })?;
            ensure_frozen(disk)?;
            self.map_disk(vm, snapshot, disk).await;
        }
        let missing = self.unplanned(&frozen.disks);
        self.scratch.notes().frozen = Some(frozen);
        Ok(vec![RunEvent::Mapped {
            missing,
            warnings: Vec::new(),
        }])
    }

    /// Frozen disks that the plan does not know: somebody added them meanwhile.
    fn unplanned(&self, frozen: &[FrozenDisk]) -> Vec<Cause> {
        let exclude: &[i32] = match &self.run.work {
            Work::Backup(work) => &work.exclude,
            Work::RestoreVm(_) | Work::ExportDisk(_) => &[],
        };
        let told = |key: i32| {
            let named = |cause: &Cause| cause.0.details.get("disk") == Some(&key.to_string());
            exclude.contains(&key) || self.run.missing.iter().any(named)
        };
        let added = frozen
            .iter()
            .filter(|disk| !self.run.disks.contains_key(&disk.key) && !told(disk.key));
        added
            .map(|disk| {
                let message = format!(
                    "disk {} ({:?}) is not in the point: it was added after the run was planned; start another run",
                    disk.key, disk.label
                );
                Cause(Fault::new(Reason::DiskUnprotectable, message).with("disk", disk.key))
            })
            .collect()
    }

    /// Asks for the areas that were ever written. Only a hint: without it, or when it may be wrong,
    /// the whole disk is read, and the point's evidence says why.
    async fn map_disk(&self, vm: &VmId, snapshot: &str, disk: &FrozenDisk) {
        let (areas, how) = self.areas(vm, snapshot, disk).await;
        let mut notes = self.scratch.notes();
        notes.note(format!("disk {} read", disk.key), how);
        if let Some(areas) = areas {
            notes.areas.insert(disk.key, areas);
        }
    }

    async fn areas(
        &self,
        vm: &VmId,
        snapshot: &str,
        disk: &FrozenDisk,
    ) -> (Option<ExtentSet>, String) {
        if disk.change_id.is_none() {
            return (None, "whole: its changes are not tracked".to_owned());
        }
        // With foreign snapshots below, the map may lack what lies in them.
        if self
            .scratch
            .notes()
            .vm
            .as_ref()
            .is_some_and(|vm| !vm.snapshots.is_empty())
        {
            return (
                None,
                "whole: the vm has snapshots of others, the map may be wrong".to_owned(),
            );
        }
        let call = &self.world.timing.call;
        let areas = self
            .repeat(call, || async {
                self.world
                    .vsphere
                    .allocated_areas(vm, snapshot, disk.key, disk.capacity_bytes)
                    .await
            })
            .await;
        match areas {
            Ok(areas) => {
                let how = format!(
                    "allocated areas: {} of {} bytes",
                    areas.bytes(),
                    disk.capacity_bytes
                );
                (Some(areas), how)
            }
            Err(fault) => (None, format!("whole: no map was to be had ({fault})")),
        }
    }

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
        self.repeat(&self.world.timing.commit, || async {
            self.world
                .repositories
                .propose_point(target.repository, request.clone())
                .await
        })
        .await?;
        Ok(vec![RunEvent::Proposed { point }])
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
        let section = Section {
            config_xml: frozen.config_xml.clone(),
            evidence: notes.evidence.clone(),
            disks: self.run.disks.values().filter_map(disk_note).collect(),
            missing: self
                .run
                .missing
                .iter()
                .map(|cause| cause.0.message.clone())
                .collect(),
            excluded: work.exclude.clone(),
        };
        let disks = self
            .run
            .disks
            .values()
            .map(|disk| manifest_disk(disk, &frozen.disks));
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
            consistency: match vm.power {
                Power::Off => manifest::Consistency::Offline,
                Power::On | Power::Suspended => manifest::Consistency::Crash,
            },
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
        self.world.points.look_again();
        Ok(vec![RunEvent::Committed(committed_point(&point))])
    }
}

/// A disk that was protectable when the run was planned may have become one that no snapshot
/// freezes: its file goes on changing while it is read.
fn ensure_frozen(disk: &FrozenDisk) -> Result<(), Fault> {
    match disk.protectability.obstacle() {
        None => Ok(()),
        Some(obstacle) => Err(Fault::new(
            Reason::DiskUnprotectable,
            format!("a disk changed after the run was planned: {obstacle}; start the run again"),
        )
        .with("disk", disk.key)),
    }
}

fn committed_point(point: &Point) -> CommittedPoint {
    CommittedPoint {
        point: point.point_id,
        sequence: point.sequence,
        committed_at: point.committed_at,
    }
}

fn disk_note(disk: &Disk) -> Option<DiskNote> {
    let Moved { counts, proxy, .. } = disk.moved.as_ref()?;
    Some(DiskNote {
        key: disk.planned.key,
        new_chunk_count: counts.new_chunk_count,
        attempts: disk.attempts,
        proxy: *proxy,
    })
}

fn manifest_disk(disk: &Disk, frozen: &[FrozenDisk]) -> Result<manifest::Disk, Fault> {
    let key = disk.planned.key;
    let Moved { root, counts, .. } = disk.moved.as_ref().ok_or_else(|| missing("root"))?;
    let frozen = frozen
        .iter()
        .find(|frozen| frozen.key == key)
        .ok_or_else(|| missing("frozen disk"))?;
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
            zero_bytes: counts.hole_bytes,
            new_bytes: counts.new_bytes,
            stored_bytes: counts.sent_bytes,
            chunk_count: counts.chunk_count,
        },
    })
}

fn unfit(error: stillwater_format::Error) -> Fault {
    Fault::new(
        Reason::ProposalRefused,
        format!("write the manifest: {error}"),
    )
}
