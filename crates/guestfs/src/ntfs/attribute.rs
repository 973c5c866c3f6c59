//! Attributes of a file: those in its own record, and those that a list says are in others.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::content::{Mapped, Piece, Pieces, whole};
use crate::view::{View, wide_bytes};
use crate::{Error, Result};

use super::Ntfs;
use super::record::{Header, Reference, mend};

pub(super) const STANDARD_INFORMATION: u32 = 0x10;
const LIST: u32 = 0x20;
pub(super) const FILE_NAME: u32 = 0x30;
pub(super) const VOLUME_NAME: u32 = 0x60;
pub(super) const VOLUME_INFORMATION: u32 = 0x70;
pub(super) const DATA: u32 = 0x80;
pub(super) const INDEX_ROOT: u32 = 0x90;
pub(super) const INDEX_ALLOCATION: u32 = 0xa0;
pub(super) const BITMAP: u32 = 0xb0;
pub(super) const REPARSE_POINT: u32 = 0xc0;
pub(super) const EXTENDED: u32 = 0xe0;
const END: u32 = 0xffff_ffff;

const COMPRESSED: u16 = 0x00ff;
const ENCRYPTED: u16 = 0x4000;

/// One attribute, or one part of one that has several.
pub(super) struct Attribute {
    pub kind: u32,
    pub name: Vec<u8>,
    flags: u16,
    pub body: Body,
}

pub(super) enum Body {
    /// The value stands in the record.
    Resident(Vec<u8>),
    /// The value stands in clusters.
    Outside(Outside),
}

pub(super) struct Outside {
    first: u64,
    last: u64,
    runs: Vec<u8>,
    /// Logarithm of the clusters that are compressed together.
    pub compression_unit: u16,
    size: u64,
    initialized: u64,
}

impl Attribute {
    fn parse(view: &View<'_>) -> Result<Self> {
        let name_length = usize::from(view.u8(9)?) * 2;
        let name = view.bytes(view.le16(0xa)?.into(), name_length)?;
        let body = if view.u8(8)? == 0 {
            let (length, offset) = (view.le32(0x10)? as usize, usize::from(view.le16(0x14)?));
            Body::Resident(view.bytes(offset, length)?.to_vec())
        } else {
            Body::Outside(Outside::parse(view)?)
        };
        Ok(Self {
            kind: view.le32(0)?,
            name: wide_bytes(name),
            flags: view.le16(0xc)?,
            body,
        })
    }

    pub const fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    pub const fn is_encrypted(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// Whether it is the part that says the sizes.
    pub const fn is_first(&self) -> bool {
        match &self.body {
            Body::Resident(_) => true,
            Body::Outside(outside) => outside.first == 0,
        }
    }

    pub const fn size(&self) -> u64 {
        match &self.body {
            Body::Resident(value) => value.len() as u64,
            Body::Outside(outside) => outside.size,
        }
    }

    const fn first(&self) -> u64 {
        match &self.body {
            Body::Resident(_) => 0,
            Body::Outside(outside) => outside.first,
        }
    }
}

impl Outside {
    fn parse(view: &View<'_>) -> Result<Self> {
        let first = view.le64(0x10)?;
        Ok(Self {
            first,
            last: view.le64(0x18)?,
            runs: view.rest(view.le16(0x20)?.into())?.all().to_vec(),
            compression_unit: view.le16(0x22)?,
            // Only the first part has sizes.
            size: if first == 0 { view.le64(0x30)? } else { 0 },
            initialized: if first == 0 { view.le64(0x38)? } else { 0 },
        })
    }
}

/// A file with all its attributes.
pub(super) struct File {
    pub number: u64,
    pub is_directory: bool,
    pub attributes: Vec<Attribute>,
    /// What it is a reparse point of.
    pub reparse_tag: Option<u32>,
}

impl File {
    /// With the attributes of its own record only.
    pub fn base(system: &Ntfs, reference: Reference) -> Result<Self> {
        let number = reference.number();
        let mut raw = system.record(number)?;
        let view = View::new(&raw, "NTFS record", number);
        view.check(view.bytes(0, 4)? == b"FILE", "its magic number is another")?;
        mend(&mut raw, number)?;
        let view = View::new(&raw, "NTFS record", number);
        let header = Header::parse(&view)?;
        let theirs = reference.sequence();
        if theirs != 0 && theirs != header.sequence {
            return Err(Error::NotFound);
        }
        view.check(header.base.0 == 0, "it is a part of another file's")?;
        Ok(Self {
            number,
            is_directory: header.is_directory,
            attributes: attributes(&view, &header)?,
            reparse_tag: None,
        })
    }

    pub fn read(system: &Ntfs, reference: Reference) -> Result<Self> {
        let mut file = Self::base(system, reference)?;
        if let Some(list) = system.value(&file, LIST)? {
            for other in listed(&list, file.number)? {
                file.attributes.extend(extension(system, &file, other)?);
            }
            // Parts of one attribute are put together in order.
            file.attributes.sort_by_key(Attribute::first);
        }
        // A long one stands in clusters.
        let point = system.value(&file, REPARSE_POINT)?.unwrap_or_default();
        file.reparse_tag = point.first_chunk().map(|tag| u32::from_le_bytes(*tag));
        Ok(file)
    }

    /// All parts of an attribute.
    pub fn all_of(&self, kind: u32, name: &[u8]) -> Vec<&Attribute> {
        let fits = |attribute: &&Attribute| attribute.kind == kind && attribute.name == name;
        self.attributes.iter().filter(fits).collect()
    }

