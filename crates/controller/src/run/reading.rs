//! Which way a disk is read: what changed since the last point, all of it, or all of it held
//! against the last point.
//!
//! A pure decision. A change map is a hint: it is asked for only where nothing speaks against it,
//! and now and then everything is read although the map would do. Whatever the decision needs of the
//! past stands in the committed point, so that a run that failed can never advance it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_format::manifest;
use stillwater_types::PointId;
use stillwater_vsphere::{ChangeId, FrozenDisk};

use crate::point::{DiskNote, OpenedPoint};

/// Why a disk is read to its end although an earlier point has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No earlier point of the VM has the disk.
    First,
    /// Its changes are not tracked.
    NotTracked,
    /// Tracking began anew since the last point.
    TrackingReset,
    /// The disk has another size than in the last point.
    Resized,
    /// Snapshots of others came or went since the last point.
    SnapshotsChanged,
    /// Snapshots of others are there, then and now: a revert to one shows in no map.
    ForeignSnapshots,
    /// The change map was found to be wrong when the last point was made.
    MapLied,
    /// The change map could not be had or cannot be whole.
    NoMap,
    /// It is time for a reading that believes no map.
    Due,
    /// The last point cannot be built upon: its data is damaged.
    BaseDamaged,
    /// A point was written over the disk since the last point.
    Overwritten,
    /// Somebody asked for it.
    Asked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::First => "no earlier point has the disk",
            Why::NotTracked => "its changes are not tracked",
            Why::TrackingReset => "change tracking began anew since the last point",
            Why::Resized => "the disk has another size than in the last point",
            Why::SnapshotsChanged => "snapshots of others came or went since the last point",
            Why::ForeignSnapshots => {
                "the vm has snapshots of others, and a revert to one shows in no map"
            }
            Why::MapLied => "the change map was wrong when the last point was made",
            Why::NoMap => "no change map was to be had",
            Why::Due => "it was time for a reading that believes no map",
            Why::BaseDamaged => "the data of the last point is damaged",
            Why::Overwritten => "a point was written over the disk since the last point",
            Why::Asked => "it was asked for",
        })
    }
}

/// How a disk is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Everything that was ever written, held against nothing: there is no base, or none of use.
    Full(Why),
    /// Everything, held against the base.
    Compare(Why),
    /// What changed since.
    Increment(ChangeId),
}

/// How much a map is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// After so many points in a row that believed the map, one does not.
    pub points_max: u32,
    /// After so long, too.
    pub age_max: Duration,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            points_max: 500,
            age_max: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A disk of the last point.
#[derive(Debug, Clone, PartialEq)]
pub struct Base<'a> {
    /// The point.
    pub point: PointId,
    /// The disk in its manifest.
    pub disk: &'a manifest::Disk,
    /// How it was read then; none in points of releases that did not say.
    pub note: Option<&'a DiskNote>,
    /// The snapshots of others that were there then.
    pub foreign_snapshots: &'a [String],
}

impl<'a> Base<'a> {
    /// Finds the disk in the VM's last point. By the UUID of its backing, which stays when storage
    /// or device keys change; a clone that hangs on the same VM has the same, so the key decides
    /// between such two.
    pub fn find(point: &'a OpenedPoint, frozen: &FrozenDisk) -> Option<Self> {
        let uuid = frozen.backing_uuid.as_deref()?;
        let disks = point.manifest.disks.iter();
        let mut same: Vec<_> = disks
            .filter(|disk| disk.backing.as_deref() == Some(uuid))
            .collect();
        if same.len() > 1 {
            same.retain(|disk| disk.key == frozen.key);
        }
        let disk = same.first().copied()?;
        let notes = &point.section.disks;
        Some(Self {
            point: point.manifest.point,
            disk,
            note: notes.iter().find(|note| note.key == disk.key),
            foreign_snapshots: &point.section.foreign_snapshots,
        })
    }
}

impl Base<'_> {
    /// From where on changes can be asked for.
    pub fn since(&self) -> Option<ChangeId> {
        ChangeId::parse(self.disk.change_id.as_deref()?)
    }
}

