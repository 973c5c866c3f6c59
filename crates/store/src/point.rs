//! Restore points: proposed, then committed, then read.

use std::path::Path;
use std::sync::PoisonError;

use stillwater_format::commit::{Commit, Entry};
use stillwater_format::manifest::{MANIFEST_BYTES_MAX, Manifest, manifest_hash};
use stillwater_types::PointId;

use crate::catalogue::Point;
use crate::closure::{self, Walked};
use crate::session::SessionKey;
use crate::store::{Inner, Ledger, Store, all_points};
use crate::{Error, durable, layout};

/// A manifest that can be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposed {
    /// Names the point.
    pub point: PointId,
    /// BLAKE3 of the manifest.
    pub manifest_hash: [u8; 32],
    /// Nodes and chunks that had to be looked at.
    pub walked_count: u64,
}

/// A proposal that was checked and whose manifest is durable.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) key: SessionKey,
    hash: [u8; 32],
    walked: Walked,
    /// The place of the last loss that the log knew when the walk began.
    lost: u64,
}

/// How often a proposal is walked again because something was lost meanwhile.
const WALKS_MAX: u32 = 3;

impl Store {
    /// Takes a manifest: checks that all it reaches is durable, and makes it durable itself, twice.
    ///
    /// The same manifest may be proposed again. It is no point before it is committed.
    ///
    /// # Errors
    /// When the session is over, the manifest is malformed or not the session's, something that it
    /// reaches is missing, or it cannot be made durable.
    pub fn propose_point(&self, key: SessionKey, bytes: &[u8]) -> Result<Proposed, Error> {
        let manifest = Manifest::decode(bytes).map_err(Error::malformed)?;
        let (point, hash) = (manifest.point, manifest_hash(bytes));
        let (walked, lost) = self.inner.examine(key, &manifest)?;
        let walked_count = walked.count;
        let mut ledger = self.inner.writable_ledger()?;
        let dataset = self.inner.check_session(key)?;
        if let Some(known) = find(&mut ledger, point)?
            && known.commit.manifest_hash != hash
        {
            return Err(Error::refused(
                "a committed point of that id has another manifest",
            ));
        }
        check_not_deleted(&ledger, point)?;
        debug_assert_eq!(dataset, manifest.dataset);
        self.inner.keep_manifest(point, bytes)?;
        let proposal = Proposal {
            key,
            hash,
            walked,
            lost,
        };
        ledger.proposals.insert(point, proposal);
        Ok(Proposed {
            point,
            manifest_hash: hash,
            walked_count,
        })
    }

    /// Appends the commit record: when it returns, the point exists and outlives any crash.
    ///
    /// Committing a point again answers with the point that there is.
    ///
    /// # Errors
    /// When the session is over, nothing was proposed, or it cannot be made durable.
    pub fn commit_point(&self, key: SessionKey, point: PointId) -> Result<Point, Error> {
        let known = find(&mut self.inner.ledger(), point)?;
        if let Some(known) = known.filter(|known| known.commit.run == key.run) {
            return Ok(known);
        }
        for _ in 0..WALKS_MAX {
            self.inner.check_session(key)?;
            if !self.inner.is_proposed(&self.inner.ledger(), key, point) {
                let proposal = self.inner.recall(key, point)?;
                self.inner.ledger().proposals.insert(point, proposal);
            }
            if let Some(committed) = self.try_commit(key, point)? {
                return Ok(committed);
            }
        }
        Err(Error::refused(
            "something that it reaches is lost again and again; look after the disk",
        ))
    }

    /// Commits, unless the walk of the proposal does not count any more.
    fn try_commit(&self, key: SessionKey, point: PointId) -> Result<Option<Point>, Error> {
        let mut ledger = self.inner.writable_ledger()?;
        // Checked under the ledger's lock: no newer session can come between this and the record.
        let dataset = self.inner.check_session(key)?;
        if let Some(known) = find(&mut ledger, point)? {
            return Ok(Some(known));
        }
        check_not_deleted(&ledger, point)?;
        if !self.inner.is_proposed(&ledger, key, point) {
            return Ok(None);
        }
        let proposed = ledger.proposals.get(&point);
        let hash = proposed.ok_or(Error::PointNotFound(point))?.hash;
        let (committed_at, wall_at) = self.inner.times(&mut ledger);
        let commit = Commit {
            point,
            dataset,
            run: key.run,
            fence: key.fence,
            manifest_hash: hash,
            committed_at,
            retain_until: committed_at.after(self.inner.floor(&ledger)),
            wall_at,
        };
        self.inner.commit(&mut ledger, commit).map(Some)
    }

