//! Whether storage keeps the promises that durability is made of; tried at every start, or once there is room for that.

use std::io;
use std::path::Path;

use crate::vfs::{Access, Medium, Vfs};
use crate::{Error, Rng, durable, layout};

const PROBE: &[u8] = b"stillwater durability self-test";

/// Refuses storage that forgets by design.
pub(crate) fn check_medium(vfs: &dyn Vfs, allow_volatile: bool) -> Result<(), Error> {
    match vfs.medium().map_err(Error::io("inspect", Path::new(".")))? {
        Medium::Volatile(name) if !allow_volatile => {
            let why = format!("{name} does not keep what was synced; use a disk file system");
            Err(Error::Unfit { why })
        }
        Medium::Volatile(_) | Medium::Lasting => Ok(()),
    }
}

/// Tries every call that the write order relies on, in `tmp/`.
pub(crate) fn self_test(vfs: &dyn Vfs, rng: &dyn Rng) -> Result<(), Error> {
    let (first, second) = (durable::tmp_path(rng)?, durable::tmp_path(rng)?);
    let outcome = try_calls(vfs, &first, &second);
    durable::discard(vfs, &first);
    durable::discard(vfs, &second);
    outcome
}

fn try_calls(vfs: &dyn Vfs, first: &Path, second: &Path) -> Result<(), Error> {
    let tmp = Path::new(layout::TMP);
    let file = vfs.create_new(first).map_err(Error::io("create", first))?;
    must_exist(
        vfs.create_new(first).map(drop),
        "creates a file that exists",
    )?;
    file.write_at(PROBE, 0).map_err(Error::io("write", first))?;
    file.sync().map_err(Error::io("sync", first))?;
    let other = vfs
        .open(first, Access::Write)
        .map_err(Error::io("open", first))?;
    let locks = [file.try_lock(), other.try_lock()];
    let [Ok(true), Ok(false)] = locks else {
        return unfit("does not keep a second process from locking a file");
    };
    drop(other);
    vfs.rename_noreplace(first, second)
        .map_err(Error::io("rename to", second))?;
    drop(vfs.create_new(first).map_err(Error::io("create", first))?);
    must_exist(
        vfs.rename_noreplace(first, second),
        "renames over a file that exists",
    )?;
    vfs.sync_dir(tmp)
        .map_err(Error::io("sync directory", tmp))?;
    if durable::read_all(vfs, second, PROBE.len() as u64)? != PROBE {
        return unfit("does not read back what was written");
    }
    Ok(())
}

fn must_exist(outcome: io::Result<()>, why: &str) -> Result<(), Error> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("try", Path::new(layout::TMP))(error)),
        Ok(()) => unfit(why),
    }
}

fn unfit(why: &str) -> Result<(), Error> {
    Err(Error::Unfit {
        why: format!("it {why}"),
    })
}
