//! What there are two copies of: each is read again, and a bad one is written anew from the good one.

use std::io::ErrorKind;
use std::path::Path;

use stillwater_format::manifest::{MANIFEST_BYTES_MAX, manifest_hash};

use super::load::is_medium;
use crate::gc::Root;
use crate::store::{Inner, Ledger};
use crate::{Error, durable, layout, superblock};

/// Reads commit log and superblock again. Gives how many copies were written anew.
pub(super) fn check(inner: &Inner) -> Result<u64, Error> {
    let mut ledger = inner.writable_ledger()?;
    let healed = inner.heal_superblock(&mut ledger)?;
    let mark = ledger.log.mark();
    drop(ledger);
    // Without the lock, since the log may be long; what is appended meanwhile does not matter.
    if mark.is_in_both(&*inner.vfs)? {
        inner.scrub.memory().is_log_damaged = false;
        return Ok(healed);
    }
    Ok(healed + heal_log(inner)?)
}

fn heal_log(inner: &Inner) -> Result<u64, Error> {
    let mut ledger = inner.writable_ledger()?;
    let outcome = ledger.log.heal(&*inner.vfs, &*inner.rng);
    if ledger.log.failed() {
        inner.stop("write a copy of the commit log anew");
    }
    drop(ledger);
    if matches!(outcome, Err(Error::LogForged { .. })) {
        tracing::error!(
            "both copies of the commit log are damaged; do not stop the repository, and save what \
             it holds"
        );
        inner.scrub.memory().is_log_damaged = true;
        return Ok(0);
    }
    inner.scrub.memory().is_log_damaged = false;
    outcome
}

/// What became of reading a copy of a manifest.
enum Copy {
    Good(Vec<u8>),
    Bad,
    Missing,
    /// The medium or something else failed; it may be good.
    Unreadable,
}

/// A point's manifest, and both copies good again if one of them is. None if neither is.
pub(super) fn manifest(
    inner: &Inner,
    root: &Root,
    healed: &mut u64,
) -> Result<Option<Vec<u8>>, Error> {
    let paths = layout::manifest(root.point);
    let copies = paths.each_ref().map(|path| read(inner, path, root));
    let good = copies.iter().find_map(|copy| match copy {
        Copy::Good(bytes) => Some(bytes.clone()),
        Copy::Bad | Copy::Missing | Copy::Unreadable => None,
    });
    let Some(good) = good else {
        tracing::error!(point = %root.point, "neither copy of a manifest can be read");
        return Ok(None);
    };
    for (path, copy) in paths.iter().zip(&copies) {
        if matches!(copy, Copy::Bad | Copy::Missing) && heal(inner, root, path, &good)? {
            *healed += 1;
        }
    }
    Ok(Some(good))
}

fn read(inner: &Inner, path: &Path, root: &Root) -> Copy {
    match durable::read_all(&*inner.vfs, path, MANIFEST_BYTES_MAX as u64 + 1) {
        Ok(bytes) if manifest_hash(&bytes) == root.manifest_hash => Copy::Good(bytes),
        Ok(_) => Copy::Bad,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Copy::Missing,
        Err(error) => {
            inner.scrub.note_read_error();
            tracing::warn!(path = %path.display(), %error, "cannot read a copy of a manifest");
            match error {
                // The other copy is good, so nothing is risked by writing this one anew.
                Error::Io { source, .. } if is_medium(&source) => Copy::Bad,
                _ => Copy::Unreadable,
            }
        }
    }
}

/// Writes a copy anew, unless the point was deleted meanwhile or somebody else did it.
fn heal(inner: &Inner, root: &Root, path: &Path, good: &[u8]) -> Result<bool, Error> {
    let ledger = inner.writable_ledger()?;
    if !ledger.roots.has(root.point) {
        return Ok(false);
    }
    match read(inner, path, root) {
        Copy::Good(_) | Copy::Unreadable => return Ok(false),
        Copy::Bad => drop(durable::quarantine(&*inner.vfs, &*inner.rng, path)?),
        Copy::Missing => {}
    }
    durable::publish(&*inner.vfs, &*inner.rng, path, good)?;
    drop(ledger);
    tracing::error!(point = %root.point, path = %path.display(), "wrote a copy of a manifest anew");
    Ok(true)
}

impl Inner {
    /// Writes a damaged superblock anew. The one that is good is not touched.
    fn heal_superblock(&self, ledger: &mut Ledger) -> Result<u64, Error> {
        let newest = ledger.superblock();
        let [is_newest_good, is_older_good] = superblock::are_good(&*self.vfs, &newest)?;
        if is_newest_good && is_older_good {
            return Ok(0);
        }
        tracing::error!("wrote a damaged superblock anew");
        if is_newest_good {
            // The next one goes where the older one was.
            self.record(ledger)?;
        } else {
            superblock::write(&*self.vfs, &*self.rng, &newest)?;
        }
        Ok(1)
    }
}
