//! Manifests: what a restore point consists of.
//!
//! A manifest names the trees of a VM's disks. What only key holders may read, such as the VM's
//! configuration and the evidence of its consistency, is a sealed section that is opaque here. It
//! becomes a restore point by a commit record, never by being written.

use stillwater_types::{DatasetId, PointId, RunId, VcenterId, VmId};

use crate::bytes::{Reader, put_blob};
use crate::node::DiskRoot;
use crate::{Error, Time};

/// Most bytes of a manifest.
pub const MANIFEST_BYTES_MAX: usize = 2 << 20;
/// Most bytes of its sealed section.
pub const SEALED_BYTES_MAX: usize = 3 << 19;
/// Most disks of a VM: vSphere allows 256 at four adapters of 64.
pub const DISKS_MAX: usize = 256;
/// Most bytes of a VM's name.
pub const NAME_BYTES_MAX: usize = 1024;
/// Most bytes of a disk's label, a change id or a vCenter's instance UUID.
pub const TEXT_BYTES_MAX: usize = 256;
/// Most bytes of the UUID of a disk's backing.
pub const BACKING_BYTES_MAX: usize = 128;

const WHAT: &str = "manifest";
const MAGIC: &[u8; 4] = b"SWMF";
const VERSION: u16 = 1;
const MOREF_BYTES_MAX: usize = 128;
const ROOT_BYTES_MAX: usize = 106;
const LENGTH_OFFSET: usize = 8;
const HASH_LEN: usize = 32;

/// How consistent the disks are with each other and with what ran on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Consistency {
    /// As after a power cut.
    Crash,
    /// File systems were flushed and frozen.
    FileSystem,
    /// Applications took part.
    Application,
    /// The VM was powered off.
    Offline,
}

impl Consistency {
    const fn number(self) -> u8 {
        match self {
            Consistency::Crash => 1,
            Consistency::FileSystem => 2,
            Consistency::Application => 3,
            Consistency::Offline => 4,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Consistency::Crash),
            2 => Some(Consistency::FileSystem),
            3 => Some(Consistency::Application),
            4 => Some(Consistency::Offline),
            _ => None,
        }
    }
}

/// One disk of a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The device key in vSphere.
    pub key: i32,
    /// The label in vSphere, such as `Hard disk 1`.
    pub label: String,
    /// The UUID of the backing in vSphere.
    pub backing: Option<String>,
    /// From which the next run can ask for changed areas.
    pub change_id: Option<String>,
    /// The tree; its length is the disk's capacity.
    pub root: DiskRoot,
    /// What the run did to get it.
    pub effort: Effort,
}

/// What it took to protect one disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Bytes read from the frozen disk.
    pub read_bytes: u64,
    /// Holes in the tree.
    pub zero_bytes: u64,
    /// Plain bytes of chunks that were not stored before.
    pub new_bytes: u64,
    /// What these took in packs.
    pub stored_bytes: u64,
    /// Chunks in the tree.
    pub chunk_count: u64,
}

/// What a restore point consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Names the point.
    pub point: PointId,
    /// Whose chunks it reaches.
    pub dataset: DatasetId,
    /// The run that made it.
    pub run: RunId,
    /// The VM.
    pub vm: VmId,
    /// What the VM was called.
    pub vm_name: String,
    /// The instance UUID of the vCenter.
    pub vcenter_instance: String,
    /// When the disks were frozen, as the controller saw it.
    pub taken_at: Time,
    /// How consistent the disks are.
    pub consistency: Consistency,
    /// Whether every disk of the VM is in it.
    pub whole: bool,
    /// The disks, strictly ascending by key.
    pub disks: Vec<Disk>,
    /// Configuration and evidence, sealed.
    pub sealed: Vec<u8>,
}

/// The hash that a commit record names a manifest by: BLAKE3 of all its bytes.
pub fn manifest_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

impl Manifest {
    /// The manifest's bytes.
    ///
    /// # Errors
    /// When a field is beyond its bound, or the disks are not in order.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.allowed()?;
        let mut out = Vec::with_capacity(1024 + self.sealed.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(self.point.as_bytes());
        out.extend_from_slice(self.dataset.as_bytes());
        out.extend_from_slice(self.run.as_bytes());
        out.extend_from_slice(self.vm.vcenter.as_bytes());
        out.extend_from_slice(&self.taken_at.millis().to_le_bytes());
        out.extend_from_slice(&[self.consistency.number(), u8::from(self.whole)]);
        out.extend_from_slice(&(self.disks.len() as u16).to_le_bytes());
        put_blob(&mut out, self.vm.moref.as_bytes());
        put_blob(&mut out, self.vm_name.as_bytes());
        put_blob(&mut out, self.vcenter_instance.as_bytes());
        self.disks.iter().try_for_each(|disk| disk.put(&mut out))?;
        put_blob(&mut out, &self.sealed);
        bounded("manifest", out.len() + HASH_LEN, MANIFEST_BYTES_MAX)?;
        let length = (out.len() + HASH_LEN) as u32;
        if let Some(field) = out.get_mut(LENGTH_OFFSET..LENGTH_OFFSET + 4) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        Ok(out)
    }

