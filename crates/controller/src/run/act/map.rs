//! Finding out what of each frozen disk to read, and what to hold it against.

use jiff::Timestamp;
use stillwater_proxy_api as proxy_api;
use stillwater_types::{Extent, ExtentSet, Fault, NodeId, Reason, VmId};
use stillwater_vsphere::{ChangeId, FrozenDisk};

use super::{Act, Came, missing};
use crate::point::{How, OpenedPoint, ReadingNote};
use crate::run::cause::Cause;
use crate::run::event::{DiskReading, Findings, RunEvent, Work};
use crate::run::outside::Changes;
use crate::run::reading::{self, Base, Plan, Present, Why};

/// Areas that go to a proxy at most: more are joined where the gaps are smallest, for a few unchanged
/// bytes cost less than a message that does not fit.
const AREAS_MAX: usize = 100_000;

/// How one disk of the run is read, with what the point will tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// What the proxy is told.
    pub reading: proxy_api::Reading,
    why: Option<Why>,
    remarks: Vec<String>,
    changed_bytes: Option<u64>,
    base: Option<BaseNote>,
    file: String,
}

/// What the next run will want to know of the base.
#[derive(Debug, Clone, PartialEq)]
struct BaseNote {
    point: stillwater_types::PointId,
    note: Option<ReadingNote>,
}

impl Mapped {
    /// Has the disk read to its end after all, because the base is damaged. Whether that was needed.
    pub fn distrust_base(&mut self) -> bool {
        let proxy_api::Reading::Increment { base, .. } = &self.reading else {
            return false;
        };
        self.reading = proxy_api::Reading::Compare {
            base: base.clone(),
            changed: None,
        };
        self.why = Some(Why::BaseDamaged);
        true
    }

    /// Has the disk read without its base, because that cannot be read. Whether there was one.
    pub fn drop_base(&mut self) -> bool {
        if matches!(self.reading, proxy_api::Reading::Full { .. }) {
            return false;
        }
        self.reading = proxy_api::Reading::Full { areas: None };
        self.why = Some(Why::BaseDamaged);
        true
    }

    /// In which way and why, for the journal.
    pub fn told(&self) -> DiskReading {
        let how = match self.reading {
            proxy_api::Reading::Full { .. } => How::Full,
            proxy_api::Reading::Increment { .. } => How::Increment,
            proxy_api::Reading::Compare { .. } => How::Compare,
        };
        DiskReading { how, why: self.why }
    }

    /// What the point tells, once the disk was moved.
    pub fn note(&self, findings: &Findings, taken_at: Timestamp) -> ReadingNote {
        let before = self.base.as_ref().and_then(|base| base.note.as_ref());
        let DiskReading { how, why } = self.told();
        let lied = findings.lie_bytes > 0;
        // What was allocated is read, what never was is zeros: a first reading is a whole one.
        let is_whole = how != How::Increment || findings.compared_all;
        ReadingNote {
            how,
            why,
            remarks: self.remarks.clone(),
            base: self.base.as_ref().map(|base| base.point),
            changed_bytes: self.changed_bytes,
            compared_bytes: findings.compared_bytes,
            lie_bytes: findings.lie_bytes,
            checked_at: match (is_whole, before) {
                (false, Some(before)) => before.checked_at,
                _ => taken_at,
            },
            increments: match (is_whole, before) {
                (false, before) => before.map_or(0, |note| note.increments).saturating_add(1),
                (true, _) => 0,
            },
            lies: before.map_or(0, |note| note.lies) + u32::from(lied),
            last_lie_at: match lied {
                true => Some(taken_at),
                false => before.and_then(|note| note.last_lie_at),
            },
            file: self.file.clone(),
        }
    }
}

