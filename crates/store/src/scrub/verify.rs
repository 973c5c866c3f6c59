//! Reading one point again, byte for byte.

use std::collections::{BTreeSet, HashMap};

use stillwater_format::manifest::Manifest;
use stillwater_format::node::{Entries, Leaf, Node};
use stillwater_format::pack::RecordId;
use stillwater_types::{DatasetId, PackId, PointId, TreeId};

use super::{EXTENTS_NAMED_MAX, truth};
use crate::gc::Root;
use crate::store::Inner;
use crate::{Error, Phase, Watch};

/// A part of a disk that cannot be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedExtent {
    /// The disk's device key.
    pub disk_key: i32,
    /// Where it begins on the disk.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// What the verification of a point found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Stored bytes that were read.
    pub read_bytes: u64,
    /// The first extents that cannot be restored, at most [`EXTENTS_NAMED_MAX`], in the order of disks.
    pub extents: Vec<DamagedExtent>,
    /// How many there are.
    pub extent_count: u64,
    /// How long they are together.
    pub damaged_bytes: u64,
    /// Copies of the manifest that were written anew.
    pub healed_manifest_count: u64,
}

impl Verification {
    /// Whether every byte was read and fits its hash.
    pub const fn is_whole(&self) -> bool {
        self.damaged_bytes == 0 && self.extent_count == 0
    }
}

/// Damage below a node, counted in runs of damaged bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Damage {
    span: u64,
    bytes: u64,
    runs: u64,
    starts: bool,
    ends: bool,
}

impl Damage {
    const fn none(span: u64) -> Self {
        Self {
            span,
            bytes: 0,
            runs: 0,
            starts: false,
            ends: false,
        }
    }

    const fn all(span: u64) -> Self {
        Self {
            span,
            bytes: span,
            runs: 1,
            starts: true,
            ends: true,
        }
    }

    /// What follows on the disk. Runs that touch are one.
    const fn then(self, next: Self) -> Self {
        if next.span == 0 {
            return self;
        }
        if self.span == 0 {
            return next;
        }
        let touch = self.ends && next.starts;
        Self {
            span: self.span.saturating_add(next.span),
            bytes: self.bytes.saturating_add(next.bytes),
            runs: self.runs.saturating_add(next.runs) - touch as u64,
            starts: self.starts,
            ends: next.ends,
        }
    }
}

/// Verifies a point.
pub(super) fn verify(
    inner: &Inner,
    point: PointId,
    watch: &dyn Watch,
) -> Result<Verification, Error> {
    let mut found = Verification::default();
    let (dataset, manifest) = manifest(inner, point, &mut found.healed_manifest_count)?;
    let total = manifest.disks.iter().map(|disk| disk.root.length).sum();
    let mut walk = Walk {
        inner,
        watch,
        dataset,
        known: HashMap::new(),
        found,
        disk_key: 0,
        done: 0,
        total,
    };
    for disk in &manifest.disks {
        walk.disk_key = disk.key;
        let begun = walk.done;
        let root = &disk.root;
        let damage = walk.node(root.top, root.level, root.length, 0)?;
        walk.found.extent_count += damage.runs;
        walk.found.damaged_bytes += damage.bytes;
        walk.done = begun.saturating_add(root.length);
    }
    watch.note(Phase::Verify, total, total);
    if !walk.found.is_whole() {
        tracing::error!(%point, extents = walk.found.extent_count, "verified a degraded restore point");
        inner.scrub.memory().is_survey_due = true;
    }
    Ok(walk.found)
}

fn manifest(
    inner: &Inner,
    point: PointId,
    healed: &mut u64,
) -> Result<(DatasetId, Manifest), Error> {
    let commit = crate::point::find(&mut inner.ledger(), point)?;
    let commit = commit.ok_or(Error::PointNotFound(point))?.commit;
    let root = Root {
        point,
        dataset: commit.dataset,
        manifest_hash: commit.manifest_hash,
    };
    let bytes = truth::manifest(inner, &root, healed)?;
    let bytes = bytes.ok_or(Error::ManifestUnreadable(point))?;
    let manifest = Manifest::decode(&bytes).map_err(|_| Error::ManifestUnreadable(point))?;
    Ok((commit.dataset, manifest))
}

struct Walk<'a> {
    inner: &'a Inner,
    watch: &'a dyn Watch,
    dataset: DatasetId,
    /// What is known of subtrees: one that is met again is not read again, unless its damage is to be
    /// named where it is met.
    known: HashMap<(TreeId, u8), Damage>,
    found: Verification,
    disk_key: i32,
    done: u64,
    total: u64,
}

