//! Manifests that no commit record followed: their runs failed, and nobody will commit them.
//!
//! They are garbage, and go the way of deleted points: the log says that the point of that id is deleted,
//! so that it cannot be committed any more, and then its manifests are taken out. A run may still be
//! between two sessions, so a manifest has to be seen as long as a pack stays condemned.

use std::collections::BTreeSet;

use stillwater_format::commit::Entry;
use stillwater_format::manifest::{MANIFEST_BYTES_MAX, Manifest};
use stillwater_types::{PointId, RunId};

use crate::store::{Inner, Ledger};
use crate::{Error, durable, layout};

/// Manifests that one cycle gives up at most: each takes an entry of the log.
const ORPHANS_MAX: usize = 1000;

/// Puts on the log that proposals which nobody will commit are deleted.
pub(super) fn abandon(inner: &Inner) -> Result<(), Error> {
    let mut found = list(inner)?;
    let now = {
        let mut ledger = inner.ledger();
        found.retain(|point| is_orphan(&ledger, *point));
        match inner.watch_time(&mut ledger) {
            Some(_) => return Ok(()),
            None => inner.times(&mut ledger).0,
        }
    };
    let ripe = inner
        .gc
        .ripe_orphans(&found, now, inner.options.condemn_wait);
    for point in ripe.into_iter().take(ORPHANS_MAX) {
        if let Some(run) = run_of(inner, point) {
            give_up(inner, point, run)?;
        }
    }
    Ok(())
}

fn list(inner: &Inner) -> Result<BTreeSet<PointId>, Error> {
    let mut found = BTreeSet::new();
    for dir in (0..2).flat_map(layout::manifest_dirs) {
        let names = inner.vfs.list(&dir).map_err(Error::io("list", &dir))?;
        let points = names.iter().map(|name| layout::parse_manifest(&name.name));
        found.extend(points.flatten());
    }
    Ok(found)
}

fn is_orphan(ledger: &Ledger, point: PointId) -> bool {
    !ledger.roots.has(point) && !ledger.deleted.contains_key(&point)
}

/// The run that proposed a point, if either copy tells.
fn run_of(inner: &Inner, point: PointId) -> Option<RunId> {
    layout::manifest(point).iter().find_map(|path| {
        let bytes = durable::read_all(&*inner.vfs, path, MANIFEST_BYTES_MAX as u64 + 1).ok()?;
        let manifest = Manifest::decode(&bytes).ok()?;
        (manifest.point == point).then_some(manifest.run)
    })
}

fn give_up(inner: &Inner, point: PointId, run: RunId) -> Result<(), Error> {
    let mut ledger = inner.ledger();
    let sessions = inner.open_sessions();
    let may_come = sessions.iter().any(|session| session.run == run);
    if may_come || !is_orphan(&ledger, point) {
        return Ok(());
    }
    let (at, _) = inner.times(&mut ledger);
    inner.append(&mut ledger, &Entry::PointDeleted { point, at })?;
    ledger.deleted.insert(point, at);
    tracing::info!(%point, %run, "gave up a proposal that nobody committed");
    Ok(())
}
