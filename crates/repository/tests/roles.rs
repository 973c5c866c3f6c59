//! Who may call what on a repository, tried over real TLS.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its setting too")]

use std::path::Path;
use std::time::SystemTime;

use stillwater_repository::config::{Config, StoreSettings};
use stillwater_repository::serve::Repository;
use stillwater_repository::{engine, join};
use stillwater_repository_api::FILE_DESCRIPTOR_SET;
use stillwater_rpc::{Ca, ClientCertificates, Identity};
use stillwater_store::Store;
use stillwater_testkit::identity;
use stillwater_testkit::matrix::{self, Subject};
use stillwater_types::{ClusterId, Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const CALLERS: &str = "\
DatasetService/CreateDataset: controller
DatasetService/ListDatasets: controller
PointService/ProposePoint: controller
PointService/CommitPoint: controller
PointService/ListPoints: controller
PointService/GetPoint: controller
PointService/LockPoint: controller
PointService/DeletePoint: controller
RecordService/FindRecords: proxy
RecordService/PutPack: proxy
RecordService/ReadRecords: proxy
RepositoryService/GetRepository: controller
RetentionService/GetRetention: controller
RetentionService/SubmitStatement: controller
SessionService/OpenSession: controller
SessionService/RenewSession: controller
SessionService/CloseSession: controller
UpkeepService/StartTask: controller
UpkeepService/GetTask: controller
UpkeepService/WatchTask: controller
UpkeepService/CancelTask: controller
";

fn config(state_dir: &Path) -> Config {
    Config {
        state_dir: state_dir.to_owned(),
        // Nobody answers there, and a repository works on without its controller.
        controller: Some("127.0.0.1:1".into()),
        store: StoreSettings {
            allow_volatile: true,
            ..StoreSettings::default()
        },
        ..Config::default()
    }
}

/// What a repository has on its disk after it joined.
fn settle(config: &Config, identity: &Identity) {
    let dir = config.store_dir();
    std::fs::create_dir(&dir).unwrap();
    let environment = engine::environment(&dir).unwrap();
    Store::init(&environment, &config.options(), join::owner(identity)).unwrap();
    std::fs::write(config.state_dir.join("grant-key"), "00".repeat(32)).unwrap();
    identity.save(&config.identity_dir()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_and_nobody_reach_what_they_should_and_nothing_else() {
    let authority = Ca::create(ClusterId::mint(), SystemTime::now()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    settle(&config, &identity(&authority, Role::Repository));
    let repository = Repository::open(config).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let drain = CancellationToken::new();
    let serving = tokio::spawn(repository.serve(listener, drain.clone()));
    let subject = Subject {
        address: &address,
        role: Role::Repository,
        authority: &authority,
        certificates: ClientCertificates::Required,
        descriptors: FILE_DESCRIPTOR_SET,
    };
    matrix::check(&subject, CALLERS).await;
    drain.cancel();
    serving.await.unwrap().unwrap();
}
