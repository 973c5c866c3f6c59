//! What clients ask of the repository while its writes are recorded.
//!
//! Two lanes at a time back up small machines: few bytes, many syncs. Some proposals are never
//! committed, some sessions never closed, some chunks found and not sent again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, future};
use stillwater_format::Time;
use stillwater_format::manifest::{Consistency, Disk, Effort, Manifest, manifest_hash};
use stillwater_format::node::{DiskRoot, Leaf, Node, tree_id};
use stillwater_format::pack::stored_hash;
use stillwater_format::superblock::Superblock;
use stillwater_repository_api::*;
use stillwater_types::{ChunkId, Fault, PointId, RunId, VcenterId, VmId};

use crate::knock::Without;
use crate::random::Random;
use crate::setting::Setting;
use crate::subject::Subject;
use crate::witness::{Deed, Sent, Witness};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// How often the process is started.
    pub lives: u32,
    /// How many points each of the two lanes tries to make in a life.
    pub points: u32,
}

/// A script being played.
pub struct Player<'a> {
    setting: &'a Setting,
    store: PathBuf,
    without: Without,
    position: Box<dyn Fn() -> Result<u64> + Send + Sync>,
    random: Mutex<Random>,
    witness: Mutex<Witness>,
    /// Chunks that are durable.
    stored: Mutex<Vec<Record>>,
}

impl<'a> Player<'a> {
    /// Prepares to play on the store in `store`, going on from what `witness` has.
    pub fn new(
        setting: &'a Setting,
        store: &Path,
        without: &Without,
        position: impl Fn() -> Result<u64> + Send + Sync + 'static,
        witness: Witness,
        seed: u64,
    ) -> Self {
        Self {
            setting,
            store: store.to_owned(),
            without: without.clone(),
            position: Box::new(position),
            random: Mutex::new(Random::new(seed)),
            witness: Mutex::new(witness),
            stored: Mutex::default(),
        }
    }

    /// Makes the repository.
    pub fn init(&self) -> Result<()> {
        let event = self.begin(Deed::Init)?;
        self.setting.init(&self.store, &self.without)?;
        self.ack(event, Deed::Init)
    }

