//! Disks and a repository in memory, with faults on order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use stillwater_disk::{DiskReader, DiskRewriter, DiskWriter, Error as DiskError, Way};
use stillwater_format::pack::stored_hash;
use stillwater_proxy_api as api;
use stillwater_repository_api::{PutPackResponse, Record, RecordType, SaltedRecord};
use stillwater_types::{DatasetId, Extent, Fault, NodeId, PackId, Reason, RunId};
use tokio::sync::{Notify, watch};

use super::{Content, PackStream, RecordStore, Target};
use crate::error::Error;
use crate::reach::Reach;

pub(crate) const PATH: &str = "[ds] web/web.vmdk";

/// A frozen disk that counts how many of its bytes are held by somebody.
pub(crate) struct FakeDisk {
    pub bytes: Vec<u8>,
    /// Reads that touch this byte fail.
    pub broken_at: Option<u64>,
    /// From this many reads on, other bytes come.
    pub thaws_after: usize,
    /// Reads answer this many bytes too few.
    pub short_by: usize,
    pub reads: Mutex<Vec<Extent>>,
    pub held: Arc<watch::Sender<(usize, usize)>>,
}

impl FakeDisk {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            broken_at: None,
            thaws_after: usize::MAX,
            short_by: 0,
            reads: Mutex::default(),
            held: Arc::new(watch::Sender::new((0, 0))),
        }
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.reads
            .lock()
            .unwrap()
            .iter()
            .map(|extent| extent.length)
            .sum()
    }

    /// Most bytes that were held at once.
    pub(crate) fn peak(&self) -> usize {
        self.held.borrow().1
    }

    /// Waits until nobody holds a byte of the disk.
    pub(crate) async fn let_go(&self) {
        self.held
            .subscribe()
            .wait_for(|held| held.0 == 0)
            .await
            .unwrap();
    }
}

struct Held(Vec<u8>, Arc<watch::Sender<(usize, usize)>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.send_modify(|held| held.0 -= self.0.len());
    }
}

#[async_trait]
impl DiskReader for FakeDisk {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read(&self, extent: Extent) -> Result<Bytes, DiskError> {
        tokio::task::yield_now().await;
        let count = {
            let mut reads = self.reads.lock().unwrap();
            reads.push(extent);
            reads.len()
        };
        if self
            .broken_at
            .is_some_and(|at| (extent.start..extent.end()).contains(&at))
        {
            let source = io::Error::other("unreadable sector");
            return Err(DiskError::Transport {
                path: PATH.into(),
                source,
            });
        }
        let range = extent.start as usize..extent.end() as usize - self.short_by;
        let mut bytes = self.bytes[range].to_vec();
        if count > self.thaws_after {
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
        }
        self.held.send_modify(|held| {
            held.0 += bytes.len();
            held.1 = held.1.max(held.0);
        });
        Ok(Bytes::from_owner(Held(bytes, Arc::clone(&self.held))))
    }
}

/// What became of a new disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub bytes: Vec<u8>,
    pub finished: bool,
    pub aborted: bool,
}

/// A new disk in memory.
pub(crate) struct FakeWriter {
    pub written: Arc<Mutex<Written>>,
    pub length: u64,
    pub position: u64,
    pub broken_at: Option<u64>,
}

impl FakeWriter {
    pub(crate) fn new(length: u64) -> (Self, Arc<Mutex<Written>>) {
        let written = Arc::new(Mutex::new(Written::default()));
        let writer = Self {
            written: Arc::clone(&written),
            length,
            position: 0,
            broken_at: None,
        };
        (writer, written)
    }
}

#[async_trait]
impl DiskWriter for FakeWriter {
    fn length(&self) -> u64 {
        self.length
    }

