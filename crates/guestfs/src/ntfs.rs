//! NTFS. The layout is documented by the Linux-NTFS project; compressed files by [MS-XCA] 2.5 (LZNT1).
//!
//! The log is not played back: where Windows had not closed it, the file system says so as a loss. Compact OS,
//! deduplication and files in a cloud are reparse points whose content is refused, never given as zeros.

mod attribute;
mod boot;
mod compressed;
mod index;
mod lznt1;
mod metadata;
mod record;
mod reparse;

use std::sync::Arc;

use crate::content::{Content, Inline, Mapped};
use crate::file_system::{
    Attribute as Extended, Cursor, Description, FileSystem, Kind, Metadata, Node, Page, Stream,
};
use crate::source::Disk;
use crate::view::{View, text, wide_bytes};
use crate::{Error, Limits, Loss, Result};

use attribute::{Body, File};
use boot::Boot;
pub(crate) use boot::is_here;
use record::Reference;

const MFT: u64 = 0;
const LOG_FILE: u64 = 2;
const VOLUME: u64 = 3;
const ROOT: u64 = 5;

/// An NTFS file system.
pub(crate) struct Ntfs {
    disk: Disk,
    boot: Boot,
    /// The master file table, as a file.
    table: Mapped,
    label: Option<String>,
    log_is_open: bool,
    limits: Limits,
}

impl Ntfs {
    pub fn open(disk: Disk, limits: &Limits) -> Result<Self> {
        let boot = Boot::read(&*disk)?;
        let table = Mapped {
            pieces: boot.first_record(limits)?,
            disk: Arc::clone(&disk),
            length: boot.record_bytes as u64,
            valid: u64::MAX,
        };
        let mut system = Self {
            disk,
            boot,
            table,
            label: None,
            log_is_open: false,
            limits: limits.clone(),
        };
        // What the first record says of the table is enough to find its other records, which say the rest.
        let base = File::base(&system, Reference::any(MFT))?;
        system.table = system.table_of(&base)?;
        let all = File::read(&system, Reference::any(MFT))?;
        system.table = system.table_of(&all)?;
        system.look_at_volume()?;
        Ok(system)
    }

    fn table_of(&self, file: &File) -> Result<Mapped> {
        let attributes = file.all_of(attribute::DATA, b"");
        attribute::mapped(self, file.number, &attributes)
    }

    fn look_at_volume(&mut self) -> Result<()> {
        let volume = File::read(self, Reference::any(VOLUME))?;
        let name = volume.resident(attribute::VOLUME_NAME);
        self.label = name.and_then(|name| text(&wide_bytes(name)));
        let facts = volume.resident(attribute::VOLUME_INFORMATION);
        let dirty = facts
            .and_then(|facts| facts.get(10))
            .is_some_and(|flags| flags & 1 != 0);
        self.log_is_open = dirty || self.log_has_clients()?;
        Ok(())
    }

    /// Whether whoever wrote the log last has not closed it.
    fn log_has_clients(&self) -> Result<bool> {
        const NO_CLIENT: u16 = 0xffff;
        const CLEAN: u16 = 0x2;
        let log = File::read(self, Reference::any(LOG_FILE))?;
        let content = self.content(&log, b"")?;
        let mut page = vec![0; 4096];
        let count = content.read_at(0, &mut page)?;
        page.truncate(count);
        if page.get(..4) != Some(b"RSTR") {
            return Ok(false);
        }
        let view = View::new(&page, "NTFS log", 0);
        let area = view.rest(view.le16(0x18)?.into())?;
        Ok(area.le16(0xc)? != NO_CLIENT && area.le16(0xe)? & CLEAN == 0)
    }

    /// The bytes of a record of the table.
    fn record(&self, number: u64) -> Result<Vec<u8>> {
        let mut raw = vec![0; self.boot.record_bytes];
        let offset = number.saturating_mul(raw.len() as u64);
        let count = self.table.read_at(offset, &mut raw)?;
        if count < raw.len() {
            return Err(Error::Damaged {
                structure: "NTFS file reference",
                at: number,
                what: "it is beyond the file table",
            });
        }
        Ok(raw)
    }

    fn file(&self, node: Node) -> Result<File> {
        File::read(self, Reference(node.id))
    }