    /// Plays, and answers what was promised.
    pub async fn play(self, length: Length) -> Result<Witness> {
        for life in 0..length.lives {
            // The last one ends in peace, so that its log is whole.
            let killed = life + 1 < length.lives && life % 2 == 0;
            self.live(length.points, killed).await?;
        }
        Ok(self
            .witness
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    async fn live(&self, points: u32, killed: bool) -> Result<()> {
        let event = self.begin(Deed::Start { generation: 0 })?;
        let mut subject = Subject::start(self.setting, &self.store, &self.without).await?;
        let generation = generation(&self.store).context("find no superblock")?;
        self.ack(event, Deed::Start { generation })?;
        self.create_dataset().await?;
        let lanes = future::try_join(self.lane(points), self.lane(points));
        if killed {
            let moment = Duration::from_millis(self.draw(|random| 200 + random.below(800)));
            // Whichever comes first: what is under way when the process is killed stays unanswered.
            let _ended = tokio::time::timeout(moment, lanes).await;
            return subject.kill();
        }
        lanes.await?;
        subject.stop()
    }

    async fn create_dataset(&self) -> Result<()> {
        let dataset_id = self.setting.dataset;
        let deed = Deed::Dataset(dataset_id);
        let event = self.begin(deed.clone())?;
        let dataset = Dataset {
            dataset_id,
            label: "crash".into(),
            wrapped_key: Bytes::from_static(b"wrapped"),
        };
        self.setting.controller()?.create_dataset(dataset).await?;
        self.ack(event, deed)
    }

    async fn lane(&self, points: u32) -> Result<()> {
        let calls = Calls {
            player: self,
            controller: self.setting.controller()?,
            proxy: self.setting.proxy()?,
        };
        for _ in 0..points {
            calls.back_up().await?;
        }
        Ok(())
    }

    fn begin(&self, deed: Deed) -> Result<usize> {
        let begun = (self.position)()?;
        Ok(held(&self.witness).begin(begun, deed))
    }

    fn ack(&self, event: usize, deed: Deed) -> Result<()> {
        let acked = (self.position)()?;
        held(&self.witness).ack(event, acked, deed);
        Ok(())
    }

    fn draw<T>(&self, choose: impl FnOnce(&mut Random) -> T) -> T {
        choose(&mut held(&self.random))
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One lane's connections.
struct Calls<'a> {
    player: &'a Player<'a>,
    controller: Client,
    proxy: Client,
}

impl Calls<'_> {
    /// One run: chunks, tree, proposal, commit, and a look at what was kept.
    async fn back_up(&self) -> Result<()> {
        let run = RunId::mint();
        let fence = self.open(run).await?;
        let mut chunks = self.choose_stored(run, fence).await?;
        for _ in 0..self.draw(|random| 1 + random.below(2)) {
            let fresh = self.draw(fresh_chunks);
            self.put(run, fence, fresh.clone()).await?;
            held(&self.player.stored).extend(fresh.iter().cloned());
            chunks.extend(fresh);
        }
        let leaf = |chunk: &Record| Leaf::Chunk {
            length: chunk.plain_bytes,
            id: ChunkId::from_bytes(chunk.id),
        };
        let top = Node::leaves(chunks.iter().map(leaf).collect())?;
        self.put(run, fence, vec![node(&top)]).await?;
        let point = self.propose(run, fence, &top).await?;
        if self.draw(|random| random.percent(15)) {
            return Ok(());
        }
        // The controller removes the snapshot meanwhile.
        let pause = self.draw(|random| random.below(30));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.commit(run, fence, point).await?;
        self.read_back(run, fence, &chunks).await?;
        if self.draw(|random| random.percent(80)) {
            self.close(run, fence).await?;
        }
        Ok(())
    }

    async fn open(&self, run: RunId) -> Result<u64> {
        let event = self.player.begin(Deed::Open { run, fence: 0 })?;
        let request = OpenSessionRequest {
            run_id: run,
            dataset_id: self.player.setting.dataset,
            expected_bytes: 0,
        };
        let fence = self.controller.open_session(request).await?.fence;
        self.player.ack(event, Deed::Open { run, fence })?;
        Ok(fence)
    }

    /// Chunks that an earlier run sent: the repository must say that it has them.
    async fn choose_stored(&self, run: RunId, fence: u64) -> Result<Vec<Record>> {
        let stored = held(&self.player.stored).clone();
        let chosen: Vec<_> = stored
            .into_iter()
            .filter(|_| self.draw(|random| random.percent(10)))
            .collect();
        if chosen.is_empty() {
            return Ok(chosen);
        }
        let request = FindRecordsRequest {
            authority: self.player.setting.authority(run, fence)?,
            record_type: RecordType::Chunk,
            ids: chosen.iter().map(|chunk| chunk.id).collect(),
        };
        let found = self.proxy.find_records(request).await?.found;
        ensure!(
            found.iter().all(|found| *found),
            "a stored chunk is not found"
        );
        Ok(chosen)
    }

    async fn put(&self, run: RunId, fence: u64, records: Vec<Record>) -> Result<()> {
        let sent = records.iter().map(|record| Sent {
            is_node: record.record_type == RecordType::Node,
            id: record.id,
            hash: *blake3::hash(&record.stored).as_bytes(),
        });
        let deed = Deed::Put {
            records: sent.collect(),
        };
        let event = self.player.begin(deed.clone())?;
        let salt = self.draw(|random| random.bytes(32));
        let header = PackHeader {
            authority: self.player.setting.authority(run, fence)?,
            dataset_id: self.player.setting.dataset,
            salt: <[u8; 32]>::try_from(salt.as_slice())?,
        };
        let mut pack = self.proxy.put_pack(header);
        pack.send(RecordBatch { records }).await?;
        pack.finish().await?;
        self.player.ack(event, deed)
    }

    async fn propose(&self, run: RunId, fence: u64, top: &Node) -> Result<PointId> {
        let point = PointId::mint();
        let manifest = manifest(self.player.setting, run, point, top).encode()?;
        let deed = Deed::Propose {
            run,
            fence,
            point,
            manifest: manifest_hash(&manifest),
        };
        let event = self.player.begin(deed.clone())?;
        let request = ProposePointRequest {
            run_id: run,
            fence,
            manifest: manifest.into(),
        };
        self.controller.propose_point(request).await?;
        self.player.ack(event, deed)?;
        Ok(point)
    }

    async fn commit(&self, run: RunId, fence: u64, point: PointId) -> Result<()> {
        let deed = |sequence| Deed::Commit { point, sequence };
        let event = self.player.begin(deed(0))?;
        let request = CommitPointRequest {
            run_id: run,
            fence,
            point_id: point,
        };
        let sequence = self.controller.commit_point(request).await?.sequence;
        self.player.ack(event, deed(sequence))
    }

    async fn close(&self, run: RunId, fence: u64) -> Result<()> {
        let event = self.player.begin(Deed::Close { run })?;
        let request = CloseSessionRequest { run_id: run, fence };
        self.controller.close_session(request).await?;
        self.player.ack(event, Deed::Close { run })
    }

    async fn read_back(&self, run: RunId, fence: u64, chunks: &[Record]) -> Result<()> {
        let request = ReadRecordsRequest {
            authority: self.player.setting.authority(run, fence)?,
            record_type: RecordType::Chunk,
            ids: chunks.iter().map(|chunk| chunk.id).collect(),
        };
        let answers: Vec<Result<_, Fault>> =
            self.proxy.read_records(request).await?.collect().await;
        let mut read = Vec::new();
        for answer in answers {
            read.extend(
                answer?
                    .records
                    .into_iter()
                    .map(|salted| salted.record.stored),
            );
        }
        let sent = chunks.iter().map(|chunk| &chunk.stored);
        ensure!(read.iter().eq(sent), "what is read is not what was sent");
        Ok(())
    }

    fn draw<T>(&self, choose: impl FnOnce(&mut Random) -> T) -> T {
        self.player.draw(choose)
    }
}

/// Chunks that nobody has sent; to the repository any bytes are sealed ones.
fn fresh_chunks(random: &mut Random) -> Vec<Record> {
    let count = 1 + random.below(4) as u32;
    let chunk = |counter| {
        let length = 200 + random.below(6000) as usize;
        let stored = Bytes::from(random.bytes(length));
        Record {
            record_type: RecordType::Chunk,
            codec: Codec::Zstd,
            counter,
            plain_bytes: length as u32,
            id: *blake3::hash(&stored).as_bytes(),
            stored_hash: stored_hash(&stored),
            stored,
        }
    };
    (0..count).map(chunk).collect()
}

fn node(node: &Node) -> Record {
    let stored = Bytes::from(node.encode());
    Record {
        record_type: RecordType::Node,
        codec: Codec::Raw,
        counter: 0,
        plain_bytes: stored.len() as u32,
        id: *tree_id(&stored).as_bytes(),
        stored_hash: stored_hash(&stored),
        stored,
    }
}

fn manifest(setting: &Setting, run: RunId, point: PointId, top: &Node) -> Manifest {
    let root = DiskRoot {
        length: top.span(),
        cutter: "crash".into(),
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
    Manifest {
        point,
        dataset: setting.dataset,
        run,
        vm: VmId {
            vcenter: VcenterId::mint(),
            moref: "vm-1".into(),
        },
        vm_name: "vm".into(),
        vcenter_instance: String::new(),
        taken_at: Time::default(),
        consistency: Consistency::Crash,
        whole: true,
        disks: vec![disk],
        sealed: Vec::new(),
    }
}

/// The higher generation of the superblocks in `store` that can be read.
pub fn generation(store: &Path) -> Option<u64> {
    let read = |name| Superblock::decode(&std::fs::read(store.join(name)).ok()?).ok();
    let found = ["super.a", "super.b"].into_iter().filter_map(read);
    found.map(|superblock| superblock.generation).max()
}
