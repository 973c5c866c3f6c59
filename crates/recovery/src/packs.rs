//! Where every record is, from the trailers of all packs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stillwater_format::pack::{
    Entry, FOOTER_LEN, Footer, PACK_BYTES_MAX, RecordId, RecordKind, SALT_LEN, Trailer,
};

use crate::directory::Directory;
use crate::{Error, Notes, salvage};

/// How many packs stay open.
const OPEN_MAX: usize = 64;

/// A place where a record with that beginning of an id is. 16 bytes for each record of the repository
/// are all that is held: the record itself tells the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    prefix: u64,
    pack: u32,
    offset: u32,
}

/// The records of all packs.
pub(crate) struct Packs {
    root: PathBuf,
    paths: Vec<PathBuf>,
    rows: Vec<Row>,
    salts: HashMap<(u32, u16), Vec<[u8; SALT_LEN]>>,
    open: HashMap<u32, Arc<File>>,
    trailer: Option<(u32, Vec<Entry>)>,
}

/// Where a record may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: u32,
    pub(crate) offset: u64,
}

impl Packs {
    /// Reads the tables of all packs. `progress` hears how many of how many.
    pub(crate) fn load(
        directory: &Directory,
        notes: &mut Notes,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let paths = directory.packs(notes)?;
        let total = paths.len() as u64;
        let mut packs = Self {
            root: directory.root().to_owned(),
            paths: Vec::new(),
            rows: Vec::new(),
            salts: HashMap::new(),
            open: HashMap::new(),
            trailer: None,
        };
        for (done, path) in (0..).zip(paths) {
            progress(done, total);
            packs.add(path, notes);
        }
        packs.rows.sort_unstable();
        progress(total, total);
        Ok(packs)
    }

    fn add(&mut self, path: PathBuf, notes: &mut Notes) {
        let Ok(pack) = u32::try_from(self.paths.len()) else {
            return notes.add("there are more packs than can be counted");
        };
        match table(&self.root.join(&path), &path, notes) {
            Ok(entries) => entries.iter().for_each(|entry| self.enter(pack, entry)),
            Err(error) => notes.add(format!("cannot read {}: {error}", path.display())),
        }
        self.paths.push(path);
    }

    fn enter(&mut self, pack: u32, entry: &Entry) {
        if entry.kind == RecordKind::Salt {
            self.salts
                .entry((pack, entry.slot))
                .or_default()
                .push(entry.id);
            return;
        }
        // A pack has at most 1 GiB.
        if let Ok(offset) = u32::try_from(entry.offset) {
            let prefix = prefix(&entry.id);
            self.rows.push(Row {
                prefix,
                pack,
                offset,
            });
        }
    }

    /// How many chunks and nodes there are.
    pub(crate) fn record_count(&self) -> usize {
        self.rows.len()
    }

    /// Where a record may be, the best place first.
    pub(crate) fn places(&self, id: &RecordId) -> Vec<Place> {
        let prefix = prefix(&id.id);
        let first = self.rows.partition_point(|row| row.prefix < prefix);
        let same = self
            .rows
            .iter()
            .skip(first)
            .take_while(|row| row.prefix == prefix);
        same.map(|row| Place {
            pack: row.pack,
            offset: u64::from(row.offset),
        })
        .collect()
    }

    /// The salts that a slot of a pack may have.
    pub(crate) fn salts(&self, pack: u32, slot: u16) -> Vec<[u8; SALT_LEN]> {
        self.salts.get(&(pack, slot)).cloned().unwrap_or_default()
    }

    /// What the trailer says of a record whose header is damaged.
    pub(crate) fn entry(&mut self, pack: u32, id: &RecordId) -> Option<Entry> {
        if self
            .trailer
            .as_ref()
            .is_none_or(|(known, _)| *known != pack)
        {
            let file = self.file(pack).ok()?;
            let length = file.metadata().ok()?.len();
            let entries = by_trailer(&file, length).ok().and_then(Result::ok);
            self.trailer = Some((pack, entries.unwrap_or_default()));
        }
        let (_, entries) = self.trailer.as_ref()?;
        let place = entries.binary_search_by_key(&(id.kind, id.id), |entry| (entry.kind, entry.id));
        entries.get(place.ok()?).copied()
    }

    /// Reads some bytes of a pack.
    pub(crate) fn read(&mut self, pack: u32, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file(pack)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn file(&mut self, pack: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.get(&pack) {
            return Ok(Arc::clone(file));
        }
        let path = self
            .paths
            .get(pack as usize)
            .ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(File::open(self.root.join(path))?);
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(pack, Arc::clone(&file));
        Ok(file)
    }
}

fn prefix(id: &[u8; 32]) -> u64 {
    let (first, _) = id.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first)
}

/// The table of a pack: its trailer, or if that is damaged what is found record by record.
fn table(path: &Path, name: &Path, notes: &mut Notes) -> io::Result<Vec<Entry>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let damage = match by_trailer(&file, length) {
        Ok(Ok(entries)) => return Ok(entries),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    notes.add(format!(
        "{} is read record by record: {damage}",
        name.display()
    ));
    let (entries, fault) = salvage::records(&file, length.min(PACK_BYTES_MAX));
    if let Some(fault) = fault {
        notes.add(format!(
            "parts of {} cannot be read: {fault}",
            name.display()
        ));
    }
    Ok(entries)
}

/// The inner error is damage.
fn by_trailer(
    file: &File,
    length: u64,
) -> io::Result<Result<Vec<Entry>, stillwater_format::Error>> {
    let mut footer = [0; FOOTER_LEN];
    let Some(at) = length.checked_sub(FOOTER_LEN as u64) else {
        return Ok(Err(stillwater_format::Error::Short { what: "pack" }));
    };
    file.read_exact_at(&mut footer, at)?;
    let footer = match Footer::decode(&footer, length) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err(error)),
    };
    let mut trailer = vec![0; footer.trailer_len as usize];
    file.read_exact_at(&mut trailer, footer.trailer_offset)?;
    Ok(Trailer::decode(&trailer, &footer).map(|trailer| trailer.entries))
}
