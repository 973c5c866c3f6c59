//! Packs on disk: writing them so that an acknowledged one is durable, and reading their records.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_format::pack::{
    Entry, FOOTER_LEN, Footer, HEADER_LEN, Header, PACK_BYTES_MAX, RECORD_HEADER_LEN, RecordHeader,
    RecordId, RecordKind, SALT_LEN, Trailer, scan,
};
use stillwater_types::{DatasetId, PackId};

use crate::index::{Index, Location};
use crate::vfs::{Access, File, Vfs};
use crate::{Error, layout};

mod writer;

pub use writer::{Appended, PackReceipt, PackWriter};

/// How many packs stay open for reading.
const OPEN_PACKS_MAX: usize = 128;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its header.
    pub header: RecordHeader,
    /// What follows the header.
    pub stored: Vec<u8>,
    /// The salt of a chunk; none for nodes.
    pub salt: Option<[u8; SALT_LEN]>,
}

/// What is known of every pack.
#[derive(Default)]
pub(crate) struct Packs {
    known: Mutex<Known>,
    open: Mutex<HashMap<PackId, Arc<dyn File>>>,
}

#[derive(Default)]
struct Known {
    salts: HashMap<PackId, Vec<(u16, [u8; SALT_LEN])>>,
    used_salts: HashSet<[u8; SALT_LEN]>,
    stored_bytes: u64,
    damaged_count: u64,
}

/// How many packs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PackCount {
    pub(crate) pack_count: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) damaged_count: u64,
}

impl Packs {
    /// Reads the trailers of all packs into the index. A damaged pack costs only its own records.
    pub(crate) fn load(&self, vfs: &dyn Vfs, index: &dyn Index) -> Result<(), Error> {
        for dir in layout::pack_dirs() {
            for name in vfs.list(&dir).map_err(Error::io("list", &dir))? {
                let Some(id) = layout::parse_pack(&name.name) else {
                    continue;
                };
                let path = layout::pack(id);
                let file = vfs
                    .open(&path, Access::Read)
                    .map_err(Error::io("open", &path))?;
                let length = file.len().map_err(Error::io("measure", &path))?;
                let (header, entries, whole) = match read_table(&*file, &path, id, length)? {
                    Ok((header, entries)) => (header, entries, true),
                    Err(error) => {
                        tracing::error!(pack = %id, %error, "read a damaged pack record by record");
                        let Some((header, entries)) = salvage(&*file, &path, id, length)? else {
                            self.known().damaged_count += 1;
                            continue;
                        };
                        (header, entries, false)
                    }
                };
                self.note(id, &entries, length, whole);
                index.add(id, header.dataset, &entries)?;
            }
        }
        Ok(())
    }

    /// Takes in a pack that is durable.
    pub(crate) fn note(&self, id: PackId, entries: &[Entry], length: u64, whole: bool) {
        let salts: Vec<_> = entries
            .iter()
            .filter(|entry| entry.kind == RecordKind::Salt)
            .map(|entry| (entry.slot, entry.id))
            .collect();
        let mut known = self.known();
        known.used_salts.extend(salts.iter().map(|(_, salt)| *salt));
        known.salts.insert(id, salts);
        known.stored_bytes += length;
        known.damaged_count += u64::from(!whole);
    }

    /// Whether a pack was sealed under this salt.
    pub(crate) fn is_used(&self, salt: &[u8; SALT_LEN]) -> bool {
        self.known().used_salts.contains(salt)
    }

    pub(crate) fn count(&self) -> PackCount {
        let known = self.known();
        PackCount {
            pack_count: known.salts.len() as u64,
            stored_bytes: known.stored_bytes,
            damaged_count: known.damaged_count,
        }
    }