    /// A point.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn point(&self, id: PointId) -> Result<Point, Error> {
        find(&mut self.inner.ledger(), id)?.ok_or(Error::PointNotFound(id))
    }

    /// At most `limit` points that come after `sequence`, in the order of their commits.
    ///
    /// # Errors
    /// When the commit log cannot be read, should the catalogue have to be made anew.
    pub fn points(&self, sequence: u64, limit: usize) -> Result<Vec<Point>, Error> {
        let mut ledger = self.inner.ledger();
        let Ledger { points, log, .. } = &mut *ledger;
        points.ask(
            |catalogue| catalogue.page(sequence, limit),
            || all_points(log),
        )
    }

    /// The manifest of a point, from whichever copy fits its commit record.
    ///
    /// # Errors
    /// When there is no such point, or neither copy fits.
    pub fn manifest(&self, id: PointId) -> Result<Vec<u8>, Error> {
        let hash = self.point(id)?.commit.manifest_hash;
        let fits = |bytes: &Vec<u8>| manifest_hash(bytes) == hash;
        for path in layout::manifest(id) {
            match self.inner.load_manifest(&path) {
                Ok(bytes) if fits(&bytes) => return Ok(bytes),
                Ok(_) => {
                    tracing::error!(path = %path.display(), "found a manifest that was changed");
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "failed to read a manifest");
                }
            }
        }
        Err(Error::ManifestUnreadable(id))
    }
}

impl Inner {
    /// Whether a proposal counts. What another session of the run walked may have left since, and what
    /// was walked before something was lost may reach that.
    fn is_proposed(&self, ledger: &Ledger, key: SessionKey, point: PointId) -> bool {
        let lost = self.fates().last_lost();
        let proposal = ledger.proposals.get(&point);
        proposal.is_some_and(|proposal| proposal.key == key && proposal.lost == lost)
    }

    /// Checks a manifest against its session and against what is stored. Tells the last loss that was
    /// known when it began.
    fn examine(&self, key: SessionKey, manifest: &Manifest) -> Result<(Walked, u64), Error> {
        let lost = self.fates().last_lost();
        let dataset = self.check_session(key)?;
        if manifest.run != key.run || manifest.dataset != dataset {
            return Err(Error::refused("the manifest is of another run or dataset"));
        }
        let roots = manifest.disks.iter().map(|disk| &disk.root);
        let walked = closure::walk(&self.sight(key.fence), &self.whole, dataset, roots)?;
        Ok((walked, lost))
    }

    /// Makes both copies of a manifest durable, unless they are.
    fn keep_manifest(&self, point: PointId, bytes: &[u8]) -> Result<(), Error> {
        for path in layout::manifest(point) {
            match self.load_manifest(&path) {
                Ok(found) if found == bytes => {
                    // Its writer may have died before it synced the directory.
                    let dir = layout::parent(&path);
                    self.vfs
                        .sync_dir(dir)
                        .map_err(Error::io("sync directory", dir))?;
                }
                // Its place is needed; what stands for it is in our hands.
                Ok(found) if is_damaged(&found) => {
                    durable::quarantine(&*self.vfs, &*self.rng, &path)?;
                    durable::publish(&*self.vfs, &*self.rng, &path, bytes)?;
                }
                Ok(_) => {
                    return Err(Error::refused(
                        "another manifest was proposed for that point",
                    ));
                }
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    durable::publish(&*self.vfs, &*self.rng, &path, bytes)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn load_manifest(&self, path: &Path) -> Result<Vec<u8>, Error> {
        durable::read_all(&*self.vfs, path, MANIFEST_BYTES_MAX as u64 + 1)
    }

    /// Takes up a proposal from before a restart.
    fn recall(&self, key: SessionKey, point: PointId) -> Result<Proposal, Error> {
        let found = layout::manifest(point).iter().find_map(|path| {
            let bytes = self.load_manifest(path).ok()?;
            Manifest::decode(&bytes)
                .ok()
                .map(|manifest| (manifest, bytes))
        });
        let (manifest, bytes) = found.ok_or(Error::PointNotFound(point))?;
        let (walked, lost) = self.examine(key, &manifest)?;
        self.keep_manifest(point, &bytes)?;
        Ok(Proposal {
            key,
            hash: manifest_hash(&bytes),
            walked,
            lost,
        })
    }

    fn commit(&self, ledger: &mut Ledger, commit: Commit) -> Result<Point, Error> {
        let sequence = self.append(ledger, &Entry::PointCommitted(commit))?;
        let point = Point { sequence, commit };
        let Ledger {
            points,
            log,
            proposals,
            ..
        } = ledger;
        // What a session saw that is condemned or lost by now must not be taken for whole by newer ones.
        let (condemned, lost) = {
            let fates = self.fates();
            (fates.last_condemned(), fates.last_lost())
        };
        let proposal = proposals
            .remove(&commit.point)
            .filter(|proposal| proposal.key.fence > condemned && proposal.lost == lost);
        if let Some(proposal) = proposal {
            self.whole
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .learn(proposal.walked);
        }
        points.insert(&point, || all_points(log))?;
        self.counters.note_commit();
        Ok(point)
    }
}

/// A point does not come back under its id: its manifest is on its way out.
fn check_not_deleted(ledger: &Ledger, point: PointId) -> Result<(), Error> {
    if ledger.deleted.contains_key(&point) {
        return Err(Error::refused("the point was deleted"));
    }
    Ok(())
}

/// Whether these bytes are no manifest, of any release.
fn is_damaged(bytes: &[u8]) -> bool {
    use stillwater_format::Error::TooNew;
    !matches!(Manifest::decode(bytes), Ok(_) | Err(TooNew { .. }))
}

pub(crate) fn find(ledger: &mut Ledger, id: PointId) -> Result<Option<Point>, Error> {
    let Ledger { points, log, .. } = ledger;
    points.ask(|catalogue| catalogue.get(id), || all_points(log))
}