    async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        assert!(offset >= self.position, "writes must ascend");
        if self.broken_at.is_some_and(|at| offset >= at) {
            return Err(DiskError::DatastoreFull { path: PATH.into() });
        }
        let mut written = self.written.lock().unwrap();
        written.bytes.resize(offset as usize, 0);
        written.bytes.extend_from_slice(&bytes);
        self.position = written.bytes.len() as u64;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), DiskError> {
        let mut written = self.written.lock().unwrap();
        written.bytes.resize(self.length as usize, 0);
        written.finished = true;
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<(), DiskError> {
        self.written.lock().unwrap().aborted = true;
        Ok(())
    }
}

/// A moment at which the repository may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    Find,
    Send,
    /// Before anything of the pack is durable.
    Finish,
    /// After all of it is durable, so that only the answer is lost.
    Answer,
    Read,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub records: HashMap<[u8; 32], SaltedRecord>,
    /// Records of durable packs, those that were stored already included.
    pub put: usize,
    pub packs: usize,
    pub salts: HashSet<[u8; 32]>,
    /// What happens at the next moments of each kind; `None` is no fault.
    pub plan: HashMap<Moment, VecDeque<Option<Reason>>>,
}

/// A repository in memory.
#[derive(Default)]
pub(crate) struct FakeStore {
    pub kept: Arc<Mutex<Kept>>,
    /// When set, no send goes on before it is notified.
    pub gate: Option<Arc<Notify>>,
    /// Changes what `find` answers.
    pub forget_last_find: bool,
}

impl FakeStore {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    pub(crate) fn plan(&self, moment: Moment, faults: impl IntoIterator<Item = Option<Reason>>) {
        self.kept()
            .plan
            .insert(moment, faults.into_iter().collect());
    }

    /// Changes one stored record.
    pub(crate) fn tamper(&self, id: &[u8; 32], change: impl FnOnce(&mut SaltedRecord)) {
        change(self.kept().records.get_mut(id).unwrap());
    }

    pub(crate) fn ids(&self, kind: RecordType) -> Vec<[u8; 32]> {
        let kept = self.kept();
        let of_kind = kept
            .records
            .values()
            .filter(|record| record.record.record_type == kind);
        of_kind.map(|record| record.record.id).collect()
    }
}

fn strike(kept: &Mutex<Kept>, moment: Moment) -> Result<(), Fault> {
    let mut kept = kept.lock().unwrap();
    match kept
        .plan
        .get_mut(&moment)
        .and_then(VecDeque::pop_front)
        .flatten()
    {
        Some(reason) => Err(Fault::new(reason, format!("planned at {moment:?}"))),
        None => Ok(()),
    }
}

#[async_trait]
impl RecordStore for FakeStore {
    async fn find(&self, _: RecordType, ids: Vec<[u8; 32]>) -> Result<Vec<bool>, Fault> {
        assert!(ids.len() <= stillwater_repository_api::FIND_IDS_MAX);
        strike(&self.kept, Moment::Find)?;
        let kept = self.kept();
        let mut found: Vec<bool> = ids.iter().map(|id| kept.records.contains_key(id)).collect();
        if self.forget_last_find {
            found.pop();
        }
        Ok(found)
    }

    fn begin_pack(&self, salt: [u8; 32]) -> Box<dyn PackStream> {
        assert!(
            self.kept().salts.insert(salt),
            "a salt must never come twice"
        );
        let (kept, gate) = (Arc::clone(&self.kept), self.gate.clone());
        Box::new(FakePack {
            kept,
            gate,
            salt,
            records: Vec::new(),
            broken: false,
        })
    }

    async fn read(
        &self,
        _: RecordType,
        ids: Vec<[u8; 32]>,
    ) -> Result<BoxStream<'static, Result<Vec<SaltedRecord>, Fault>>, Fault> {
        assert!(ids.len() <= stillwater_repository_api::READ_IDS_MAX);
        strike(&self.kept, Moment::Read)?;
        let kept = self.kept();
        let record = |id: &[u8; 32]| {
            kept.records
                .get(id)
                .cloned()
                .map(|record| vec![record])
                .ok_or_else(|| Fault::new(Reason::ChunkNotFound, "no such record"))
        };
        let answers: Vec<_> = ids.iter().map(record).collect();
        Ok(stream::iter(answers).boxed())
    }
}

