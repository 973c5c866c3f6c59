//! What of a disk is read, and what that found out.

use stillwater_types::{Extent, ExtentSet, Fault, Reason};
use stillwater_wire::{FieldError, field};

use crate::model::*;
use crate::pb;

impl From<Backup> for pb::Backup {
    fn from(domain: Backup) -> Self {
        let Backup {
            sources,
            length_bytes,
            reading,
        } = domain;
        Self {
            sources: sources.into_iter().map(Into::into).collect(),
            length_bytes,
            reading: Some(reading.into()),
        }
    }
}

impl TryFrom<pb::Backup> for Backup {
    type Error = FieldError;

    fn try_from(message: pb::Backup) -> Result<Self, FieldError> {
        let pb::Backup {
            sources,
            length_bytes,
            reading,
        } = message;
        let found = sources.len();
        if found == 0 || found > SOURCES_MAX {
            let why = format_args!("has {found} sources, 1 to {SOURCES_MAX} go");
            return Err(FieldError::new("sources", why));
        }
        Ok(Self {
            sources: field::messages("sources", sources)?,
            length_bytes,
            reading: checked(field::choice("reading", reading)?, length_bytes)?,
        })
    }
}

impl From<Reading> for pb::backup::Reading {
    fn from(domain: Reading) -> Self {
        match domain {
            Reading::Full { areas } => Self::Full(pb::FullReading {
                areas: areas.map(area_map),
            }),
            Reading::Increment {
                base,
                changed,
                sample_bytes,
                sample_seed,
            } => Self::Increment(pb::IncrementReading {
                base: Some(base.into()),
                changed: Some(area_map(changed)),
                sample_bytes,
                sample_seed,
            }),
            Reading::Compare { base, changed } => Self::Compare(pb::CompareReading {
                base: Some(base.into()),
                changed: changed.map(area_map),
            }),
        }
    }
}

fn checked(reading: pb::backup::Reading, length_bytes: u64) -> Result<Reading, FieldError> {
    let maybe_map =
        |map: Option<pb::AreaMap>| map.map(|map| extents(map, length_bytes)).transpose();
    match reading {
        pb::backup::Reading::Full(pb::FullReading { areas }) => Ok(Reading::Full {
            areas: maybe_map(areas)?,
        }),
        pb::backup::Reading::Increment(pb::IncrementReading {
            base,
            changed,
            sample_bytes,
            sample_seed,
        }) => Ok(Reading::Increment {
            base: field::message("base", base)?,
            changed: extents(field::choice("changed", changed)?, length_bytes)?,
            sample_bytes,
            sample_seed,
        }),
        pb::backup::Reading::Compare(pb::CompareReading { base, changed }) => {
            Ok(Reading::Compare {
                base: field::message("base", base)?,
                changed: maybe_map(changed)?,
            })
        }
    }
}

impl From<ProbeDiskRequest> for pb::ProbeDiskRequest {
    fn from(domain: ProbeDiskRequest) -> Self {
        let ProbeDiskRequest {
            disk,
            length_bytes,
            areas,
            limit_millis,
        } = domain;
        Self {
            disk: Some(disk.into()),
            length_bytes,
            areas: Some(area_map(areas)),
            limit_millis,
        }
    }
}

impl TryFrom<pb::ProbeDiskRequest> for ProbeDiskRequest {
    type Error = FieldError;

    fn try_from(message: pb::ProbeDiskRequest) -> Result<Self, FieldError> {
        let pb::ProbeDiskRequest {
            disk,
            length_bytes,
            areas,
            limit_millis,
        } = message;
        if limit_millis > PROBE_MILLIS_MAX {
            let why = format_args!("is {limit_millis}, at most {PROBE_MILLIS_MAX} go");
            return Err(FieldError::new("limit_millis", why));
        }
        Ok(Self {
            disk: field::message("disk", disk)?,
            length_bytes,
            areas: extents(field::choice("areas", areas)?, length_bytes)?,
            limit_millis,
        })
    }
}

impl From<Rewrite> for pb::Rewrite {
    fn from(domain: Rewrite) -> Self {
        let Rewrite {
            root,
            target,
            known,
        } = domain;
        let known = known.map(|Known { base, changed }| (base.into(), area_map(changed)));
        let (base, changed) = known.unzip();
        Self {
            root: Some(root.into()),
            target: Some(target.into()),
            base,
            changed,
        }
    }
}

impl TryFrom<pb::Rewrite> for Rewrite {
    type Error = FieldError;