    /// The value of an attribute that is always in the record.
    pub fn resident(&self, kind: u32) -> Option<&[u8]> {
        self.attributes
            .iter()
            .find_map(|attribute| match &attribute.body {
                Body::Resident(value) if attribute.kind == kind => Some(value.as_slice()),
                _ => None,
            })
    }
}

fn attributes(record: &View<'_>, header: &Header) -> Result<Vec<Attribute>> {
    let used = record.part(0, header.used.min(record.length()))?;
    let mut all = Vec::new();
    let mut at = header.attributes;
    while used.le32(at)? != END {
        let length = used.le32(at + 4)? as usize;
        used.check(length >= 0x18, "an attribute is shorter than its header")?;
        all.push(Attribute::parse(&used.part(at, length)?)?);
        at += length;
    }
    Ok(all)
}

/// The other records that a list names.
fn listed(list: &[u8], own: u64) -> Result<BTreeSet<Reference>> {
    let view = View::new(list, "NTFS attribute list", own);
    let mut records = BTreeSet::new();
    let mut at = 0;
    while at + 0x1a <= view.length() {
        let length = usize::from(view.le16(at + 4)?);
        view.check(length >= 0x1a, "an entry is shorter than its fields")?;
        let reference = Reference(view.le64(at + 0x10)?);
        if reference.number() != own {
            records.insert(reference);
        }
        at += length;
    }
    Ok(records)
}

/// The attributes in a record that a file has beside its own.
fn extension(system: &Ntfs, file: &File, reference: Reference) -> Result<Vec<Attribute>> {
    let number = reference.number();
    let mut raw = system.record(number)?;
    mend(&mut raw, number)?;
    let view = View::new(&raw, "NTFS record", number);
    let header = Header::parse(&view)?;
    let ours = header.base.number() == file.number && header.sequence == reference.sequence();
    view.check(ours, "it is not the part of a file that it should be")?;
    attributes(&view, &header)
}

/// The clusters of an attribute whose parts these are.
pub(super) fn mapped(system: &Ntfs, number: u64, parts: &[&Attribute]) -> Result<Mapped> {
    let damaged = |what| Error::Damaged {
        structure: "NTFS attribute",
        at: number,
        what,
    };
    let mut pieces = Pieces::default();
    let mut next = 0;
    let mut sizes = None;
    for part in parts {
        let Body::Outside(outside) = &part.body else {
            return Err(damaged("it is in the record and outside of it"));
        };
        if outside.first != next {
            return Err(damaged("a part is missing or there twice"));
        }
        sizes = sizes.or(Some((outside.size, outside.initialized)));
        next = runs(system, number, outside, &mut pieces)?;
    }
    let (length, valid) = sizes.ok_or(Error::NoContent)?;
    Ok(Mapped {
        disk: Arc::clone(&system.disk),
        pieces,
        length,
        valid,
    })
}

/// Adds the runs of one part, and says which cluster of the file comes after them.
fn runs(system: &Ntfs, number: u64, outside: &Outside, to: &mut Pieces) -> Result<u64> {
    let view = View::new(&outside.runs, "NTFS run list", number);
    let cluster = system.boot.cluster_bytes;
    let mut file_cluster = outside.first;
    let mut disk_cluster = 0u64;
    let mut at = 0;
    while at < view.length() {
        let sizes = view.u8(at)?;
        if sizes == 0 {
            break;
        }
        let (length_size, offset_size) = (usize::from(sizes & 0xf), usize::from(sizes >> 4));
        let count = little(view.bytes(at + 1, length_size)?)
            .ok_or_else(|| view.damaged("a run is too long"))?;
        let count = count.cast_unsigned();
        let step = little(view.bytes(at + 1 + length_size, offset_size)?);
        at += 1 + length_size + offset_size;
        let place = if offset_size == 0 {
            None
        } else {
            let step = step.ok_or_else(|| view.damaged("a run is too far away"))?;
            disk_cluster = disk_cluster.wrapping_add_signed(step);
            Some(disk_cluster)
        };
        let end = file_cluster.checked_add(count);
        let end = end.filter(|end| end.checked_mul(cluster).is_some());
        let end = end.ok_or_else(|| view.damaged("a run goes beyond all numbers"))?;
        if let Some(place) = place {
            let inside = place
                .checked_add(count)
                .and_then(|end| end.checked_mul(cluster));
            let inside =
                inside.is_some_and(|end| end <= system.boot.bytes.next_multiple_of(cluster));
            view.check(inside, "a run is beyond the file system")?;
            let piece = Piece {
                at: file_cluster * cluster,
                length: count * cluster,
                place: Some(place * cluster),
            };
            to.push(piece, &system.limits)?;
        }
        file_cluster = end;
    }
    // An empty attribute says that its last cluster is the one before the first.
    view.check(
        file_cluster.wrapping_sub(1) == outside.last,
        "its runs are not as many as it says",
    )?;
    Ok(file_cluster)
}

/// A signed number of up to eight bytes.
fn little(bytes: &[u8]) -> Option<i64> {
    let mut all = match bytes.last() {
        Some(last) if last & 0x80 != 0 => [0xff; 8],
        _ => [0; 8],
    };
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

/// All of an attribute that is small and in clusters or not.
pub(super) fn small(system: &Ntfs, file: &File, kind: u32, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let parts = file.all_of(kind, name);
    match parts.first().map(|first| &first.body) {
        None => Ok(None),
        Some(Body::Resident(value)) => Ok(Some(value.clone())),
        Some(Body::Outside(_)) => {
            let mapped = mapped(system, file.number, &parts)?;
            whole(
                &mapped,
                system.limits.metadata_bytes,
                "bytes of an attribute",
            )
            .map(Some)
        }
    }
}
