//! Reading the tables of packs.

use std::collections::HashSet;
use std::path::Path;

use stillwater_format::pack::{
    Entry, FOOTER_LEN, Footer, HEADER_LEN, Header, PACK_BYTES_MAX, Trailer, scan,
};
use stillwater_types::PackId;

use crate::index::{PackFacts, PackTable};
use crate::vfs::{Access, File, Vfs};
use crate::{Error, layout};

type Table = (Header, Vec<Entry>);

/// Every pack that has its name.
pub(crate) fn list(vfs: &dyn Vfs) -> Result<HashSet<PackId>, Error> {
    let mut found = HashSet::new();
    for dir in layout::pack_dirs() {
        let names = vfs.list(&dir).map_err(Error::io("list", &dir))?;
        found.extend(
            names
                .iter()
                .filter_map(|name| layout::parse_pack(&name.name)),
        );
    }
    Ok(found)
}

/// Reads the table of a pack from its trailer, or if that is damaged, record by record. None if nobody
/// can tell whose records they are.
pub(crate) fn read(vfs: &dyn Vfs, id: PackId) -> Result<Option<PackTable>, Error> {
    let path = layout::pack(id);
    let file = vfs
        .open(&path, Access::Read)
        .map_err(Error::io("open", &path))?;
    let length = file.len().map_err(Error::io("measure", &path))?;
    let mut found = by_footer(&*file, &path, id, length)?;
    if found.is_err() {
        // A wrong byte may come from the way instead of the medium, and the index keeps what is told here.
        found = by_footer(&*file, &path, id, length)?;
    }
    let error = match found {
        Ok((header, entries)) => {
            let facts = PackFacts::of(&header, &entries, length, true);
            return Ok(Some((facts, entries)));
        }
        Err(error) => error,
    };
    tracing::error!(pack = %id, %error, "read a damaged pack record by record");
    let salvaged = salvage(&*file, &path, id, length)?;
    Ok(salvaged.map(|(header, entries)| {
        let facts = PackFacts::of(&header, &entries, length, false);
        (facts, entries)
    }))
}

/// The entries of a pack wherever it lies, by its trailer or else by its records.
pub(crate) fn entries(file: &dyn File, path: &Path) -> Result<Vec<Entry>, Error> {
    let length = file.len().map_err(Error::io("measure", path))?;
    let mut footer = [0; FOOTER_LEN];
    let end = length.checked_sub(FOOTER_LEN as u64);
    let read = end.map(|at| file.read_exact_at(&mut footer, at));
    if matches!(read, Some(Ok(())))
        && let Ok(footer) = Footer::decode(&footer, length)
    {
        let mut trailer = vec![0; footer.trailer_len as usize];
        file.read_exact_at(&mut trailer, footer.trailer_offset)
            .map_err(Error::io("read", path))?;
        if let Ok(trailer) = Trailer::decode(&trailer, &footer) {
            return Ok(trailer.entries);
        }
    }
    let length = length.min(PACK_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::io("read", path))?;
    Ok(scan(&bytes).map(|(entry, _)| entry).collect())
}

/// Reads header and trailer by way of the footer. The inner error is damage.
fn by_footer(
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
    let decoded = decode_header(&header, id)
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

/// Reads the header of the pack with that id.
pub(crate) fn decode_header(
    bytes: &[u8; HEADER_LEN],
    id: PackId,
) -> Result<Header, stillwater_format::Error> {
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

/// Finds what is left of a damaged pack. Without a header, or one that can be mended, nobody knows whose
/// records they are.
fn salvage(file: &dyn File, path: &Path, id: PackId, length: u64) -> Result<Option<Table>, Error> {
    let length = length.min(PACK_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::io("read", path))?;
    let whole = |header| {
        decode_header(header, id)
            .ok()
            .or_else(|| Header::mend(header, id))
    };
    let Some(header) = bytes.first_chunk().and_then(whole) else {
        return Ok(None);
    };
    let entries = scan(&bytes).map(|(entry, _)| entry).collect();
    Ok(Some((header, entries)))
}