    fn try_from(message: pb::Rewrite) -> Result<Self, FieldError> {
        let pb::Rewrite {
            root,
            target,
            base,
            changed,
        } = message;
        let root: DiskRoot = field::message("root", root)?;
        let known = match (base, changed) {
            (None, None) => None,
            (base, changed) => Some(Known {
                base: field::message("base", base)?,
                changed: extents(field::choice("changed", changed)?, root.length_bytes)
                    .map_err(|error| error.within("changed"))?,
            }),
        };
        Ok(Self {
            root,
            target: field::message("target", target)?,
            known,
        })
    }
}

fn area_map(areas: ExtentSet) -> pb::AreaMap {
    pb::AreaMap {
        areas: areas.iter().map(area).collect(),
    }
}

fn area(extent: Extent) -> pb::Area {
    let Extent { start, length } = extent;
    pb::Area {
        start_bytes: start,
        length_bytes: length,
    }
}

/// Areas may come in any order and overlap, but one beyond the disk means that the map is of
/// another disk: clipping it would hide that.
fn extents(map: pb::AreaMap, length_bytes: u64) -> Result<ExtentSet, FieldError> {
    let pb::AreaMap { areas } = map;
    let extents = areas
        .into_iter()
        .map(|area| extent("areas", area, length_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ExtentSet::collect(extents, length_bytes))
}

fn extent(field: &str, area: pb::Area, length_bytes: u64) -> Result<Extent, FieldError> {
    let pb::Area {
        start_bytes,
        length_bytes: count,
    } = area;
    match start_bytes.checked_add(count) {
        Some(end) if end <= length_bytes => Ok(Extent::new(start_bytes, count)),
        _ => Err(FieldError::because(
            Reason::RangeBeyondDisk,
            field,
            format_args!("has {count} bytes at {start_bytes} of a disk of {length_bytes}"),
        )),
    }
}

impl From<TransferFindings> for pb::TransferFindings {
    fn from(domain: TransferFindings) -> Self {
        let TransferFindings {
            compared_bytes,
            lie_bytes,
            lies,
            compared_all,
            fallbacks,
            source_index,
            replaced_chunk_count,
            replaced_hole_bytes,
            damaged_bytes,
            damaged_chunk_count,
            damage,
        } = domain;
        Self {
            compared_bytes,
            lie_bytes,
            lies: lies.into_iter().map(area).collect(),
            compared_all,
            fallbacks: fallbacks.into_iter().map(Into::into).collect(),
            source_index,
            replaced_chunk_count,
            replaced_hole_bytes,
            damaged_bytes,
            damaged_chunk_count,
            damage: damage.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DamagedArea> for pb::DamagedArea {
    fn from(domain: DamagedArea) -> Self {
        Self {
            area: Some(area(domain.area)),
            fault: Some(domain.fault.into()),
        }
    }
}

impl TryFrom<pb::DamagedArea> for DamagedArea {
    type Error = FieldError;

    fn try_from(message: pb::DamagedArea) -> Result<Self, FieldError> {
        let pb::DamagedArea { area, fault } = message;
        Ok(Self {
            area: extent("area", field::choice("area", area)?, u64::MAX)?,
            fault: field::choice("fault", fault)?.into(),
        })
    }
}

impl TryFrom<pb::TransferFindings> for TransferFindings {
    type Error = FieldError;

    fn try_from(message: pb::TransferFindings) -> Result<Self, FieldError> {
        let pb::TransferFindings {
            compared_bytes,
            lie_bytes,
            lies,
            compared_all,
            fallbacks,
            source_index,
            replaced_chunk_count,
            replaced_hole_bytes,
            damaged_bytes,
            damaged_chunk_count,
            damage,
        } = message;
        if lies.len() > LIES_MAX {
            let why = format_args!("has {} ranges, at most {LIES_MAX} go", lies.len());
            return Err(FieldError::new("lies", why));
        }
        if damage.len() > DAMAGED_AREAS_MAX {
            let why = format_args!(
                "has {} ranges, at most {DAMAGED_AREAS_MAX} go",
                damage.len()
            );
            return Err(FieldError::new("damage", why));
        }
        Ok(Self {
            compared_bytes,
            lie_bytes,
            lies: lies
                .into_iter()
                .map(|area| extent("lies", area, u64::MAX))
                .collect::<Result<_, _>>()?,
            compared_all,
            fallbacks: fallbacks.into_iter().map(Fault::from).collect(),
            source_index,
            replaced_chunk_count,
            replaced_hole_bytes,
            damaged_bytes,
            damaged_chunk_count,
            damage: field::messages("damage", damage)?,
        })
    }
}
