//! What the repositories told of their points, in the projection.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stillwater_catalog::{Projection, Write};
use stillwater_controller_api as api;
use stillwater_format::manifest::{self, Manifest};
use stillwater_repository_api as repository_api;
use stillwater_types::{Fault, NodeId, PointId, Reason, Role, RunId, TreeId, VmId};
use tokio::sync::Notify;

use super::section::{DiskNote, Section};
use crate::memory::Memory;
use crate::node::Directory;
use crate::run::Repositories;
use crate::secret::Secrets;

/// Points by time of commit and id, so that the newest come first when read backwards.
const POINTS: &str = "points";
/// The key of a point in the other tree, by id.
const KEYS: &str = "point-keys";
/// How many rows are read at a time.
const PAGE_LEN: usize = 256;

/// A point as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPoint {
    /// Names the point.
    pub point: PointId,
    /// The repository that keeps it.
    pub repository: NodeId,
    /// The run that made it.
    pub run: RunId,
    /// The VM.
    pub vm: VmId,
    /// What the VM was called.
    pub vm_name: String,
    /// When it began to exist.
    pub committed_at: Timestamp,
    /// Until when nobody can remove it.
    pub retain_until: Timestamp,
    /// When its disks were frozen; none in rows of releases that did not keep it.
    #[serde(default)]
    pub taken_at: Option<Timestamp>,
    /// The policy that wanted it, if the point says so itself.
    #[serde(default)]
    pub policy: Option<String>,
    /// Whether every disk of the VM is in it.
    pub is_whole: bool,
    consistency: u8,
    disks: Vec<KnownDisk>,
    missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownDisk {
    key: i32,
    label: String,
    length_bytes: u64,
    root: [u8; 32],
    read_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    hole_bytes: u64,
    chunk_count: u64,
    new_chunk_count: u64,
}

/// Remembers points; clones share them. Methods that read rows block on the disk.
#[derive(Clone)]
pub struct Points {
    memory: Memory,
    nodes: Directory,
    repositories: Arc<dyn Repositories>,
    secrets: Secrets,
    wake: Arc<Notify>,
}

impl Points {
    /// Remembers what `repositories` tell.
    pub fn new(
        memory: Memory,
        nodes: Directory,
        repositories: Arc<dyn Repositories>,
        secrets: Secrets,
    ) -> Self {
        Self {
            memory,
            nodes,
            repositories,
            secrets,
            wake: Arc::default(),
        }
    }

    /// Has the repositories asked again soon.
    pub fn look_again(&self) {
        self.wake.notify_one();
    }

    /// Waits until [`Points::look_again`].
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The point of that id, if a repository told of it. Blocks.
    pub fn find(&self, point: PointId) -> Option<KnownPoint> {
        let key = self.projection().load(KEYS, point.as_bytes())?;
        decode(&self.projection().load(POINTS, &key)?)
    }

    /// A page of the points that `keep` keeps, newest first, and the place where it ended if there
    /// may be more. Blocks.
    pub fn page(
        &self,
        before: Option<Vec<u8>>,
        limit: usize,
        keep: impl Fn(&KnownPoint) -> bool,
    ) -> (Vec<KnownPoint>, Option<Vec<u8>>) {
        let (mut before, mut found) = (before, Vec::new());
        loop {
            let rows = self.projection().page(POINTS, before.as_deref(), PAGE_LEN);
            let is_last = rows.len() < PAGE_LEN;
            for (key, row) in rows {
                before = Some(key);
                found.extend(decode(&row).filter(&keep));
                if found.len() == limit {
                    return (found, before);
                }
            }
            if is_last {
                return (found, None);
            }
        }
    }

    /// Shows every point to `take`, newest first. Blocks.
    pub fn each(&self, mut take: impl FnMut(KnownPoint)) {
        let mut before: Option<Vec<u8>> = None;
        loop {
            let rows = self.projection().page(POINTS, before.as_deref(), PAGE_LEN);
            let is_last = rows.len() < PAGE_LEN;
            for (key, row) in rows {
                before = Some(key);
                decode(&row).map(&mut take);
            }
            if is_last {
                return;
            }
        }
    }

