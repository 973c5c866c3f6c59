//! The pair of superblocks on disk.

use std::io;
use std::path::Path;

use stillwater_format::superblock::{SUPERBLOCK_LEN, Superblock};

use crate::vfs::{Access, Vfs};
use crate::{Error, Rng, durable, layout};

/// Reads the superblock that counts; `None` when there was never one.
pub(crate) fn read(vfs: &dyn Vfs) -> Result<Option<Superblock>, Error> {
    let found = layout::SUPERBLOCKS.map(|name| read_one(vfs, Path::new(name)));
    let mut best: Option<Superblock> = None;
    let mut damage = None;
    for one in found {
        match one? {
            Some(Ok(superblock)) if best.is_none_or(|b| b.generation < superblock.generation) => {
                best = Some(superblock);
            }
            // Whatever the other says, this repository was in the hands of a newer release.
            Some(Err(error @ stillwater_format::Error::TooNew { .. })) => {
                return Err(Error::TooNew(error));
            }
            Some(Err(error)) => damage = Some(error),
            Some(Ok(_)) | None => {}
        }
    }
    match (best, damage) {
        (None, Some(error)) => Err(Error::SuperblockDamaged(error)),
        (best, _) => Ok(best),
    }
}

/// Whether `newest` lies where it was written, and any older one beside it.
pub(crate) fn are_good(vfs: &dyn Vfs, newest: &Superblock) -> Result<[bool; 2], Error> {
    let [first, second] = layout::SUPERBLOCKS.map(Path::new);
    let (new, old) = if newest.generation % 2 == 1 {
        (first, second)
    } else {
        (second, first)
    };
    let is_newest = matches!(read_one(vfs, new)?, Some(Ok(found)) if found == *newest);
    // After the first start there was never an older one.
    let is_older = match read_one(vfs, old)? {
        Some(Ok(found)) => found.generation < newest.generation,
        Some(Err(_)) => false,
        None => newest.generation == 1,
    };
    Ok([is_newest, is_older])
}

type Decoded = Result<Superblock, stillwater_format::Error>;

fn read_one(vfs: &dyn Vfs, path: &Path) -> Result<Option<Decoded>, Error> {
    match vfs.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
        Ok(_) => {}
    }
    let bytes = durable::read_all(vfs, path, SUPERBLOCK_LEN as u64 + 1)?;
    Ok(Some(Superblock::decode(&bytes)))
}

/// Writes the next superblock where the older one is.
///
/// In place, since the other one stands until this one is durable.
pub(crate) fn write(vfs: &dyn Vfs, rng: &dyn Rng, superblock: &Superblock) -> Result<(), Error> {
    let odd = usize::from(superblock.generation % 2 == 1);
    let [first, second] = layout::SUPERBLOCKS;
    let path = Path::new(if odd == 1 { first } else { second });
    let file = match vfs.open(path, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return durable::publish(vfs, rng, path, &superblock.encode());
        }
        opened => opened.map_err(Error::io("open", path))?,
    };
    file.write_at(&superblock.encode(), 0)
        .map_err(Error::io("write", path))?;
    // Only one that is too long: cutting makes the file system write its journal as well.
    if file.len().map_err(Error::io("measure", path))? != SUPERBLOCK_LEN as u64 {
        file.set_len(SUPERBLOCK_LEN as u64)
            .map_err(Error::io("cut", path))?;
    }
    file.sync().map_err(Error::io("sync", path))
}
