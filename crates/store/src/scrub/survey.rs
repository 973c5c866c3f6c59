//! Which points reach something that is lost.
//!
//! Every point is walked through its nodes, shared subtrees once; of chunks it is asked whether the index
//! has them. That finds what no entry of the log names: packs that vanished, tables that are gone.

use std::collections::{BTreeSet, HashMap, HashSet};

use stillwater_format::Time;
use stillwater_format::manifest::Manifest;
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::RecordId;
use stillwater_types::{DatasetId, PointId, TreeId};

use super::{Scrubbed, rescue, truth};
use crate::gc::Root;
use crate::gc::compact::Copier;
use crate::store::Inner;
use crate::{Error, Phase, Watch};

/// Most records that are remembered as missing; a survey tells when there are more.
const MISSING_MAX: usize = 1 << 20;

/// What a survey found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: Option<Time>,
    pub(super) degraded: BTreeSet<PointId>,
    /// Whether reading failed somewhere, so that not all is known.
    pub(super) is_partial: bool,
    missing: HashSet<(DatasetId, RecordId)>,
}

impl Found {
    /// A survey of which nothing is known but its time.
    pub(super) fn at(at: Option<Time>) -> Self {
        Self {
            at,
            ..Self::default()
        }
    }

    pub(super) fn missing_count(&self) -> u64 {
        self.missing.len() as u64
    }

    /// Whether something that was missing is there again.
    pub(super) fn is_healing(&self, inner: &Inner) -> Result<bool, Error> {
        for (dataset, record) in &self.missing {
            if !inner.index.copies(*dataset, record)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Says what became of points since the last survey.
pub(super) fn tell(before: &Found, now: &Found) {
    for point in now.degraded.difference(&before.degraded) {
        tracing::error!(%point, "a restore point is degraded; its next backup may heal it");
    }
    for point in before.degraded.difference(&now.degraded) {
        tracing::info!(%point, "a restore point is healed, or deleted");
    }
}

/// Surveys all points; none if `watch` ended it. What is missing and lies in quarantine is brought back.
pub(super) fn survey(
    inner: &Inner,
    watch: &dyn Watch,
    done: &mut Scrubbed,
) -> Result<Option<Found>, Error> {
    let Some(mut found) = walk_all(inner, watch, done)? else {
        return Ok(None);
    };
    // What is brought back may be a node, below which more is missing.
    while !found.missing.is_empty() && bring_back(inner, &found, done)? {
        let Some(again) = walk_all(inner, watch, done)? else {
            return Ok(None);
        };
        found = again;
    }
    Ok(Some(found))
}

fn bring_back(inner: &Inner, found: &Found, done: &mut Scrubbed) -> Result<bool, Error> {
    let mut lost: HashMap<DatasetId, BTreeSet<RecordId>> = HashMap::new();
    for (dataset, record) in &found.missing {
        lost.entry(*dataset).or_default().insert(*record);
    }
    let mut brought = 0;
    for (dataset, mut lost) in lost {
        let fence = inner.ledger().head();
        let mut copier = Copier::new(inner, dataset, fence);
        rescue::rescue(inner, dataset, &mut lost, &mut copier)?;
        brought += copier.finish()?.record_count;
    }
    done.salvaged_record_count += brought;
    Ok(brought > 0)
}

fn walk_all(inner: &Inner, watch: &dyn Watch, done: &mut Scrubbed) -> Result<Option<Found>, Error> {
    let (roots, now) = {
        let mut ledger = inner.ledger();
        (ledger.roots.after(0), inner.times(&mut ledger).0)
    };
    let mut walk = Walk {
        inner,
        watch,
        seen: HashMap::new(),
        found: Found::at(Some(now)),
        read_bytes: 0,
    };
    for (root, count) in roots.iter().zip(0..) {
        if watch.is_stopped() {
            return Ok(None);
        }
        watch.note(Phase::Survey, count, roots.len() as u64);
        let is_whole = match walk.point(root, done) {
            Ok(is_whole) => is_whole,
            Err(Error::ScrubStopped) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !is_whole {
            walk.found.degraded.insert(root.point);
        }
    }
    done.read_bytes += walk.read_bytes;
    Ok(Some(walk.found))
}

struct Walk<'a> {
    inner: &'a Inner,
    watch: &'a dyn Watch,
    /// Whether everything below a node is there.
    seen: HashMap<(DatasetId, TreeId), bool>,
    found: Found,
    read_bytes: u64,
}

impl Walk<'_> {
    /// Whether all that a point reaches is there.
    fn point(&mut self, root: &Root, done: &mut Scrubbed) -> Result<bool, Error> {
        let Some(bytes) = truth::manifest(self.inner, root, &mut done.healed_copy_count)? else {
            return Ok(false);
        };
        let Ok(manifest) = Manifest::decode(&bytes) else {
            return Ok(false);
        };
        let mut is_whole = true;
        for disk in &manifest.disks {
            is_whole &= self.node(root.dataset, disk.root.top, disk.root.level)?;
        }
        Ok(is_whole)
    }

    /// Whether all below a node is there. No deeper than there are levels.
    fn node(&mut self, dataset: DatasetId, id: TreeId, level: u8) -> Result<bool, Error> {
        if let Some(is_whole) = self.seen.get(&(dataset, id)) {
            return Ok(*is_whole);
        }
        if self.watch.is_stopped() {
            return Err(Error::ScrubStopped);
        }
        let record = RecordId::from(id);
        let is_whole = match self.inner.read(dataset, record) {
            Ok(found) => {
                self.read_bytes += found.stored.len() as u64;
                match Node::decode(&found.stored) {
                    Ok(node) if node.level() == level => self.below(dataset, node)?,
                    _ => false,
                }
            }
            // A failed read is no loss; it is looked again before long.
            Err(error @ Error::Io { .. }) => {
                tracing::warn!(%record, %error, "cannot read a tree node now");
                self.inner.scrub.note_read_error();
                self.found.is_partial = true;
                true
            }
            Err(error) => {
                tracing::warn!(%record, %error, "cannot read a tree node");
                self.miss(dataset, record);
                false
            }
        };
        self.seen.insert((dataset, id), is_whole);
        Ok(is_whole)
    }

    fn below(&mut self, dataset: DatasetId, node: Node) -> Result<bool, Error> {
        let level = node.level();
        let mut is_whole = true;
        match node.into_entries() {
            Entries::Branches(branches) => {
                for branch in branches {
                    is_whole &= self.node(dataset, branch.id, level.saturating_sub(1))?;
                }
            }
            Entries::Leaves(leaves) => {
                for leaf in leaves {
                    let Leaf::Chunk { id, .. } = leaf else {
                        continue;
                    };
                    let record = RecordId::from(id);
                    if self.inner.index.copies(dataset, &record)?.is_empty() {
                        self.miss(dataset, record);
                        is_whole = false;
                    }
                }
            }
        }
        Ok(is_whole)
    }

    fn miss(&mut self, dataset: DatasetId, record: RecordId) {
        if self.found.missing.len() < MISSING_MAX {
            self.found.missing.insert((dataset, record));
        }
    }
}