    /// The newest point of a VM on one repository. Blocks.
    pub fn newest(&self, vm: &VmId, repository: NodeId) -> Option<PointId> {
        let is_of = |point: &KnownPoint| point.vm == *vm && point.repository == repository;
        let (found, _) = self.page(None, 1, is_of);
        found.first().map(|point| point.point)
    }

    /// The repository that keeps the newest point of a VM. Blocks.
    pub fn newest_repository(&self, vm: &VmId) -> Option<NodeId> {
        let (found, _) = self.page(None, 1, |point| point.vm == *vm);
        found.first().map(|point| point.repository)
    }

    /// Asks every repository that can be called for its points and remembers them; tells which did
    /// not answer, or were not asked because nothing was heard of them.
    pub async fn refresh(&self) -> Vec<(NodeId, Fault)> {
        let silent = self.nodes.silent(Role::Repository).into_iter();
        let silent = silent.map(|repository| (repository.node, silence(&repository.name)));
        let repositories = self.nodes.askable(Role::Repository);
        let asked = repositories.into_iter().map(|repository| async move {
            let refreshed = self.refresh_one(repository.node).await;
            refreshed.err().map(|fault| (repository.node, fault))
        });
        futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .chain(silent)
            .collect()
    }

    async fn refresh_one(&self, repository: NodeId) -> Result<(), Fault> {
        // In this order: what another refresh learned while this one was told is not gone.
        let known = self.known_of(repository).await?;
        let told = self.list(repository).await?;
        let told_ids: BTreeSet<PointId> = told.iter().map(|point| point.point_id).collect();
        let mut writes = Vec::new();
        for point in told {
            match known.iter().find(|known| known.point == point.point_id) {
                Some(same) if same.retain_until == point.retain_until => {}
                _ => self.learn(repository, point.point_id, &mut writes).await,
            }
        }
        let gone = known
            .iter()
            .filter(|known| !told_ids.contains(&known.point));
        gone.for_each(|point| writes.extend(forget(point)));
        if writes.is_empty() {
            return Ok(());
        }
        let projection = Arc::clone(self.projection());
        blocking(move || projection.write(&writes, None)).await
    }

    /// Fetches one point. One that cannot be read is told in the log and by its own `show`, and
    /// hides no other.
    async fn learn(&self, repository: NodeId, point: PointId, writes: &mut Vec<Write>) {
        match self.fetch(repository, point).await {
            Ok(known) => match serde_json::to_vec(&known) {
                Ok(row) => {
                    writes.push(Write::Put(POINTS, row_key(&known), row));
                    writes.push(Write::Put(KEYS, point.as_bytes().to_vec(), row_key(&known)));
                }
                Err(error) => tracing::error!(point.id = %point, %error, "cannot remember a point"),
            },
            Err(fault) => tracing::warn!(point.id = %point, %fault, "cannot read a point"),
        }
    }

    async fn fetch(&self, repository: NodeId, point: PointId) -> Result<KnownPoint, Fault> {
        let stored = self.repositories.get_point(repository, point).await?;
        let manifest = super::decode(&stored)?;
        let state = self.memory.state();
        let dataset = state.datasets.find(manifest.dataset)?;
        let section = Section::open(&dataset.open_key(&self.secrets)?, &manifest)?;
        Ok(KnownPoint::new(
            repository,
            &stored.point,
            manifest,
            section,
        ))
    }

    async fn list(&self, repository: NodeId) -> Result<Vec<repository_api::Point>, Fault> {
        let (mut points, mut token) = (Vec::new(), None);
        loop {
            let page = self
                .repositories
                .list_points(repository, token.take())
                .await?;
            points.extend(page.points);
            match page.next_page_token {
                Some(next) => token = Some(next),
                None => return Ok(points),
            }
        }
    }

    async fn known_of(&self, repository: NodeId) -> Result<Vec<KnownPoint>, Fault> {
        let points = self.clone();
        let keep = move |point: &KnownPoint| point.repository == repository;
        blocking(move || points.page(None, usize::MAX, keep).0).await
    }

    fn projection(&self) -> &Arc<Projection> {
        self.memory.projection()
    }
}

/// Runs what blocks on the disk away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|_| Fault::new(Reason::Bug, "reading the projection panicked"))
}