struct FakePack {
    kept: Arc<Mutex<Kept>>,
    gate: Option<Arc<Notify>>,
    salt: [u8; 32],
    records: Vec<Record>,
    broken: bool,
}

#[async_trait]
impl PackStream for FakePack {
    async fn send(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        assert!(!self.broken, "a broken stream is not used again");
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        tokio::task::yield_now().await;
        strike(&self.kept, Moment::Send).inspect_err(|_| self.broken = true)?;
        self.records.extend(records);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<PutPackResponse, Fault> {
        assert!(!self.broken, "a broken stream is not used again");
        tokio::task::yield_now().await;
        strike(&self.kept, Moment::Finish)?;
        let counters: HashSet<u32> = self
            .records
            .iter()
            .filter(|record| record.record_type == RecordType::Chunk)
            .map(|record| record.counter)
            .collect();
        let chunks = self
            .records
            .iter()
            .filter(|record| record.record_type == RecordType::Chunk)
            .count();
        assert_eq!(
            counters.len(),
            chunks,
            "a counter must never come twice under one salt"
        );
        {
            let mut kept = self.kept.lock().unwrap();
            kept.packs += 1;
            kept.put += self.records.len();
            for record in self.records {
                assert_eq!(stored_hash(&record.stored), record.stored_hash);
                let salt = (record.record_type == RecordType::Chunk).then_some(self.salt);
                kept.records
                    .entry(record.id)
                    .or_insert(SaltedRecord { record, salt });
            }
        }
        strike(&self.kept, Moment::Answer)?;
        let pack_id = PackId::from_bytes(self.salt[..16].try_into().unwrap());
        Ok(PutPackResponse {
            pack_id,
            stored_bytes: 0,
            known_count: 0,
        })
    }
}

/// Bytes that do not compress and are the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A disk with noise, text, holes and repeats, and a length off every grid but the sector's.
pub(crate) fn disk(seed: u64) -> Vec<u8> {
    let text = b"the quick brown fox jumps over the lazy dog\n".repeat(20_000);
    let repeated = noise(seed ^ 1, 300_000);
    [
        noise(seed, 700_000),
        vec![0; 1_500_000],
        repeated.clone(),
        text,
        vec![0; 8_000],
        noise(seed ^ 2, 1_200_000),
        vec![0; 900_000],
        vec![0; 4096 - (3_280_000 + 1_208_000) % 4096],
        repeated,
        vec![0; 512 * 9],
    ]
    .concat()
}

/// Both ends in memory.
pub(crate) struct FakeReach {
    pub disk: Arc<FakeDisk>,
    pub store: Arc<FakeStore>,
    pub written: Mutex<Vec<Arc<Mutex<Written>>>>,
    pub refuse: Option<Reason>,
    /// The disk that is written in place.
    pub content: Arc<Mutex<Rewritten>>,
}

impl FakeReach {
    pub(crate) fn new(disk: FakeDisk, store: FakeStore) -> Arc<Self> {
        let (disk, store) = (Arc::new(disk), Arc::new(store));
        Arc::new(Self {
            disk,
            store,
            written: Mutex::default(),
            refuse: None,
            content: Arc::default(),
        })
    }
}

#[async_trait]
impl Reach for FakeReach {
    fn store(&self, _: &api::Store) -> Result<Arc<dyn RecordStore>, Fault> {
        match self.refuse {
            Some(reason) => Err(Fault::new(reason, "refused")),
            None => Ok(self.store.clone()),
        }
    }

    fn way(&self, disk: &api::Disk, _: u64) -> Result<Box<dyn Way>, Error> {
        let api::Disk::Folder(folder) = disk else {
            return Err(Error::Order("the fake reaches folders only"));
        };
        assert_ne!(folder.path, "panic", "as ordered");
        Ok(Box::new(FakeWay {
            path: folder.path.clone(),
            disk: self.disk.clone(),
        }))
    }

