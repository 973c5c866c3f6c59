//! Barriers that one journal for all files makes up for, tried where there is none.
//!
//! ext4 and XFS have one journal: whatever is synced next brings every earlier name with it. POSIX does
//! not promise that, so the store does not lean on it. The testkit's file system promises what POSIX does
//! and no more: here each scene is played on it, cut off at its last acknowledgement, and opened again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillwater_format::Time;
use stillwater_format::commit::{AdminKey, Dataset};
use stillwater_format::log::Scanner;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest};
use stillwater_format::node::{DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::{Codec, RecordHeader};
use stillwater_format::superblock::Superblock;
use stillwater_store::vfs::Vfs;
use stillwater_store::{
    Environment, Identity, MemoryCatalogue, MemoryIndex, Options, SessionKey, Store, Verifier,
};
use stillwater_testkit::fault_fs::Journal;
use stillwater_testkit::{Dice, FaultClock, FaultFs, SeededRng};
use stillwater_types::{ChunkId, ClusterId, DatasetId, NodeId, PointId, RunId, VcenterId, VmId};

use crate::check::check_point;
use crate::knock::{Barrier, Knocked, Without};

/// Power cuts of each scene.
pub const CUTS: u64 = 60;
const DAY: Duration = Duration::from_secs(24 * 3600);
const OPTIONS: Options = Options {
    reserve_bytes: 0,
    retention: Duration::ZERO,
    compact_below_percent: 90,
    ..Options::DEFAULT
};
const CHUNK_LEN: u32 = 4096;
const RUN: RunId = RunId::from_bytes([1; 16]);
const DATASET: DatasetId = DatasetId::from_bytes([0xe3; 16]);

/// What happens up to the power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// A repository is made and takes points.
    Backup,
    /// A process dies between the names of a manifest and their syncs; the next one is asked the same.
    Again,
    /// A copy of the commit log is lost, and a start makes it anew.
    LogLost,
    /// A copy of the commit log lost its last entry, and a start appends it.
    LogBehind,
    /// A copy of a manifest is lost, and the scrub makes it anew.
    ManifestLost,
    /// A copy of a manifest is damaged, and the scrub makes it anew.
    ManifestDamaged,
    /// Points are deleted, and what is left of their packs is copied; the old packs are removed.
    Compaction,
    /// Points are deleted, and their packs and manifests are set aside.
    Collection,
    /// Something in use lies in quarantine, as after the host was restored; a start brings it back.
    Return,
    /// Somebody copied it back by hand, and a start finds it twice.
    Twice,
}