fn silence(name: &str) -> Fault {
    let text = format!("nothing was heard of the repository {name} lately; is it running?");
    Fault::new(Reason::RepositoryUnreachable, text)
}

/// A row that this release cannot read is of another one; the repository tells the point again.
fn decode(row: &[u8]) -> Option<KnownPoint> {
    serde_json::from_slice(row).ok()
}

fn row_key(point: &KnownPoint) -> Vec<u8> {
    let millis = u64::try_from(point.committed_at.as_millisecond()).unwrap_or_default();
    [&millis.to_be_bytes()[..], point.point.as_bytes()].concat()
}

fn forget(point: &KnownPoint) -> [Write; 2] {
    [
        Write::Remove(POINTS, row_key(point)),
        Write::Remove(KEYS, point.point.as_bytes().to_vec()),
    ]
}

impl KnownPoint {
    fn new(
        repository: NodeId,
        stored: &repository_api::Point,
        manifest: Manifest,
        section: Section,
    ) -> Self {
        let disks = manifest.disks.into_iter().map(|disk| {
            let note = section.disks.iter().find(|note| note.key == disk.key);
            KnownDisk::new(disk, note)
        });
        Self {
            point: manifest.point,
            repository,
            run: manifest.run,
            vm: manifest.vm,
            vm_name: manifest.vm_name,
            committed_at: stored.committed_at,
            retain_until: stored.retain_until,
            taken_at: Timestamp::from_millisecond(
                i64::try_from(manifest.taken_at.millis()).unwrap_or(i64::MAX),
            )
            .ok(),
            policy: section.policy,
            consistency: consistency_number(manifest.consistency),
            is_whole: manifest.whole,
            disks: disks.collect(),
            missing: section.missing,
        }
    }

    /// Whether the point has that disk.
    pub fn has_disk(&self, key: i32) -> bool {
        self.disks.iter().any(|disk| disk.key == key)
    }

    /// As the controller's protocol tells it.
    pub fn told(
        self,
        repository_name: String,
        verification: Option<api::PointVerification>,
    ) -> api::Point {
        api::Point {
            point_id: self.point,
            vm_id: self.vm,
            vm_name: self.vm_name,
            run_id: self.run,
            repository_name,
            committed_at: self.committed_at,
            retain_until: self.retain_until,
            consistency: consistency_of(self.consistency),
            complete: self.is_whole,
            disks: self.disks.into_iter().map(KnownDisk::told).collect(),
            missing: self.missing,
            verification,
        }
    }
}

impl KnownDisk {
    fn new(disk: manifest::Disk, note: Option<&DiskNote>) -> Self {
        let manifest::Effort {
            read_bytes,
            zero_bytes,
            new_bytes,
            stored_bytes,
            chunk_count,
        } = disk.effort;
        Self {
            key: disk.key,
            label: disk.label,
            length_bytes: disk.root.length,
            root: *disk.root.top.as_bytes(),
            read_bytes,
            new_bytes,
            stored_bytes,
            hole_bytes: zero_bytes,
            chunk_count,
            new_chunk_count: note.map_or(0, |note| note.new_chunk_count),
        }
    }

    fn told(self) -> api::PointDisk {
        api::PointDisk {
            key: self.key,
            label: self.label,
            length_bytes: self.length_bytes,
            root: TreeId::from_bytes(self.root),
            read_bytes: self.read_bytes,
            new_bytes: self.new_bytes,
            stored_bytes: self.stored_bytes,
            hole_bytes: self.hole_bytes,
            chunk_count: self.chunk_count,
            new_chunk_count: self.new_chunk_count,
        }
    }
}

const fn consistency_number(consistency: manifest::Consistency) -> u8 {
    match consistency {
        manifest::Consistency::Crash => 1,
        manifest::Consistency::FileSystem => 2,
        manifest::Consistency::Application => 3,
        manifest::Consistency::Offline => 4,
    }
}

const fn consistency_of(number: u8) -> api::Consistency {
    match number {
        2 => api::Consistency::FileSystem,
        3 => api::Consistency::Application,
        4 => api::Consistency::Offline,
        // The weakest claim, should a row ever hold another number.
        _ => api::Consistency::Crash,
    }
}
