//! Repositories of many small chunks, made quickly: valid packs of noise, written without a session.

#![allow(
    dead_code,
    unused_imports,
    reason = "each benchmark and test that includes this uses its part"
)]

use std::path::Path;
use std::sync::Arc;

use stillwater_format::commit::{AdminKey, Dataset};
use stillwater_store::vfs::{RealFs, Vfs};
use stillwater_store::{
    Clock, Environment, Identity, Index, MemoryCatalogue, Options, Rng, Store, SystemClock,
    SystemRng, Verifier,
};
use stillwater_types::{ClusterId, DatasetId, NodeId};

#[path = "packs.rs"]
mod packs;

pub use packs::chunk;

pub const DATASET: DatasetId = DatasetId::from_bytes([0xda; 16]);

pub const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    ..Options::DEFAULT
};

/// Makes an empty repository with one dataset.
pub fn init(dir: &Path, index: Arc<dyn Index>) {
    Store::init(&environment(dir, Arc::clone(&index)), &OPTIONS, IDENTITY).expect("a repository");
    let store = Store::open(environment(dir, index), OPTIONS).expect("an open repository");
    let dataset = Dataset {
        id: DATASET,
        label: "synthetic".into(),
        wrapped_key: vec![1],
    };
    store.create_dataset(dataset).expect("a dataset");
}

const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId::from_bytes([0xd2; 16]),
};

/// What a store on this machine takes, with the catalogue in memory.
pub fn environment(dir: &Path, index: Arc<dyn Index>) -> Environment {
    Environment {
        vfs: Arc::new(RealFs::open(dir).expect("a directory")),
        clock: Arc::new(SystemClock::open().expect("a boot id")) as Arc<dyn Clock>,
        rng: Arc::new(SystemRng) as Arc<dyn Rng>,
        catalogue: Box::new(MemoryCatalogue::default()),
        index,
        verifier: Arc::new(Nobody),
    }
}

/// Knows no administrator.
struct Nobody;

impl Verifier for Nobody {
    fn verify(&self, _: &AdminKey, _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
}

/// Writes chunks `0..chunks` into packs of `per_pack`. Nothing is synced.
pub fn fill(dir: &Path, chunks: u64, per_pack: u64) {
    let vfs = RealFs::open(dir).expect("a directory");
    for (path, bytes) in packs::packs(DATASET, chunks, per_pack) {
        let file = vfs.create_new(&path).expect("a new pack");
        file.write_at(&bytes, 0).expect("room for a pack");
    }
}
