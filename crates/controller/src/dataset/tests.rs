use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use stillwater_catalog::SystemClock;
use stillwater_controller_api::NodeLoad;
use stillwater_repository_api as repository_api;
use stillwater_seal::{KeyEncryptionKey, RecoveryKey, WrappedDatasetKey};
use stillwater_types::{PointId, Role};

use super::*;
use crate::event::Actor;
use crate::memory::Memory;
use crate::node::{Directory, NodeEvent};
use crate::run::Repositories;

/// A repository that refuses the first calls and keeps what it is told then.
#[derive(Default)]
struct Fake {
    refusals: AtomicU32,
    told: std::sync::Mutex<Vec<repository_api::Dataset>>,
}

fn not_here<T>() -> Result<T, Fault> {
    Err(Fault::new(Reason::NotSupported, "not part of this test"))
}

#[async_trait]
impl Repositories for Fake {
    async fn create_dataset(
        &self,
        _: NodeId,
        dataset: repository_api::Dataset,
    ) -> Result<(), Fault> {
        if self.refusals.load(Ordering::SeqCst) > 0 {
            self.refusals.fetch_sub(1, Ordering::SeqCst);
            return Err(Fault::new(Reason::RepositoryUnreachable, "planned"));
        }
        self.told.lock().unwrap().push(dataset);
        Ok(())
    }
    async fn open_session(
        &self,
        _: NodeId,
        _: repository_api::OpenSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        not_here()
    }
    async fn renew_session(
        &self,
        _: NodeId,
        _: repository_api::RenewSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        not_here()
    }
    async fn close_session(
        &self,
        _: NodeId,
        _: repository_api::CloseSessionRequest,
    ) -> Result<(), Fault> {
        not_here()
    }
    async fn propose_point(
        &self,
        _: NodeId,
        _: repository_api::ProposePointRequest,
    ) -> Result<(), Fault> {
        not_here()
    }
    async fn commit_point(
        &self,
        _: NodeId,
        _: repository_api::CommitPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        not_here()
    }
    async fn list_points(
        &self,
        _: NodeId,
        _: Option<String>,
    ) -> Result<repository_api::ListPointsResponse, Fault> {
        not_here()
    }
    async fn get_point(
        &self,
        _: NodeId,
        _: PointId,
    ) -> Result<repository_api::GetPointResponse, Fault> {
        not_here()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_gets_one_dataset_whose_key_only_recovery_and_controller_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || Memory::open(&path, Arc::new(SystemClock)));
    let memory = opened.await.unwrap().unwrap();
    let node = NodeId::mint();
    let joined = NodeEvent::Joined {
        node,
        role: Role::Repository,
        name: "repo".into(),
        address: "127.0.0.1:1".into(),
        certificate_expires_at: Timestamp::MAX,
    };
    memory.append(Actor::Console, joined).await.unwrap();
    let nodes = Directory::new(memory.clone());
    nodes.note(node, "1".into(), NodeLoad::default(), None);
    let recovery = RecoveryKey::generate().unwrap();
    let fake = Arc::new(Fake {
        refusals: AtomicU32::new(2),
        ..Fake::default()
    });
    let keeper = Keeper {
        memory: memory.clone(),
        nodes: nodes.clone(),
        repositories: fake.clone(),
        secrets: Secrets::new(KeyEncryptionKey::generate().unwrap()),
        recovery: recovery.public().unwrap(),
    };
    let repository = nodes.member(node).unwrap();
    for _ in 0..2 {
        keeper.keep(&repository).await.unwrap_err();
        let state = memory.state();
        assert!(
            !state.datasets.of(node).unwrap().is_ready,
            "not before the repository has it"
        );
    }
    for _ in 0..2 {
        keeper.keep(&repository).await.unwrap();
    }
    let state = memory.state();
    let dataset = state.datasets.of(node).unwrap();
    assert!(dataset.is_ready);
    let told = fake.told.lock().unwrap();
    assert_eq!(told.len(), 1, "a ready dataset is not made again");
    assert_eq!(told[0].dataset_id, dataset.dataset);
    let wrapped = WrappedDatasetKey::from_slice(&told[0].wrapped_key).unwrap();
    let unwrapped = recovery.unwrap(dataset.dataset, &wrapped).unwrap();
    let opened = dataset.open_key(&keeper.secrets).unwrap();
    assert_eq!(unwrapped.expose(), opened.expose());
    let other = Secrets::new(KeyEncryptionKey::generate().unwrap());
    assert_eq!(
        dataset.open_key(&other).unwrap_err().reason,
        Reason::SecretUnreadable
    );
}
