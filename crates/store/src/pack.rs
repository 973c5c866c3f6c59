//! Packs on disk: writing them so that an acknowledged one is durable, and reading their records.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stillwater_format::pack::{
    Entry, HEADER_LEN, Header, RECORD_HEADER_LEN, RecordHeader, RecordId, RecordKind, SALT_LEN,
};
use stillwater_types::{DatasetId, PackId};

use crate::fates::Fates;
use crate::index::{Index, Location, PackFacts, PackTable};
use crate::vfs::{Access, File, Vfs};
use crate::{Error, layout};

mod draft;
pub(crate) mod table;
mod writer;

pub(crate) use draft::Draft;
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
    facts: HashMap<PackId, PackFacts>,
    used_salts: HashSet<[u8; SALT_LEN]>,
    /// Packs that were looked at since the start, and are there as the index has them.
    vouched: HashSet<PackId>,
    stored_bytes: u64,
    /// Packs of which nobody can tell whose records they are.
    headless: HashSet<PackId>,
}

/// A pack and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackLook {
    pub(crate) pack: PackId,
    pub(crate) length: u64,
}

/// How many packs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PackCount {
    pub(crate) pack_count: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) damaged_count: u64,
}

impl Packs {
    /// Opens the index, and reads into it the trailers of those packs that it does not cover. A
    /// damaged pack costs only its own records. The copies in condemned packs are the last choice, and those
    /// that are out are none, though their files may not have been moved yet.
    pub(crate) fn load(
        &self,
        vfs: &dyn Vfs,
        index: &dyn Index,
        fates: &Fates,
    ) -> Result<(), Error> {
        let mut missing = table::list(vfs)?;
        missing.retain(|pack| fates.is_readable(*pack));
        index.condemn(&fates.condemned());
        let covered = index.open(&missing);
        let covered_count = covered.len();
        for facts in covered {
            missing.remove(&facts.pack);
            self.note(facts);
        }
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort_unstable();
        tracing::info!(
            covered = covered_count,
            read = missing.len(),
            "read the tables of packs that the index did not cover"
        );
        let read = |pack| self.read_table(vfs, pack).transpose();
        index.add_all(&mut missing.into_iter().filter_map(read))
    }

    /// Reads a pack's table at the start; none if it is beyond help.
    fn read_table(&self, vfs: &dyn Vfs, pack: PackId) -> Result<Option<PackTable>, Error> {
        let found = table::read(vfs, pack)?;
        match &found {
            Some((facts, _)) => self.note(facts.clone()),
            None => drop(self.known().headless.insert(pack)),
        }
        Ok(found)
    }

    /// Takes in a pack that is durable.
    pub(crate) fn note(&self, facts: PackFacts) {
        let mut known = self.known();
        known
            .used_salts
            .extend(facts.salts.iter().map(|(_, salt)| *salt));
        known.stored_bytes += facts.length;
        known.facts.insert(facts.pack, facts);
    }

    /// Lets go of packs that were taken out. Their salts stay used.
    pub(crate) fn forget(&self, packs: &[PackId]) {
        let mut known = self.known();
        for pack in packs {
            if let Some(facts) = known.facts.remove(pack) {
                known.stored_bytes -= facts.length;
            }
            known.vouched.remove(pack);
            known.headless.remove(pack);
        }
        drop(known);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        packs.iter().for_each(|pack| drop(open.remove(pack)));
    }

    /// What is known of a pack.
    pub(crate) fn facts(&self, pack: PackId) -> Option<PackFacts> {
        self.known().facts.get(&pack).cloned()
    }

    /// Every pack that is known, in the order of ids.
    pub(crate) fn list(&self) -> Vec<PackId> {
        let mut packs: Vec<_> = self.known().facts.keys().copied().collect();
        packs.sort_unstable();
        packs
    }

    /// Every pack that is known, with its length, in no order.
    pub(crate) fn looks(&self) -> Vec<PackLook> {
        let known = self.known();
        let looks = known.facts.values().map(|facts| PackLook {
            pack: facts.pack,
            length: facts.length,
        });
        looks.collect()
    }

    /// The length of a pack.
    pub(crate) fn length(&self, pack: PackId) -> Option<u64> {
        self.known().facts.get(&pack).map(|facts| facts.length)
    }