/// A barrier that is left out of a scene.
pub struct Trial {
    /// Which one.
    pub barrier: Barrier,
    scene: Scene,
    /// What is lost before the scene's last part, and what after the power cut: never both copies at once.
    lost: [&'static str; 2],
}

/// Every trial.
pub const TRIALS: &[Trial] = {
    use Barrier::*;
    use Scene::*;
    const fn trial(barrier: Barrier, scene: Scene, lost: [&'static str; 2]) -> Trial {
        Trial {
            barrier,
            scene,
            lost,
        }
    }
    const NOTHING: [&str; 2] = ["", ""];
    &[
        trial(PackName, Backup, NOTHING),
        trial(PackFan, Backup, NOTHING),
        trial(ManifestName, Backup, ["", "copy/manifests/"]),
        trial(
            ManifestName,
            ManifestLost,
            ["manifests/", "copy/manifests/"],
        ),
        trial(ManifestFan, Backup, ["", "copy/manifests/"]),
        trial(ManifestCopyName, Backup, ["", "manifests/"]),
        trial(
            ManifestCopyName,
            ManifestLost,
            ["copy/manifests/", "manifests/"],
        ),
        trial(ManifestCopyFan, Backup, ["", "manifests/"]),
        trial(ManifestAgain, Again, ["", "copy/manifests/"]),
        trial(ManifestCopyAgain, Again, ["", "manifests/"]),
        trial(LogName, LogLost, ["commit.log", "copy/commit.log"]),
        trial(LogCopyName, LogLost, ["copy/commit.log", "commit.log"]),
        trial(LogMend, LogBehind, ["commit.log", "copy/commit.log"]),
        trial(LogCopyMend, LogBehind, ["copy/commit.log", "commit.log"]),
        trial(LogCopyName, Backup, ["", "commit.log"]),
        trial(SuperblockName, Backup, NOTHING),
        trial(CopiedPackData, Compaction, NOTHING),
        trial(CopiedPackName, Compaction, NOTHING),
        trial(SetAside, Collection, NOTHING),
        trial(BroughtBack, Return, NOTHING),
        trial(Barrier::Double, Scene::Twice, NOTHING),
        trial(DamagedAside, ManifestDamaged, ["manifests/", ""]),
    ]
};

impl Trial {
    /// In how many of the cuts something is lost, with the barrier left out and with nothing left out.
    pub fn try_out(&self) -> Result<[u64; 2]> {
        let without = Without::barriers(&[self.barrier]);
        Ok([self.cut(without)?, self.cut(Without::nothing())?])
    }

    fn cut(&self, without: Without) -> Result<u64> {
        let stage = self.play(without)?;
        let mut lost = 0;
        for seed in 0..CUTS {
            let fs = stage.fs.crash(Journal::Torn, &mut Dice::new(seed));
            erase(&fs, self.lost[1]);
            lost += u64::from(stage.promises.check(&fs, &stage.clock).is_err());
        }
        Ok(lost)
    }

    /// For people.
    pub fn told(&self) -> String {
        let lost = self.lost.iter().filter(|lost| !lost.is_empty());
        let lost: Vec<_> = lost.copied().collect();
        let of = if lost.is_empty() { "" } else { ", without " };
        format!("{:?}{of}{}", self.scene, lost.join(", then without "))
    }

    fn play(&self, without: Without) -> Result<Stage> {
        let mut stage = Stage::default();
        // Earlier deeds are whole, but for those of the scene.
        let first = if self.scene == Scene::Backup {
            without.clone()
        } else {
            Without::nothing()
        };
        let store = stage.found(&first)?;
        let points = [
            stage.back_up(&store, &[1, 2])?,
            stage.back_up(&store, &[1, 3])?,
        ];
        stage.promises.points.extend(points);
        match self.scene {
            Scene::Backup => {}
            Scene::Again => stage.propose_twice(store, &without)?,
            Scene::LogLost => {
                drop(store);
                erase(&stage.fs, self.lost[0]);
                stage.open(&without)?;
            }
            Scene::LogBehind => {
                drop(store);
                stage.cut_log(self.lost[0])?;
                stage.open(&without)?;
            }
            Scene::ManifestLost => {
                erase(&stage.fs, self.lost[0]);
                stage.scrub(store, &without)?;
            }
            Scene::ManifestDamaged => {
                let path = stage.first_path(self.lost[0])?;
                stage.fs.set_bytes(&path, DAMAGED);
                stage.scrub(store, &without)?;
                stage.promises.bytes.push(DAMAGED.to_vec());
            }
            Scene::Compaction => stage.collect(store, &without, points[0], 3)?,
            Scene::Collection => {
                let pack = stage.fs.bytes(&stage.first_path("packs/")?);
                stage.promises.bytes.push(pack);
                stage.promises.points.clear();
                store.delete_point(points[1])?;
                stage.collect(store, &without, points[0], 1)?;
            }
            Scene::Return | Scene::Twice => {
                drop(store);
                stage.misplace(self.scene == Scene::Twice)?;
                stage.open(&without)?;
            }
        }
        Ok(stage)
    }
}

const DAMAGED: &[u8] = b"what a medium made of a manifest";

/// Takes all files beneath `prefix` away.
fn erase(fs: &FaultFs, prefix: &str) {
    let paths = fs.paths();
    let lost = |path: &&String| !prefix.is_empty() && path.starts_with(prefix);
    paths.iter().filter(lost).for_each(|path| fs.erase(path));
}

/// What was promised.
#[derive(Default)]
struct Promises {
    points: Vec<PointId>,
    /// Bytes that some file must have.
    bytes: Vec<Vec<u8>>,
    generation: u64,
}

impl Promises {
    fn check(&self, fs: &FaultFs, clock: &FaultClock) -> Result<()> {
        for bytes in &self.bytes {
            let found = fs.paths().iter().any(|path| fs.bytes(path) == *bytes);
            ensure!(found, "a file is gone");
        }
        let stage = Stage {
            fs: fs.clone(),
            clock: Arc::new(clock.copy()),
            ..Stage::default()
        };
        ensure!(
            stage.generation() >= self.generation,
            "a superblock is gone"
        );
        let store = stage.reopen(&Without::nothing())?;
        for point in &self.points {
            store.point(*point)?;
            check_point(&store, *point)?;
        }
        Ok(())
    }
}

/// A repository in memory.
#[derive(Default)]
struct Stage {
    fs: FaultFs,
    clock: Arc<FaultClock>,
    promises: Promises,
    key: Option<SessionKey>,
    turn: u64,
}

/// Nobody signs anything here.
struct NoVerifier;

impl Verifier for NoVerifier {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

impl Stage {
    fn environment(&self, without: &Without) -> Environment {
        let below: Arc<dyn Vfs> = Arc::new(self.fs.clone());
        Environment {
            vfs: Arc::new(Knocked::new(below, without.clone())),
            clock: self.clock.clone(),
            rng: Arc::new(SeededRng::new(self.fs.trace())),
            catalogue: Box::new(MemoryCatalogue::default()),
            index: Arc::new(MemoryIndex::default()),
            verifier: Arc::new(NoVerifier),
        }
    }

    fn found(&mut self, without: &Without) -> Result<Store> {
        let identity = Identity {
            cluster: ClusterId::from_bytes([0xc1; 16]),
            node: NodeId::from_bytes([0xd2; 16]),
        };
        Store::init(&self.environment(without), &OPTIONS, identity)?;
        let store = self.open(without)?;
        store.create_dataset(Dataset {
            id: DATASET,
            label: "names".into(),
            wrapped_key: vec![1],
        })?;
        self.key = Some(store.open_session(RUN, DATASET, 0)?.key);
        Ok(store)
    }

    fn reopen(&self, without: &Without) -> Result<Store> {
        Ok(Store::open(self.environment(without), OPTIONS)?)
    }

    /// Starts, which promises that the superblock does not go back.
    fn open(&mut self, without: &Without) -> Result<Store> {
        let store = self.reopen(without)?;
        self.promises.generation = self.generation();
        Ok(store)
    }

    fn generation(&self) -> u64 {
        let paths = self.fs.paths();
        let found = paths.iter().filter(|path| path.starts_with("super."));
        let read = |path: &String| Superblock::decode(&self.fs.bytes(path)).ok();
        let found = found
            .filter_map(read)
            .map(|superblock| superblock.generation);
        found.max().unwrap_or_default()
    }

    fn first_path(&self, prefix: &str) -> Result<String> {
        let paths = self.fs.paths();
        let found = paths.into_iter().find(|path| path.starts_with(prefix));
        found.with_context(|| format!("find a file in {prefix}"))
    }

    fn session(&self) -> Result<SessionKey> {
        self.key.context("open a session")
    }

    /// Takes the last entry of a copy of the log away.
    fn cut_log(&self, path: &str) -> Result<()> {
        let bytes = self.fs.bytes(path);
        let (mut scanner, mut ends) = (Scanner::new(&bytes), vec![0]);
        while let Ok(Some(_)) = scanner.read() {
            ends.push(scanner.offset());
        }
        let last = ends.len().checked_sub(2).context("the log has an entry")?;
        self.fs.set_bytes(path, &bytes[..ends[last]]);
        Ok(())
    }

    /// Sends a disk of these chunks in a pack and makes a point of it.
    fn back_up(&mut self, store: &Store, seeds: &[u64]) -> Result<PointId> {
        let (point, manifest) = self.send(store, seeds)?;
        let key = self.session()?;
        store.propose_point(key, &manifest)?;
        store.commit_point(key, point)?;
        Ok(point)
    }

    fn send(&mut self, store: &Store, seeds: &[u64]) -> Result<(PointId, Vec<u8>)> {
        self.turn += 1;
        let salt = blake3::hash(&self.turn.to_le_bytes());
        let mut pack = store.begin_pack(self.session()?, salt.as_bytes())?;
        let mut leaves = Vec::new();
        for (seed, counter) in seeds.iter().zip(0..) {
            let stored = [*seed as u8; 500];
            let id = ChunkId::from_bytes(*blake3::hash(&stored).as_bytes());
            let header = RecordHeader::chunk(id, Codec::Zstd, 0, counter, CHUNK_LEN, &stored)?;
            pack.append(&header, &stored)?;
            leaves.push(Leaf::Chunk {
                length: CHUNK_LEN,
                id,
            });
        }
        let top = Node::leaves(leaves)?;
        let stored = top.encode();
        pack.append(&RecordHeader::node(&stored)?, &stored)?;
        pack.finish()?;
        let point = PointId::from_bytes([self.turn as u8; 16]);
        Ok((point, manifest(point, &top)?))
    }

    /// The first process dies before it syncs the names of the manifest, the next one is asked the same.
    fn propose_twice(&mut self, store: Store, without: &Without) -> Result<()> {
        let (point, manifest) = self.send(&store, &[4, 5])?;
        drop(store);
        let dying = [Barrier::ManifestName, Barrier::ManifestCopyName];
        let key = self.session()?;
        self.reopen(&Without::barriers(&dying))?
            .propose_point(key, &manifest)?;
        let store = self.open(without)?;
        store.propose_point(key, &manifest)?;
        store.commit_point(key, point)?;
        self.promises.points.push(point);
        Ok(())
    }

    fn scrub(&mut self, store: Store, without: &Without) -> Result<()> {
        drop(store);
        let store = self.open(without)?;
        store.request_scrub();
        let done = store.scrub(u64::MAX, &())?;
        ensure!(done.healed_copy_count > 0, "nothing is healed");
        Ok(())
    }

    /// Deletes a point and collects: one cycle condemns, the second sets aside or copies, and so on.
    fn collect(
        &mut self,
        store: Store,
        without: &Without,
        point: PointId,
        more: usize,
    ) -> Result<()> {
        store.close_session(self.session()?)?;
        store.delete_point(point)?;
        self.promises.points.retain(|kept| *kept != point);
        drop(store);
        let store = self.open(without)?;
        let before = self.fs.paths();
        for _ in 0..=more {
            store.collect(&())?;
            self.clock.pass(DAY * 8);
            store.tick()?;
        }
        let changed = self.fs.paths() != before;
        ensure!(changed, "nothing was collected");
        Ok(())
    }

    /// Puts all packs in quarantine, and in their places too if `twice`, there without a durable name.
    fn misplace(&self, twice: bool) -> Result<()> {
        for from in self.fs.paths() {
            let Some((dir, name)) = from.rsplit_once('/').filter(|_| from.starts_with("packs/"))
            else {
                continue;
            };
            let to = Path::new("quarantine").join(name);
            self.fs.rename_noreplace(Path::new(&from), &to)?;
            self.fs.sync_dir(Path::new("quarantine"))?;
            self.fs.sync_dir(Path::new(dir))?;
            if twice {
                let copy = self.fs.create_new(Path::new(&from))?;
                copy.write_at(&self.fs.bytes(to.to_str().context("a name")?), 0)?;
                copy.sync()?;
            }
        }
        Ok(())
    }
}

fn manifest(point: PointId, top: &Node) -> Result<Vec<u8>> {
    let root = DiskRoot {
        length: top.span(),
        cutter: "names".into(),
        top: tree_id(&top.encode()),
        level: 0,
    };
    let disk = Disk {
        key: 2000,
        label: "Hard disk 1".into(),
        backing: None,
        change_id: None,
        root,
        effort: Effort::default(),
    };
    let manifest = Manifest {
        point,
        dataset: DATASET,
        run: RUN,
        vm: VmId {
            vcenter: VcenterId::from_bytes([7; 16]),
            moref: "vm-1".into(),
        },
        vm_name: "vm".into(),
        vcenter_instance: String::new(),
        taken_at: Time::default(),
        consistency: Consistency::Crash,
        whole: true,
        disks: vec![disk],
        sealed: Vec::new(),
    };
    Ok(manifest.encode()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_barrier_is_missed_where_nothing_stands_for_it_and_nothing_is_lost_with_all() {
        for trial in TRIALS {
            let [without, with] = trial.try_out().unwrap();
            let (barrier, told) = (trial.barrier, trial.told());
            println!("{barrier}, {told}: {without} of {CUTS}; with it {with}");
            assert_eq!(with, 0, "{barrier}, {told}");
            assert!(without > 0, "{barrier}, {told}");
        }
    }
}