impl Walk<'_> {
    /// Reads all below a node, which covers `span` bytes of the disk from `offset` on.
    fn node(&mut self, id: TreeId, level: u8, span: u64, offset: u64) -> Result<Damage, Error> {
        if self.watch.is_stopped() {
            return Err(Error::VerificationStopped);
        }
        if let Some(known) = self.recall(id, level, span, offset) {
            self.advance(span);
            return Ok(known);
        }
        let bytes = match self.read(RecordId::from(id)) {
            Some((bytes, _)) => bytes,
            None => return Ok(self.damaged(span, offset)),
        };
        let node = Node::decode(&bytes).ok();
        let node = node.filter(|node| node.level() == level && node.span() == span);
        let Some(node) = node else {
            tracing::error!(%id, "a tree node is not what its parent says");
            return Ok(self.damaged(span, offset));
        };
        let damage = self.entries(node, offset)?;
        self.known.insert((id, level), damage);
        Ok(damage)
    }

    fn recall(&mut self, id: TreeId, level: u8, span: u64, offset: u64) -> Option<Damage> {
        let known = self.known.get(&(id, level)).copied()?;
        let is_all = known.bytes == known.span;
        if known.span != span {
            return Some(self.name(span, offset));
        }
        if known.bytes == 0 || self.found.extents.len() >= EXTENTS_NAMED_MAX {
            return Some(known);
        }
        is_all.then(|| self.name(span, offset))
    }

    fn entries(&mut self, node: Node, offset: u64) -> Result<Damage, Error> {
        let level = node.level();
        let (mut damage, mut at) = (Damage::none(0), offset);
        match node.into_entries() {
            Entries::Branches(branches) => {
                for branch in branches {
                    let below = level.saturating_sub(1);
                    damage = damage.then(self.node(branch.id, below, branch.span, at)?);
                    at = at.saturating_add(branch.span);
                }
            }
            Entries::Leaves(leaves) => {
                for leaf in leaves {
                    damage = damage.then(self.leaf(leaf, at)?);
                    at = at.saturating_add(leaf.span());
                }
            }
        }
        Ok(damage)
    }

    fn leaf(&mut self, leaf: Leaf, offset: u64) -> Result<Damage, Error> {
        let Leaf::Chunk { length, id } = leaf else {
            self.advance(leaf.span());
            return Ok(Damage::none(leaf.span()));
        };
        if self.watch.is_stopped() {
            return Err(Error::VerificationStopped);
        }
        let span = u64::from(length);
        match self.read(RecordId::from(id)) {
            Some((_, plain_len)) if plain_len == length => {
                self.advance(span);
                Ok(Damage::none(span))
            }
            _ => Ok(self.damaged(span, offset)),
        }
    }

    /// Reads a record from any good copy: its bytes and its plain length.
    fn read(&mut self, record: RecordId) -> Option<(Vec<u8>, u32)> {
        match self.inner.read(self.dataset, record) {
            Ok(found) => {
                self.found.read_bytes += found.stored.len() as u64;
                Some((found.stored, found.header.plain_len))
            }
            Err(error) => {
                if matches!(error, Error::Io { .. }) {
                    self.inner.scrub.note_read_error();
                }
                tracing::error!(%record, %error, "cannot read what a point needs");
                None
            }
        }
    }

    fn damaged(&mut self, span: u64, offset: u64) -> Damage {
        self.advance(span);
        self.name(span, offset)
    }

    /// Names an extent, as part of the one before if they touch.
    fn name(&mut self, length: u64, offset: u64) -> Damage {
        let disk_key = self.disk_key;
        let extents = &mut self.found.extents;
        let is_room = extents.len() < EXTENTS_NAMED_MAX;
        let touches = |last: &&mut DamagedExtent| {
            last.disk_key == disk_key && last.offset.saturating_add(last.length) == offset
        };
        if let Some(last) = extents.last_mut().filter(touches) {
            last.length = last.length.saturating_add(length);
        } else if is_room {
            extents.push(DamagedExtent {
                disk_key,
                offset,
                length,
            });
        }
        Damage::all(length)
    }

    fn advance(&mut self, span: u64) {
        self.done = self.done.saturating_add(span);
        self.watch.note(Phase::Verify, self.done, self.total);
    }
}

/// The packs that a point reaches, by the best copy of each record.
pub(super) fn packs_of(inner: &Inner, point: PointId) -> Result<BTreeSet<PackId>, Error> {
    let (dataset, manifest) = manifest(inner, point, &mut 0)?;
    let (mut packs, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<_> = manifest.disks.iter().map(|disk| disk.root.top).collect();
    let mut locate = |record: RecordId| {
        let at = inner.index.find(dataset, &record)?;
        packs.insert(at.ok_or(Error::RecordNotFound { record })?.pack);
        Ok::<(), Error>(())
    };
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        locate(RecordId::from(id))?;
        let bytes = inner.read(dataset, RecordId::from(id))?.stored;
        let node = Node::decode(&bytes).map_err(Error::malformed)?;
        match node.into_entries() {
            Entries::Branches(branches) => open.extend(branches.iter().map(|branch| branch.id)),
            Entries::Leaves(leaves) => {
                for leaf in leaves {
                    if let Leaf::Chunk { id, .. } = leaf {
                        locate(RecordId::from(id))?;
                    }
                }
            }
        }
    }
    Ok(packs)
}