    /// Reads a record and checks it against its hash.
    pub(crate) fn read(
        &self,
        vfs: &dyn Vfs,
        record: RecordId,
        at: Location,
    ) -> Result<StoredRecord, Error> {
        let path = layout::pack(at.pack);
        let file = self.open(vfs, at.pack)?;
        let mut bytes = vec![0; RECORD_HEADER_LEN + at.stored_len as usize];
        let damaged = || Error::Damaged {
            record,
            pack: at.pack,
        };
        match file.read_exact_at(&mut bytes, at.offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(damaged());
            }
            outcome => outcome.map_err(Error::io("read", &path))?,
        }
        let header = bytes
            .first_chunk()
            .and_then(|header| RecordHeader::decode(header).ok());
        let header = header.ok_or_else(damaged)?;
        bytes.drain(..RECORD_HEADER_LEN);
        let fits = (header.kind, header.id) == (record.kind, record.id)
            && header.plain_len == at.plain_len
            && header.check(&bytes).is_ok();
        let salt = match header.kind {
            RecordKind::Chunk => Some(self.salt(at.pack, header.slot).ok_or_else(damaged)?),
            RecordKind::Node | RecordKind::Salt => None,
        };
        if fits {
            Ok(StoredRecord {
                header,
                stored: bytes,
                salt,
            })
        } else {
            Err(damaged())
        }
    }

    fn salt(&self, pack: PackId, slot: u16) -> Option<[u8; SALT_LEN]> {
        let known = self.known();
        known
            .salts
            .get(&pack)?
            .iter()
            .find(|(at, _)| *at == slot)
            .map(|(_, salt)| *salt)
    }

    fn open(&self, vfs: &dyn Vfs, id: PackId) -> Result<Arc<dyn File>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_PACKS_MAX {
            open.clear();
        }
        let path = layout::pack(id);
        let file = vfs
            .open(&path, Access::Read)
            .map_err(Error::io("open", &path))?;
        let file: Arc<dyn File> = Arc::from(file);
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Table = (Header, Vec<Entry>);

/// Reads header and trailer by way of the footer. The inner error is damage.
fn read_table(
    file: &dyn File,
    path: &Path,
    id: PackId,
    length: u64,
) -> Result<Result<Table, stillwater_format::Error>, Error> {
    let short = stillwater_format::Error::Short { what: "pack" };
    if length < (HEADER_LEN + FOOTER_LEN) as u64 {
        return Ok(Err(short));
    }
    let (mut header, mut footer) = ([0; HEADER_LEN], [0; FOOTER_LEN]);
    file.read_exact_at(&mut header, 0)
        .map_err(Error::io("read", path))?;
    file.read_exact_at(&mut footer, length - FOOTER_LEN as u64)
        .map_err(Error::io("read", path))?;
    let decoded = read_header(&header, id)
        .and_then(|header| Footer::decode(&footer, length).map(|footer| (header, footer)));
    let (header, footer) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return Ok(Err(error)),
    };
    let mut trailer = vec![0; footer.trailer_len as usize];
    file.read_exact_at(&mut trailer, footer.trailer_offset)
        .map_err(Error::io("read", path))?;
    Ok(Trailer::decode(&trailer, &footer).map(|trailer| (header, trailer.entries)))
}

fn read_header(bytes: &[u8; HEADER_LEN], id: PackId) -> Result<Header, stillwater_format::Error> {
    let header = Header::decode(bytes)?;
    if header.pack == id {
        Ok(header)
    } else {
        Err(stillwater_format::Error::Field {
            what: "pack header",
            field: "pack id",
        })
    }
}

/// Finds what is left of a damaged pack. Without a header nobody knows whose records they are.
fn salvage(file: &dyn File, path: &Path, id: PackId, length: u64) -> Result<Option<Table>, Error> {
    let length = length.min(PACK_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::io("read", path))?;
    let Some(header) = bytes
        .first_chunk()
        .and_then(|header| read_header(header, id).ok())
    else {
        return Ok(None);
    };
    let entries = scan(&bytes).map(|(entry, _)| entry).collect();
    Ok(Some((header, entries)))
}

/// Everything a pack writer needs of its store.
pub(crate) trait PackHost: Send + Sync {
    fn vfs(&self) -> &dyn Vfs;
    /// Whether a record is stored already, where the session may rely on it.
    fn is_stored(
        &self,
        key: crate::SessionKey,
        dataset: DatasetId,
        record: &RecordId,
    ) -> Result<bool, Error>;
    /// Refuses when `bytes` more do not fit beside the reserve.
    fn check_room(&self, bytes: u64) -> Result<(), Error>;
    /// Reveals a synced pack, unless its session is over, and takes it in.
    fn publish(&self, pack: &FinishedPack<'_>) -> Result<(), Error>;
    /// Notes that writing failed.
    fn note_failure(&self, error: &Error);
}

/// A pack that is synced under its name in `tmp/`.
pub(crate) struct FinishedPack<'a> {
    pub(crate) header: Header,
    pub(crate) key: crate::SessionKey,
    pub(crate) tmp: &'a Path,
    pub(crate) entries: &'a [Entry],
    pub(crate) length: u64,
}

/// Removes what earlier processes left in `tmp/`.
pub(crate) fn clean_tmp(vfs: &dyn Vfs) -> Result<u64, Error> {
    let dir = Path::new(layout::TMP);
    let mut removed = 0;
    for name in vfs.list(dir).map_err(Error::io("list", dir))? {
        let path = dir.join(&name.name);
        if !name.is_dir {
            vfs.remove_file(&path).map_err(Error::io("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}