/// What is known of the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present<'a> {
    /// The frozen disk.
    pub disk: &'a FrozenDisk,
    /// The snapshots of others that are there.
    pub foreign_snapshots: &'a [String],
    /// Whether a run found the last point's data damaged.
    pub is_base_damaged: bool,
    /// Whether a restore wrote to the disk after the last point was made.
    pub is_overwritten: bool,
    /// Whether somebody asked for a reading that believes no map.
    pub is_compare_asked: bool,
    /// The time.
    pub now: Timestamp,
}

/// Decides how a disk is read. `Increment` may still turn out impossible: then [`Why::NoMap`].
pub fn plan(base: Option<&Base<'_>>, present: &Present<'_>, trust: &Trust) -> Plan {
    let Some(base) = base else {
        return Plan::Full(Why::First);
    };
    if base.disk.root.length > present.disk.capacity_bytes {
        // No disk shrinks; this one was replaced, and its cut points are worth nothing.
        return Plan::Full(Why::Resized);
    }
    match (doubt(base, present, trust), &present.disk.change_id) {
        (Some(why), _) => Plan::Compare(why),
        (None, None) => Plan::Compare(Why::NotTracked),
        (None, Some(_)) => match base.since() {
            Some(since) => Plan::Increment(since),
            None => Plan::Compare(Why::NotTracked),
        },
    }
}

/// What speaks against believing a map.
fn doubt(base: &Base<'_>, present: &Present<'_>, trust: &Trust) -> Option<Why> {
    let frozen = present.disk;
    let reset = match (base.since(), &frozen.change_id) {
        (Some(then), Some(now)) => !then.same_tracking(now),
        _ => false,
    };
    let causes = [
        (present.is_base_damaged, Why::BaseDamaged),
        (present.is_overwritten, Why::Overwritten),
        (present.is_compare_asked, Why::Asked),
        (frozen.change_id.is_none(), Why::NotTracked),
        (reset, Why::TrackingReset),
        (base.disk.root.length != frozen.capacity_bytes, Why::Resized),
        (has_lied(base), Why::MapLied),
        (
            base.foreign_snapshots != present.foreign_snapshots,
            Why::SnapshotsChanged,
        ),
        // The list stays as it was when somebody reverts, and so may every file's name.
        (!present.foreign_snapshots.is_empty(), Why::ForeignSnapshots),
        (is_due(base, present.now, trust), Why::Due),
    ];
    causes
        .into_iter()
        .find_map(|(is_so, why)| is_so.then_some(why))
}

/// A map that lied is not asked again until tracking was reset, which changes the id.
fn has_lied(base: &Base<'_>) -> bool {
    let reading = base.note.and_then(|note| note.reading.as_ref());
    reading.is_some_and(|reading| reading.lie_bytes > 0)
}

fn is_due(base: &Base<'_>, now: Timestamp, trust: &Trust) -> bool {
    // A point that does not say when its disk was read to the end is no reason to trust.
    let Some(reading) = base.note.and_then(|note| note.reading.as_ref()) else {
        return true;
    };
    let age = now.duration_since(reading.checked_at);
    let age_max =
        jiff::SignedDuration::try_from(trust.age_max).unwrap_or(jiff::SignedDuration::MAX);
    reading.increments >= trust.points_max || age >= age_max || age.is_negative()
}

/// Fewest bytes of a sample: enough to look at some hundred chunks.
const SAMPLE_MIN: u64 = 8 << 20;
/// Most bytes of a sample.
const SAMPLE_MAX: u64 = 512 << 20;
/// The part of what changed that is looked at besides.
const SAMPLE_PART: u64 = 16;
/// How much more is looked at where a map has lied before.
const DISTRUST: u64 = 8;

/// How much of what a map calls unchanged is read all the same.
pub fn sample_bytes(changed_bytes: u64, lies: u32) -> u64 {
    let least = match lies {
        0 => SAMPLE_MIN,
        _ => SAMPLE_MIN * DISTRUST,
    };
    (changed_bytes / SAMPLE_PART).clamp(least, SAMPLE_MAX)
}

#[cfg(test)]
mod tests;
