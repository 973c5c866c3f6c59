//! LVM2: volume groups over one or several disks. The layout is that of `lib/format_text` of LVM2 (label,
//! metadata area, text), as its manual and libvslvm's documentation tell it.

mod label;
mod segment;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use label::Label;
pub(crate) use label::is_here;
use segment::{Logical, Segment, Stripe};
use text::Section;

use crate::source::Disk;
use crate::{Error, Limits, Result};

/// Sectors of LVM are these whatever the disk's own are.
const SECTOR: u64 = 512;

/// A logical volume: its bytes, or why they cannot be had.
pub(crate) struct Found {
    pub group: String,
    pub name: String,
    pub uuid: Option<String>,
    pub bytes: u64,
    pub disk: Result<Disk, &'static str>,
}

/// The logical volumes that somebody would see on these physical ones.
pub(crate) fn assemble(physical: &[Disk], limits: &Limits) -> Result<Vec<Found>> {
    let mut parts = BTreeMap::new();
    let mut groups: BTreeMap<String, (u64, String, Section)> = BTreeMap::new();
    for disk in physical {
        let label = Label::read(&**disk)?;
        if let Some((name, section)) = label.group(&**disk, limits)? {
            let sequence = section.number("seqno")?;
            let id = section.text("id")?.to_owned();
            // A disk that was away while the group changed has an older description.
            if groups.get(&id).is_none_or(|(known, ..)| *known < sequence) {
                groups.insert(id, (sequence, name, section));
            }
        }
        parts.insert(label.id, Arc::clone(disk));
    }
    let mut all = Vec::new();
    for (_, name, section) in groups.into_values() {
        Group::parse(name, &section, &parts)?.volumes(&section, limits, &mut all)?;
    }
    Ok(all)
}

/// A physical volume of a group: its bytes, where they are here, and where its first extent begins.
struct Physical {
    disk: Option<Disk>,
    begin: u64,
}

struct Group {
    name: String,
    extent_bytes: u64,
    physical: BTreeMap<String, Physical>,
}

impl Group {
    fn parse(name: String, section: &Section, parts: &BTreeMap<String, Disk>) -> Result<Self> {
        let extent = section.number("extent_size")?.checked_mul(SECTOR);
        let extent_bytes = extent
            .filter(|&bytes| bytes > 0)
            .ok_or_else(|| damaged("its extents have no length"))?;
        let mut physical = BTreeMap::new();
        for (key, part) in section.section("physical_volumes")?.sections() {
            let id: String = part.text("id")?.split('-').collect();
            let begin = part.number("pe_start")?.checked_mul(SECTOR);
            let begin = begin.ok_or_else(|| damaged("a part begins beyond all numbers"))?;
            let disk = parts.get(&id).cloned();
            physical.insert(key.clone(), Physical { disk, begin });
        }
        Ok(Self {
            name,
            extent_bytes,
            physical,
        })
    }

    fn volumes(&self, section: &Section, limits: &Limits, to: &mut Vec<Found>) -> Result<()> {
        let Ok(volumes) = section.section("logical_volumes") else {
            return Ok(());
        };
        for (name, volume) in volumes.sections() {
            if !volume.has("status", "VISIBLE") {
                continue;
            }
            if to.len() >= limits.volumes {
                return Err(Error::Limit {
                    what: "logical volumes",
                    limit: limits.volumes as u64,
                });
            }
            let extents = extents(volume)?;
            let bytes = extents.checked_mul(self.extent_bytes);
            let bytes = bytes.ok_or_else(|| damaged("a volume is longer than all numbers"))?;
            to.push(Found {
                group: self.name.clone(),
                name: name.clone(),
                uuid: volume.text("id").ok().map(str::to_owned),
                bytes,
                disk: self.logical(volume, bytes)?,
            });
        }
        Ok(())
    }

    /// The volume's bytes, or what keeps them from being read.
    fn logical(&self, volume: &Section, bytes: u64) -> Result<Result<Disk, &'static str>> {
        let mut segments = Vec::new();
        for (_, segment) in segments_of(volume) {
            match self.segment(segment)? {
                Ok(segment) => segments.push(segment),
                Err(why) => return Ok(Err(why)),
            }
        }
        segments.sort_by_key(|segment| segment.at);
        Ok(Ok(Arc::new(Logical::new(segments, bytes)?)))
    }

    fn segment(&self, section: &Section) -> Result<Result<Segment, &'static str>> {
        match section.text("type")? {
            "striped" => {}
            "thin" => return Ok(Err("a thin logical volume")),
            "thin-pool" => return Ok(Err("a pool of thin logical volumes")),
            "cache" | "cache-pool" | "writecache" => return Ok(Err("a cached logical volume")),
            "snapshot" => return Ok(Err("a snapshot of a logical volume")),
            "vdo" | "vdo-pool" => return Ok(Err("a logical volume on VDO")),
            _ => return Ok(Err("a logical volume of RAID or of an unknown kind")),
        }
        let at = self.extents(section.number("start_extent")?)?;
        let length = self.extents(section.number("extent_count")?)?;
        let stripe_bytes = section
            .number("stripe_size")
            .unwrap_or(0)
            .saturating_mul(SECTOR);
        let mut stripes = Vec::new();
        for (name, extent) in section.pairs("stripes")? {
            let part = self.physical.get(&name);
            let part = part.ok_or_else(|| damaged("a segment is on a part that is none of it"))?;
            let Some(disk) = &part.disk else {
                return Ok(Err(
                    "a logical volume with a part on a disk that is not here",
                ));
            };
            let offset = self.extents(extent)?.checked_add(part.begin);
            stripes.push(Stripe {
                disk: Arc::clone(disk),
                offset: offset.ok_or_else(|| damaged("a segment is beyond all numbers"))?,
            });
        }
        Segment::new(at, length, stripe_bytes, stripes).map(Ok)
    }

    fn extents(&self, count: u64) -> Result<u64> {
        let bytes = count.checked_mul(self.extent_bytes);
        bytes.ok_or_else(|| damaged("a segment is beyond all numbers"))
    }
}

fn segments_of(volume: &Section) -> impl Iterator<Item = (&String, &Section)> {
    volume
        .sections()
        .filter(|(name, _)| name.starts_with("segment"))
}

/// The extents of a volume: where its last segment ends.
fn extents(volume: &Section) -> Result<u64> {
    let mut most = 0;
    for (_, segment) in segments_of(volume) {
        let end = segment
            .number("start_extent")?
            .checked_add(segment.number("extent_count")?);
        most = most.max(end.ok_or_else(|| damaged("a segment is beyond all numbers"))?);
    }
    Ok(most)
}

const fn damaged(what: &'static str) -> Error {
    Error::Damaged {
        structure: "LVM2 volume group",
        at: 0,
        what,
    }
}
