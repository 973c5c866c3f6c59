//! Looking for lost records among packs that lie in quarantine, whatever they lie there for.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::Path;

use stillwater_format::pack::{
    Entry, HEADER_LEN, Header, RECORD_HEADER_LEN, RecordHeader, RecordId, RecordKind,
};
use stillwater_types::{DatasetId, PackId};

use crate::gc::compact::Copier;
use crate::pack::{StoredRecord, table};
use crate::store::Inner;
use crate::vfs::{Access, File};
use crate::{Error, layout};

/// Copies those of the `lost` records of which a sound copy is found, and takes them out.
///
/// What cannot be read there is passed over: it is no worse than before.
pub(super) fn rescue(
    inner: &Inner,
    dataset: DatasetId,
    lost: &mut BTreeSet<RecordId>,
    copier: &mut Copier<'_>,
) -> Result<(), Error> {
    if lost.is_empty() {
        return Ok(());
    }
    let dir = Path::new(layout::QUARANTINE);
    let names = inner.vfs.list(dir).map_err(Error::io("list", dir))?;
    let mut packs: Vec<_> = names
        .iter()
        .filter_map(|name| layout::parse_pack(&name.name))
        .collect();
    packs.sort_unstable();
    for pack in packs {
        if lost.is_empty() {
            break;
        }
        match Aside::open(inner, pack, dataset) {
            Ok(Some(aside)) => aside.give(lost, copier)?,
            Ok(None) => {}
            Err(error) => tracing::warn!(%pack, %error, "cannot look for records in quarantine"),
        }
    }
    Ok(())
}

/// A pack in quarantine.
struct Aside {
    pack: PackId,
    file: Box<dyn File>,
    entries: Vec<Entry>,
}

impl Aside {
    fn open(inner: &Inner, pack: PackId, dataset: DatasetId) -> Result<Option<Self>, Error> {
        let path = layout::quarantined_pack(pack);
        let file = match inner.vfs.open(&path, Access::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::io("open", &path))?,
        };
        let mut header = [0; HEADER_LEN];
        let read = file.read_exact_at(&mut header, 0);
        let is_other =
            read.is_ok() && Header::decode(&header).is_ok_and(|header| header.dataset != dataset);
        if is_other {
            return Ok(None);
        }
        let entries = table::entries(&*file, &path)?;
        Ok(Some(Self {
            pack,
            file,
            entries,
        }))
    }

    fn give(&self, lost: &mut BTreeSet<RecordId>, copier: &mut Copier<'_>) -> Result<(), Error> {
        let salts = self.entries.iter().filter(|e| e.kind == RecordKind::Salt);
        let salts: HashMap<_, _> = salts.map(|entry| (entry.slot, entry.id)).collect();
        for entry in &self.entries {
            let (kind, id) = (entry.kind, entry.id);
            let record = RecordId { kind, id };
            if !lost.contains(&record) {
                continue;
            }
            let salt = salts.get(&entry.slot).copied();
            let salt = salt.filter(|_| kind == RecordKind::Chunk);
            if let Some(found) = self.read(entry, salt) {
                tracing::info!(%record, pack = %self.pack, "found a lost record in quarantine");
                copier.put(record, &found)?;
                lost.remove(&record);
            }
        }
        Ok(())
    }

    fn read(&self, entry: &Entry, salt: Option<[u8; 32]>) -> Option<StoredRecord> {
        if entry.kind == RecordKind::Chunk && salt.is_none() {
            return None;
        }
        let mut bytes = vec![0; RECORD_HEADER_LEN + entry.stored_len as usize];
        self.file.read_exact_at(&mut bytes, entry.offset).ok()?;
        let header = RecordHeader::decode(bytes.first_chunk()?).ok()?;
        bytes.drain(..RECORD_HEADER_LEN);
        let fits = Entry::of(&header, entry.offset) == *entry && header.check(&bytes).is_ok();
        fits.then_some(StoredRecord {
            header,
            stored: bytes,
            salt,
        })
    }
}