    /// Reads a manifest; gives exactly those that [`Manifest::encode`] writes.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        bounded("manifest", bytes.len(), MANIFEST_BYTES_MAX)?;
        let (body, hash) = bytes
            .split_last_chunk::<HASH_LEN>()
            .ok_or(Error::Short { what: WHAT })?;
        let mut fields = Reader::new(WHAT, body);
        fields.magic(MAGIC)?;
        let version = fields.u16()?;
        if *blake3::hash(body).as_bytes() != *hash {
            return Err(Error::Checksum { what: WHAT });
        }
        match version {
            VERSION => {}
            0 => return Err(fields.refuse("version")),
            found => {
                return Err(Error::TooNew {
                    what: WHAT,
                    found,
                    known: VERSION,
                });
            }
        }
        fields.zeros(2)?;
        if fields.u32()? as usize != bytes.len() {
            return Err(fields.refuse("length"));
        }
        let manifest = Self::take(&mut fields)?;
        fields.finish()?;
        manifest.allowed()?;
        Ok(manifest)
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let point = PointId::from_bytes(fields.array()?);
        let dataset = DatasetId::from_bytes(fields.array()?);
        let run = RunId::from_bytes(fields.array()?);
        let vcenter = VcenterId::from_bytes(fields.array()?);
        let taken_at = Time::from_millis(fields.u64()?);
        let consistency =
            Consistency::of(fields.u8()?).ok_or_else(|| fields.refuse("consistency"))?;
        let whole = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return Err(fields.refuse("whole")),
        };
        let disk_count = fields.u16()?;
        let moref = fields.text("moref", MOREF_BYTES_MAX)?;
        let vm_name = fields.text("vm name", NAME_BYTES_MAX)?;
        let vcenter_instance = fields.text("instance", TEXT_BYTES_MAX)?;
        if usize::from(disk_count) > DISKS_MAX {
            return Err(fields.refuse("disk count"));
        }
        let disks = (0..disk_count)
            .map(|_| Disk::take(fields))
            .collect::<Result<_, _>>()?;
        let sealed = fields.blob(SEALED_BYTES_MAX)?.to_vec();
        let vm = VmId { vcenter, moref };
        Ok(Self {
            point,
            dataset,
            run,
            vm,
            vm_name,
            vcenter_instance,
            taken_at,
            consistency,
            whole,
            disks,
            sealed,
        })
    }

    /// Checks what is not checked by reading it.
    fn allowed(&self) -> Result<(), Error> {
        let refuse = |field| Err(Error::Field { what: WHAT, field });
        if self.vm.to_string().parse::<VmId>().as_ref() != Ok(&self.vm) {
            return refuse("moref");
        }
        bounded("vm name", self.vm_name.len(), NAME_BYTES_MAX)?;
        bounded(
            "vcenter instance",
            self.vcenter_instance.len(),
            TEXT_BYTES_MAX,
        )?;
        bounded("sealed section", self.sealed.len(), SEALED_BYTES_MAX)?;
        if self.disks.len() > DISKS_MAX {
            return refuse("disk count");
        }
        let follow = self.disks.iter().skip(1);
        if self
            .disks
            .iter()
            .zip(follow)
            .any(|(disk, next)| disk.key >= next.key)
        {
            return refuse("disk key");
        }
        Ok(())
    }
}

impl Disk {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        bounded("disk label", self.label.len(), TEXT_BYTES_MAX)?;
        let backing = optional("backing", &self.backing, BACKING_BYTES_MAX)?;
        let change_id = optional("change id", &self.change_id, TEXT_BYTES_MAX)?;
        let root = self.root.encode().map_err(|_| Error::Field {
            what: WHAT,
            field: "root",
        })?;
        let Effort {
            read_bytes,
            zero_bytes,
            new_bytes,
            stored_bytes,
            chunk_count,
        } = self.effort;
        out.extend_from_slice(&self.key.to_le_bytes());
        let counts = [
            self.root.length,
            read_bytes,
            zero_bytes,
            new_bytes,
            stored_bytes,
            chunk_count,
        ];
        counts
            .iter()
            .for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        put_blob(out, self.label.as_bytes());
        put_blob(out, backing.as_bytes());
        put_blob(out, change_id.as_bytes());
        put_blob(out, &root);
        Ok(())
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, Error> {
        let key = i32::from_le_bytes(fields.array()?);
        let capacity = fields.u64()?;
        let effort = Effort {
            read_bytes: fields.u64()?,
            zero_bytes: fields.u64()?,
            new_bytes: fields.u64()?,
            stored_bytes: fields.u64()?,
            chunk_count: fields.u64()?,
        };
        let label = fields.text("label", TEXT_BYTES_MAX)?;
        let present = |text: String| Some(text).filter(|text| !text.is_empty());
        let backing = fields.text("backing", BACKING_BYTES_MAX).map(present)?;
        let change_id = fields.text("change id", TEXT_BYTES_MAX).map(present)?;
        let root =
            DiskRoot::decode(fields.blob(ROOT_BYTES_MAX)?).map_err(|_| fields.refuse("root"))?;
        if root.length != capacity {
            return Err(fields.refuse("capacity"));
        }
        Ok(Self {
            key,
            label,
            backing,
            change_id,
            root,
            effort,
        })
    }
}

/// A text that is empty on disk when there is none; an empty one would come back as none.
fn optional<'a>(
    field: &'static str,
    text: &'a Option<String>,
    limit: usize,
) -> Result<&'a str, Error> {
    match text.as_deref() {
        Some("") => Err(Error::Field { what: WHAT, field }),
        Some(text) => bounded(field, text.len(), limit).map(|()| text),
        None => Ok(""),
    }
}

fn bounded(what: &'static str, found: usize, limit: usize) -> Result<(), Error> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::TooLong {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

#[cfg(test)]
mod tests;