    /// The stream `name`; without a name it is the file's own content.
    fn content(&self, file: &File, name: &[u8]) -> Result<Box<dyn Content>> {
        let attributes = file.all_of(attribute::DATA, name);
        let first = attributes.first().ok_or(Error::NoContent)?;
        if first.is_encrypted() {
            return Err(Error::Lost(Loss::Encrypted));
        }
        match &first.body {
            Body::Resident(value) => Ok(Box::new(Inline(value.clone()))),
            Body::Outside(outside) => {
                let mapped = attribute::mapped(self, file.number, &attributes)?;
                let unit = outside.compression_unit;
                if !first.is_compressed() {
                    return Ok(Box::new(mapped));
                }
                compressed::content(mapped, unit, self.boot.cluster_bytes)
            }
        }
    }
}

impl FileSystem for Ntfs {
    fn describe(&self) -> Description {
        let mut losses = vec![
            Loss::Mode,
            Loss::Owner,
            Loss::AccessControl("NTFS security descriptors"),
        ];
        if self.log_is_open {
            losses.push(Loss::Unfinished("what only the log of NTFS held"));
        }
        Description {
            kind: "ntfs",
            label: self.label.clone(),
            uuid: Some(format!("{:016X}", self.boot.serial)),
            bytes: self.boot.bytes,
            losses,
        }
    }

    fn root(&self) -> Node {
        Node::new(Reference::any(ROOT).0)
    }

    fn metadata(&self, node: Node) -> Result<Metadata> {
        metadata::of(self, &self.file(node)?)
    }

    fn read_dir(&self, node: Node, from: Cursor) -> Result<Page> {
        let file = self.file(node)?;
        if metadata::kind(&file)? != Kind::Directory {
            return Err(Error::NotADirectory);
        }
        index::page(self, &file, from)
    }

    fn open(&self, node: Node) -> Result<Box<dyn Content>> {
        let file = self.file(node)?;
        if metadata::kind(&file)? != Kind::File {
            return Err(Error::NoContent);
        }
        if let Some(tag) = file.reparse_tag.filter(|&tag| reparse::hides_content(tag)) {
            return Err(Error::Lost(Loss::Reparse(tag)));
        }
        self.content(&file, b"")
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        let file = self.file(node)?;
        if metadata::kind(&file)? != Kind::Link {
            return Err(Error::NotALink);
        }
        reparse::target(&self.reparse_point(&file)?)
    }

    /// Reparse points and extended attributes of OS/2, as `ntfs-3g` names them.
    fn attributes(&self, node: Node) -> Result<Vec<Extended>> {
        let file = self.file(node)?;
        let mut all = Vec::new();
        for (kind, name) in [
            (attribute::REPARSE_POINT, "system.ntfs_reparse_data"),
            (attribute::EXTENDED, "system.ntfs_ea"),
        ] {
            if let Some(value) = self.value(&file, kind)? {
                let name = name.as_bytes().to_vec();
                all.push(Extended { name, value });
            }
        }
        Ok(all)
    }

    fn streams(&self, node: Node) -> Result<Vec<Stream>> {
        let file = self.file(node)?;
        let streams = file.attributes.iter().filter(|attribute| {
            attribute.kind == attribute::DATA && !attribute.name.is_empty() && attribute.is_first()
        });
        Ok(streams
            .map(|attribute| Stream {
                name: attribute.name.clone(),
                size: attribute.size(),
            })
            .collect())
    }

    fn open_stream(&self, node: Node, name: &[u8]) -> Result<Box<dyn Content>> {
        let file = self.file(node)?;
        match self.content(&file, name) {
            Err(Error::NoContent) => Err(Error::NotFound),
            outcome => outcome,
        }
    }

    /// Letters are folded as Unicode has it, which is nearly the table that the volume carries.
    fn same_name(&self, ours: &[u8], theirs: &[u8]) -> bool {
        let folded = |name: &[u8]| String::from_utf8_lossy(name).to_uppercase();
        folded(ours) == folded(theirs)
    }
}

impl Ntfs {
    /// The whole value of an attribute that is known to be small, wherever it stands.
    fn value(&self, file: &File, kind: u32) -> Result<Option<Vec<u8>>> {
        attribute::small(self, file, kind, b"")
    }

    fn reparse_point(&self, file: &File) -> Result<Vec<u8>> {
        self.value(file, attribute::REPARSE_POINT)?
            .ok_or(Error::NotALink)
    }

    /// Fills `buffer` from a place on the disk, and takes the sequence marks of its sectors out.
    fn sealed(
        &self,
        content: &Mapped,
        offset: u64,
        buffer: &mut [u8],
        magic: &[u8; 4],
    ) -> Result<bool> {
        if content.read_at(offset, buffer)? < buffer.len() || buffer.get(..4) != Some(magic) {
            return Ok(false);
        }
        record::mend(buffer, offset)?;
        Ok(true)
    }
}