    async fn target(&self, disk: &api::Disk, length: u64) -> Result<Target, Error> {
        let api::Disk::Folder(folder) = disk else {
            return Err(Error::Order("the fake reaches folders only"));
        };
        let (writer, written) = FakeWriter::new(length);
        self.written.lock().unwrap().push(written);
        Ok(Target {
            name: folder.path.clone(),
            writer: Box::new(writer),
        })
    }

    async fn content(&self, _: &api::Disk, _: u64) -> Result<Content, Error> {
        Ok(Content {
            name: PATH.into(),
            disk: Box::new(FakeRewriter(self.content.clone())),
        })
    }
}

/// A disk with content, in memory.
#[derive(Default)]
pub(crate) struct Rewritten {
    pub bytes: Vec<u8>,
    pub writes: Vec<Extent>,
    /// So many writes go well, and no more.
    pub breaks_after: Option<usize>,
    /// Writes that touch this byte put another there.
    pub rots_at: Option<u64>,
    pub finished: bool,
    pub aborted: bool,
}

impl Rewritten {
    pub(crate) fn written_bytes(&self) -> u64 {
        self.writes.iter().map(|extent| extent.length).sum()
    }
}

pub(crate) struct FakeRewriter(pub Arc<Mutex<Rewritten>>);

#[async_trait]
impl DiskRewriter for FakeRewriter {
    fn length(&self) -> u64 {
        self.0.lock().unwrap().bytes.len() as u64
    }

    async fn read(&self, extent: Extent) -> Result<Bytes, DiskError> {
        tokio::task::yield_now().await;
        let disk = self.0.lock().unwrap();
        let range = extent.start as usize..extent.end() as usize;
        Ok(Bytes::copy_from_slice(&disk.bytes[range]))
    }

    async fn write(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        tokio::task::yield_now().await;
        let mut disk = self.0.lock().unwrap();
        if disk
            .breaks_after
            .is_some_and(|most| disk.writes.len() >= most)
        {
            return Err(DiskError::DatastoreFull { path: PATH.into() });
        }
        let extent = Extent::new(offset, bytes.len() as u64);
        disk.writes.push(extent);
        disk.bytes[offset as usize..extent.end() as usize].copy_from_slice(&bytes);
        if let Some(at) = disk
            .rots_at
            .filter(|at| (offset..extent.end()).contains(at))
        {
            disk.bytes[at as usize] ^= 1;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), DiskError> {
        self.0.lock().unwrap().finished = true;
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<(), DiskError> {
        self.0.lock().unwrap().aborted = true;
        Ok(())
    }
}

/// A way that leads nowhere if its path says so.
struct FakeWay {
    path: String,
    disk: Arc<FakeDisk>,
}

#[async_trait]
impl Way for FakeWay {
    fn name(&self) -> String {
        self.path.clone()
    }

    async fn open(&self) -> stillwater_disk::Result<Arc<dyn DiskReader>> {
        match self.path.starts_with("closed") {
            true => Err(stillwater_disk::Error::NotFound {
                path: self.path.clone(),
            }),
            false => Ok(self.disk.clone()),
        }
    }
}

/// What the controller says of the repository.
pub(crate) fn order_store() -> api::Store {
    api::Store {
        repository_node_id: NodeId::mint(),
        address: "repository:7445".into(),
        dataset_id: DatasetId::from_bytes([7; 16]),
        dataset_key: api::DatasetKey::new([5; 32]),
        grant: Bytes::new(),
        run_id: RunId::mint(),
        fence: 1,
    }
}

/// What the controller says of a disk.
pub(crate) fn order_disk(path: &str) -> api::Disk {
    api::Disk::Folder(api::FolderDisk {
        address: "vcenter:443".into(),
        cookie: String::from("session").into(),
        trust: api::FolderTrust::CertificateSha256([0; 32]),
        datacenter: "/DC0".into(),
        path: path.into(),
    })
}