    /// Whether the pack lies in its place, as far as is known.
    pub(crate) fn is_there(&self, pack: PackId) -> bool {
        let known = self.known();
        known.facts.contains_key(&pack) || known.headless.contains(&pack)
    }

    /// The packs that were found damaged when their tables were read.
    pub(crate) fn damaged(&self) -> Vec<PackId> {
        self.known().damaged().collect()
    }

    /// Reads a pack's table, salts included, from its trailer; if that is damaged, record by record.
    pub(crate) fn table(&self, vfs: &dyn Vfs, pack: PackId) -> Result<Vec<Entry>, Error> {
        let found = table::read(vfs, pack)?;
        found
            .map(|(_, entries)| entries)
            .ok_or_else(|| Error::malformed(format!("pack {pack} has no header")))
    }

    /// Whether a record is where the index has it, so that it may be promised to a session.
    ///
    /// The first promise out of each pack since the start costs three reads of the pack: its length and
    /// header must be what the index was told, and the record's header must lie at the location. After
    /// that the pack is trusted: a location was made from a trailer that fits its hash and is kept
    /// under a checksum that is bound to its place, a pack is never written again under its name, and
    /// what leaves `packs/` is forgotten here. Bits that rot in a record are for the scrub to find,
    /// whose whole read a header would not replace. Reading the header of each record would turn a
    /// backup in which nothing is new into one seek for each 32 KiB.
    pub(crate) fn vouch(&self, vfs: &dyn Vfs, record: &RecordId, at: Location) -> bool {
        if self.known().vouched.contains(&at.pack) {
            return true;
        }
        let outcome = self.look(vfs, record, at);
        match &outcome {
            Ok(true) => {
                self.known().vouched.insert(at.pack);
            }
            Ok(false) => {
                tracing::error!(pack = %at.pack, %record, "a pack is not as the index has it; \
                    the record will be stored again");
            }
            Err(error) => {
                tracing::error!(pack = %at.pack, %record, %error, "cannot look at a pack; \
                    the record will be stored again");
            }
        }
        outcome.unwrap_or(false)
    }

    fn look(&self, vfs: &dyn Vfs, record: &RecordId, at: Location) -> Result<bool, Error> {
        let path = layout::pack(at.pack);
        let file = self.open(vfs, at.pack)?;
        let length = file.len().map_err(Error::io("measure", &path))?;
        let (mut start, mut header) = ([0; HEADER_LEN], [0; RECORD_HEADER_LEN]);
        let read = |buffer: &mut [u8], offset| {
            file.read_exact_at(buffer, offset)
                .map_err(Error::io("read", &path))
        };
        read(&mut start, 0)?;
        read(&mut header, at.offset)?;
        let known = self.known();
        let pack_fits = known.facts.get(&at.pack).is_some_and(|facts| {
            let found = table::decode_header(&start, at.pack);
            facts.length == length
                && found
                    .is_ok_and(|found| (found.dataset, found.fence) == (facts.dataset, facts.fence))
        });
        let record_fits = RecordHeader::decode(&header).is_ok_and(|found| {
            (found.kind, found.id) == (record.kind, record.id)
                && (found.stored_len, found.plain_len) == (at.stored_len, at.plain_len)
        });
        Ok(pack_fits && record_fits)
    }

    /// Whether a pack was sealed under this salt.
    pub(crate) fn is_used(&self, salt: &[u8; SALT_LEN]) -> bool {
        self.known().used_salts.contains(salt)
    }

    pub(crate) fn count(&self) -> PackCount {
        let known = self.known();
        PackCount {
            pack_count: known.facts.len() as u64,
            stored_bytes: known.stored_bytes,
            damaged_count: known.damaged().count() as u64,
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
            .facts
            .get(&pack)?
            .salts
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

    /// Closes all packs, as if others had been read since.
    #[cfg(test)]
    pub(crate) fn forget_open(&self) {
        self.open.lock().unwrap().clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn damaged(&self) -> impl Iterator<Item = PackId> {
        let broken = self.facts.values().filter(|facts| !facts.is_whole);
        let headless = self.headless.iter().copied();
        broken.map(|facts| facts.pack).chain(headless)
    }
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
