//! Writing a file so that after a crash it is whole or absent.

use std::path::{Path, PathBuf};

use stillwater_types::PackId;

use crate::vfs::{File, Vfs};
use crate::{Clock, Error, Rng, layout};

/// A name in `tmp/` that nobody has.
pub(crate) fn tmp_path(rng: &dyn Rng) -> Result<PathBuf, Error> {
    let mut name = [0; 16];
    let tmp = Path::new(layout::TMP);
    rng.fill(&mut name)
        .map_err(Error::io("draw a name for a file in", tmp))?;
    Ok(tmp.join(PackId::from_bytes(name).to_string()))
}

/// A fresh pack id: a UUID of version 7 made from the time and randomness that were passed in.
pub(crate) fn mint_pack(clock: &dyn Clock, rng: &dyn Rng) -> Result<PackId, Error> {
    let mut id = [0; 16];
    rng.fill(&mut id).map_err(Error::io(
        "draw an id for a pack in",
        Path::new(layout::TMP),
    ))?;
    let [.., t0, t1, t2, t3, t4, t5] = clock.wall().millis().to_be_bytes();
    let [a, b, c, d, e, f, version, _, variant, ..] = &mut id;
    (*a, *b, *c, *d, *e, *f) = (t0, t1, t2, t3, t4, t5);
    *version = (*version & 0x0f) | 0x70;
    *variant = (*variant & 0x3f) | 0x80;
    Ok(PackId::from_bytes(id))
}

/// Publishes `bytes` at `path`; refuses to replace.
///
/// The directory is synced too: without it the rename itself may be lost.
pub(crate) fn publish(
    vfs: &dyn Vfs,
    rng: &dyn Rng,
    path: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    let tmp = tmp_path(rng)?;
    let file = vfs.create_new(&tmp).map_err(Error::io("create", &tmp))?;
    let outcome = fill(&*file, &tmp, bytes).and_then(|()| reveal(vfs, &tmp, path));
    drop(file);
    if outcome.is_err() {
        discard(vfs, &tmp);
    }
    outcome
}

fn fill(file: &dyn File, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    file.write_at(bytes, 0).map_err(Error::io("write", path))?;
    file.sync().map_err(Error::io("sync", path))
}

/// Gives a synced file its name.
pub(crate) fn reveal(vfs: &dyn Vfs, tmp: &Path, path: &Path) -> Result<(), Error> {
    vfs.rename_noreplace(tmp, path)
        .map_err(Error::io("rename to", path))?;
    let dir = layout::parent(path);
    vfs.sync_dir(dir).map_err(Error::io("sync directory", dir))
}

/// Removes a file in `tmp/` that came to nothing. If that fails too, the next start removes it.
pub(crate) fn discard(vfs: &dyn Vfs, tmp: &Path) {
    match vfs.remove_file(tmp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %tmp.display(), %error, "left a file in tmp for the next start");
        }
        _ => {}
    }
}

/// Moves what was found damaged out of the way without losing it.
pub(crate) fn quarantine(vfs: &dyn Vfs, rng: &dyn Rng, path: &Path) -> Result<PathBuf, Error> {
    let unique = tmp_path(rng)?;
    let stem = unique.file_name().unwrap_or_default().to_string_lossy();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = Path::new(layout::QUARANTINE).join(format!("{name}.{stem}"));
    vfs.rename_noreplace(path, &aside)
        .map_err(Error::io("move to quarantine", path))?;
    // The name that it had may come back after a crash: what was found damaged is found again.
    let dir = Path::new(layout::QUARANTINE);
    vfs.sync_dir(dir)
        .map_err(Error::io("sync directory", dir))?;
    Ok(aside)
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_all(vfs: &dyn Vfs, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = vfs
        .open(path, crate::vfs::Access::Read)
        .map_err(Error::io("open", path))?;
    let length = file.len().map_err(Error::io("measure", path))?.min(limit);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(Error::io("read", path))?;
    Ok(bytes)
}