impl Act {
    pub(super) async fn map(&self) -> Came {
        if let Work::RestoreInPlace(work) = &self.run.work {
            return self.map_in_place(work).await;
        }
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
            let reading = self.read_how(vm, snapshot, disk).await?;
            self.scratch.notes().readings.insert(*key, reading);
        }
        self.gather_nvram().await;
        let missing = self.unplanned(&frozen.disks);
        let mut notes = self.scratch.notes();
        notes.frozen = Some(frozen);
        let readings = notes.readings.iter();
        let readings = readings.map(|(key, reading)| (*key, reading.told()));
        Ok(vec![RunEvent::Mapped {
            missing,
            readings: readings.collect(),
            warnings: Vec::new(),
        }])
    }

    /// Frozen disks that the plan does not know: somebody added them meanwhile.
    fn unplanned(&self, frozen: &[FrozenDisk]) -> Vec<Cause> {
        let exclude: &[i32] = match &self.run.work {
            Work::Backup(work) => &work.exclude,
            Work::RestoreVm(_)
            | Work::RestoreInPlace(_)
            | Work::ExportDisk(_)
            | Work::VerifyPoint(_) => &[],
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

    /// The VM's newest point on the repository that the run writes to. One that cannot be read costs
    /// a whole reading, not the run.
    pub(super) async fn find_base(&self, vm: &VmId, repository: NodeId) -> Option<OpenedPoint> {
        match self.open_base(vm, repository).await {
            Ok(base) => base,
            Err(fault) => {
                tracing::warn!(run.id = %self.run.id, vm.id = %vm, %fault, "cannot build upon the last point");
                let mut notes = self.scratch.notes();
                notes.note("last point", format!("cannot be built upon ({fault})"));
                None
            }
        }
    }

    /// Whether a point was written over the VM's disks after the base was made.
    pub(super) fn is_overwritten_since(&self, vm: &VmId) -> bool {
        let base = self
            .scratch
            .notes()
            .base
            .as_ref()
            .map(|base| base.manifest.run);
        let state = self.world.memory.state();
        base.is_some_and(|run| state.runs.is_overwritten_since(vm, run))
    }

    async fn open_base(&self, vm: &VmId, repository: NodeId) -> Result<Option<OpenedPoint>, Fault> {
        let (points, of) = (self.world.points.clone(), vm.clone());
        let known = tokio::task::spawn_blocking(move || points.newest(&of, repository)).await;
        let known =
            known.map_err(|_| Fault::new(Reason::Bug, "looking for the newest point panicked"))?;
        // Ids of points grow with time.
        let Some(point) = known.max(self.world.bases.newest(vm, repository)) else {
            return Ok(None);
        };
        let stored = self
            .repeat(&self.world.timing.call, || async {
                self.world.repositories.get_point(repository, point).await
            })
            .await;
        let stored = match stored {
            Err(fault) if fault.reason == Reason::PointNotFound => return Ok(None),
            stored => stored?,
        };
        let state = self.world.memory.state();
        let dataset = state.datasets.find(stored.point.dataset_id)?;
        OpenedPoint::open(&stored, &dataset.open_key(&self.world.secrets)?).map(Some)
    }

    async fn read_how(
        &self,
        vm: &VmId,
        snapshot: &str,
        disk: &FrozenDisk,
    ) -> Result<Mapped, Fault> {
        let Work::Backup(work) = &self.run.work else {
            return Err(missing("backup"));
        };
        let (base, foreign, has_snapshots) = {
            let notes = self.scratch.notes();
            let planned = notes.vm.as_ref().ok_or_else(|| missing("plan"))?;
            let has_snapshots = !planned.snapshots.is_empty();
            (
                notes.base.clone(),
                notes.foreign_snapshots.clone(),
                has_snapshots,
            )
        };
        let base = base.as_ref().and_then(|point| Base::find(point, disk));
        let is_base_damaged = base
            .as_ref()
            .is_some_and(|base| self.world.bases.is_damaged(base.point));
        let present = Present {
            disk,
            foreign_snapshots: &foreign,
            is_base_damaged,
            is_overwritten: self.is_overwritten_since(vm),
            is_compare_asked: work.full,
            now: self.world.clock.now(),
        };
        let mut mapped = Mapped {
            reading: proxy_api::Reading::Full { areas: None },
            why: None,
            remarks: Vec::new(),
            changed_bytes: None,
            base: base.as_ref().map(|base| BaseNote {
                point: base.point,
                note: base.note.and_then(|note| note.reading.clone()),
            }),
            file: disk.file_name.clone(),
        };
        match (
            reading::plan(base.as_ref(), &present, &self.world.trust),
            base,
        ) {
            (Plan::Increment(since), Some(base)) => {
                self.increment(vm, snapshot, disk, &base, &since, &mut mapped)
                    .await;
            }
            (Plan::Compare(why), Some(base)) => {
                mapped.why = Some(why);
                let changed = self
                    .claimed(vm, snapshot, disk, &base, why, &mut mapped)
                    .await;
                mapped.reading = compare(&base, changed);
            }
            (Plan::Full(why), _) | (Plan::Compare(why), None) => {
                mapped.why = Some(why);
                if !has_snapshots && disk.change_id.is_some() {
                    self.allocated(vm, snapshot, disk, &mut mapped).await;
                }
            }
            (Plan::Increment(_), None) => return Err(missing("base")),
        }
        Ok(mapped)
    }

    /// Asks what changed. Whatever goes wrong with the map, the disk is read to its end instead.
    async fn increment(
        &self,
        vm: &VmId,
        snapshot: &str,
        disk: &FrozenDisk,
        base: &Base<'_>,
        since: &ChangeId,
        mapped: &mut Mapped,
    ) {
        match self.changes(vm, snapshot, disk, Some(since)).await {
            Ok(Changes { areas, oddities }) => {
                mapped.changed_bytes = Some(areas.bytes());
                mapped.remarks = oddities;
                let lies = mapped.base.as_ref().and_then(|base| base.note.as_ref());
                let sample_bytes =
                    reading::sample_bytes(areas.bytes(), lies.map_or(0, |note| note.lies));
                mapped.reading = proxy_api::Reading::Increment {
                    base: base_root(base),
                    changed: fitting(areas, disk.capacity_bytes),
                    sample_bytes,
                    sample_seed: seed(self.run.id, disk.key),
                };
            }
            Err(fault) => {
                mapped.why = Some(Why::NoMap);
                mapped.remarks.push(fault.to_string());
                mapped.reading = compare(base, None);
            }
        }
    }

    /// What the map says changed, where nothing but our own distrust has everything read: then a
    /// difference elsewhere is a lie, of this map or of an earlier one.
    async fn claimed(
        &self,
        vm: &VmId,
        snapshot: &str,
        disk: &FrozenDisk,
        base: &Base<'_>,
        why: Why,
        mapped: &mut Mapped,
    ) -> Option<ExtentSet> {
        if !matches!(why, Why::Due | Why::Asked) {
            return None;
        }
        let since = base.since()?;
        if !since.same_tracking(disk.change_id.as_ref()?) {
            return None;
        }
        match self.changes(vm, snapshot, disk, Some(&since)).await {
            Ok(Changes { areas, oddities }) => {
                mapped.changed_bytes = Some(areas.bytes());
                mapped.remarks = oddities;
                Some(fitting(areas, disk.capacity_bytes))
            }
            Err(fault) => {
                mapped.remarks.push(fault.to_string());
                None
            }
        }
    }

    /// Asks for what was ever written, only to leave out zeros: without an answer everything is read.
    async fn allocated(&self, vm: &VmId, snapshot: &str, disk: &FrozenDisk, mapped: &mut Mapped) {
        match self.changes(vm, snapshot, disk, None).await {
            Ok(Changes { areas, oddities }) => {
                mapped.changed_bytes = Some(areas.bytes());
                mapped.remarks = oddities;
                mapped.reading = proxy_api::Reading::Full {
                    areas: Some(fitting(areas, disk.capacity_bytes)),
                };
            }
            Err(fault) => mapped.remarks.push(fault.to_string()),
        }
    }

    pub(super) async fn changes(
        &self,
        vm: &VmId,
        snapshot: &str,
        disk: &FrozenDisk,
        since: Option<&ChangeId>,
    ) -> Result<Changes, Fault> {
        self.repeat(&self.world.timing.call, || async {
            self.world
                .vsphere
                .changed_areas(vm, snapshot, disk.key, disk.capacity_bytes, since)
                .await
        })
        .await
    }
}

fn compare(base: &Base<'_>, changed: Option<ExtentSet>) -> proxy_api::Reading {
    proxy_api::Reading::Compare {
        base: base_root(base),
        changed,
    }
}

pub(super) fn base_root(base: &Base<'_>) -> proxy_api::DiskRoot {
    let root = &base.disk.root;
    proxy_api::DiskRoot {
        length_bytes: root.length,
        cutter: root.cutter.clone(),
        top: root.top,
        level: u32::from(root.level),
    }
}

/// Differs from run to run and from disk to disk, so that in time every part of a disk is looked at.
fn seed(run: stillwater_types::RunId, key: i32) -> u64 {
    let id = u128::from_be_bytes(*run.as_bytes());
    (id as u64) ^ ((id >> 64) as u64).rotate_left(32) ^ (key as u64)
}

/// Joins areas across the smallest gaps until few enough are left.
pub(super) fn fitting(areas: ExtentSet, length: u64) -> ExtentSet {
    let all: Vec<Extent> = areas.iter().collect();
    if all.len() <= AREAS_MAX {
        return areas;
    }
    let gap = |pair: &[Extent]| match pair {
        [before, after] => after.start.saturating_sub(before.end()),
        _ => 0,
    };
    let mut gaps: Vec<u64> = all.windows(2).map(gap).collect();
    gaps.sort_unstable();
    // So many gaps are closed; those of the same size go with them.
    let widest = gaps.get(all.len() - AREAS_MAX).copied().unwrap_or(u64::MAX);
    let closed = all.windows(2).filter(|pair| gap(pair) <= widest);
    let closed = closed.filter_map(|pair| match pair {
        [before, after] => Some(Extent::new(before.end(), gap(&[*before, *after]))),
        _ => None,
    });
    let joined: Vec<Extent> = all.iter().copied().chain(closed).collect();
    ExtentSet::collect(joined, length)
}

/// A disk that was protectable when the run was planned may have become one that no snapshot
/// freezes: its file goes on changing while it is read.
pub(super) fn ensure_frozen(disk: &FrozenDisk) -> Result<(), Fault> {
    match disk.protectability.obstacle() {
        None => Ok(()),
        Some(obstacle) => Err(Fault::new(
            Reason::DiskUnprotectable,
            format!("a disk changed after the run was planned: {obstacle}; start the run again"),
        )
        .with("disk", disk.key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_too_many_areas_loses_none_of_them() {
        let areas = (0..AREAS_MAX as u64 + 5000).map(|n| {
            let gap = if n % 10 == 0 { 4096 } else { 65_536 };
            Extent::new(n * 200_000 + gap, 512)
        });
        let length = (AREAS_MAX as u64 + 6000) * 200_000;
        let fine = ExtentSet::collect(areas, length);
        let joined = fitting(fine.clone(), length);
        assert!(joined.iter().count() <= AREAS_MAX);
        let union = ExtentSet::collect(joined.iter().chain(fine.iter()), length);
        assert_eq!(union, joined, "an area was lost");
        assert!(joined.bytes() < length / 2, "far more than needed is read");
    }
}
